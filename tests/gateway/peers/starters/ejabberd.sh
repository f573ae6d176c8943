#!/usr/bin/env bash
# ejabberd with mod_mqtt alone, for one user: ejabberd.sh DIRECTORY USER PASSWORD PORT. Only on loopback, and no node that others
# could reach; ends when standard input does.
set -euo pipefail
directory=$1 user=$2 password=$3 mqtt=$4

beams=$(compgen -G '/usr/lib/*/ejabberd-*/ebin' | head -n 1)

cat >"$directory/ejabberd.yml" <<CONF
hosts: [localhost]
loglevel: warning
auth_method: internal
listen:
  - port: $mqtt
    ip: "127.0.0.1"
    module: mod_mqtt
    backlog: 100
modules:
  mod_mqtt:
    max_queue: infinity
    session_expiry: 1 day
CONF
export HOME=$directory EJABBERD_CONFIG_PATH=$directory/ejabberd.yml EJABBERD_LOG_PATH=$directory/log
. "$(dirname -- "${BASH_SOURCE[0]}")/until_end_of_input.sh"
run erl -noinput -pa "$beams" -mnesia dir "\"$directory/data\"" \
    -eval "{ok, _} = application:ensure_all_started(ejabberd), ok = ejabberd_auth:try_register(<<\"$user\">>, <<\"localhost\">>, <<\"$password\">>)"
until_end_of_input
