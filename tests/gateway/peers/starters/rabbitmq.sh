#!/usr/bin/env bash
# RabbitMQ with its MQTT plugin, for one user: rabbitmq.sh DIRECTORY USER PASSWORD PORT…, of which the first is for MQTT and
# three more for itself. Only on loopback, as nobody's cluster; all of it ends when standard input does.
set -euo pipefail
directory=$1 user=$2 password=$3 mqtt=$4 amqp=$5 distribution=$6 epmd=$7

# Debian's wrapper in /usr/sbin would use the machine's own node.
server=$(compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server' | head -n 1)

mkdir "$directory/data" "$directory/log"
echo '[rabbitmq_mqtt].' >"$directory/plugins"
cat >"$directory/rabbitmq.conf" <<CONF
listeners.tcp.default = 127.0.0.1:$amqp
mqtt.listeners.tcp.default = 127.0.0.1:$mqtt
mqtt.allow_anonymous = false
default_user = $user
default_pass = $password
CONF
export HOME=$directory ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$epmd
export RABBITMQ_NODENAME="peer$mqtt@localhost" RABBITMQ_DIST_PORT=$distribution
export RABBITMQ_MNESIA_BASE=$directory/data RABBITMQ_LOG_BASE=$directory/log
export RABBITMQ_CONFIG_FILE=$directory/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$directory/plugins
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'

. "$(dirname -- "${BASH_SOURCE[0]}")/until_end_of_input.sh"
# Otherwise the node starts one of its own, which would outlive it.
run epmd
run "$server"
until_end_of_input
