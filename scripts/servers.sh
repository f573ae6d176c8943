# The servers that tests need, and the end of everything a script has started. To be sourced after lib.sh.

# The `-core` packages are the servers' programs without the service around them.
TEST_PACKAGES=(mosquitto mosquitto-clients mariadb-server-core mariadb-client-core)
# Debian has no package of this server's programs alone; lib.sh sees to it that nothing is started.
TEST_PACKAGES+=(postgresql)
# The browser for the console.
TEST_PACKAGES+=(chromium)
# Disks that tests fill and cut the power of, and the patches that break the code on purpose.
TEST_PACKAGES+=(mount e2fsprogs git)

WORK=
SERVERS=()
POSTGRES=
STEP=

clean_up() {
    local status=$?
    trap '' INT TERM
    trap - EXIT
    # A step is a process group of its own: cargo, the test binaries and the servers that tests have started.
    if [ -n "$STEP" ]; then
        kill -TERM -- "-$STEP" 2>/dev/null || true
        wait "$STEP" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -n "$WORK" ]; then
        tail -n 40 "$WORK/mariadbd.log" "$WORK/postgres.log" "$WORK/mosquitto.log" >&2 2>/dev/null || true
    fi
    local pid
    # By SIGTERM it would wait for whoever is still connected.
    [ -z "$POSTGRES" ] || kill -INT "$POSTGRES" 2>/dev/null || true
    for pid in "${SERVERS[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in "${SERVERS[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    # Last, so that a reader need not search the servers' logs for them.
    sum_up
    local ending
    [ "$status" -eq 0 ] && ending="all is well$(skips)" || ending="FAILED (exit code $status)"
    [ -z "$WORK" ] || rm -rf -- "$WORK" || true
    say "$ending"
    exit "$status"
}

start_mariadbd() {
    local port=$1
    # A server that starts deletes temporary tables of others in the same tmpdir.
    local common=(--no-defaults "--datadir=$WORK/mariadb" "--tmpdir=$TMPDIR" "--user=$(id -un)")
    mariadb-install-db "${common[@]}" --auth-root-authentication-method=normal --skip-test-db --force \
        >"$WORK/mariadb-install.log" 2>&1 || {
        cat "$WORK/mariadb-install.log" >&2
        die "mariadb-install-db failed"
    }
    # Without name resolution nobody is "localhost" over TCP, so root gets an account for the address.
    echo "CREATE USER IF NOT EXISTS root@127.0.0.1; GRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION;" \
        >"$WORK/mariadb-init.sql"
    mariadbd "${common[@]}" --bind-address=127.0.0.1 "--port=$port" "--socket=$WORK/mariadb.sock" \
        "--pid-file=$WORK/mariadb.pid" --skip-name-resolve --max-connections=500 \
        "--init-file=$WORK/mariadb-init.sql" >"$WORK/mariadbd.log" 2>&1 </dev/null &
    SERVERS+=($!)
    wait_for_port "$port" $! || die "mariadbd does not come up"
    export TEST_MYSQL_URL="mysql://root@127.0.0.1:$port"
}

start_postgres() {
    local port=$1 programs as_user=() owner data="$WORK/postgres"
    programs=$(postgres_programs) || die "there is no PostgreSQL server"
    mkdir "$data"
    # It refuses to be root; the package has made a user for it, who has to get at its directory.
    if [ "$(id -u)" -eq 0 ]; then
        owner=$(id -un postgres 2>/dev/null || echo nobody)
        chown "$owner" "$data"
        as_user=(setpriv "--reuid=$owner" "--regid=$(id -gn "$owner")" --init-groups)
    fi
    "${as_user[@]}" "$programs/initdb" --pgdata="$data" --username=root --encoding=UTF8 --locale=C.UTF-8 --auth=trust \
        >"$WORK/postgres-initdb.log" 2>&1 || {
        cat "$WORK/postgres-initdb.log" >&2
        die "initdb failed"
    }
    # Whom tests create has a password, and it counts.
    cat >"$data/pg_hba.conf" <<CONF
host all root 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
CONF
    (cd -- "$data" && exec "${as_user[@]}" "$programs/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c max_connections=500) >"$WORK/postgres.log" 2>&1 </dev/null &
    POSTGRES=$!
    SERVERS+=("$POSTGRES")
    wait_for_port "$port" "$POSTGRES" || die "PostgreSQL does not come up"
    export TEST_POSTGRES_URL="postgres://root@127.0.0.1:$port"
}

start_mosquitto() {
    local port=$1
    # 0 queued messages means no limit: by default mosquitto drops beyond 1,000, and tests count every message.
    cat >"$WORK/mosquitto.conf" <<CONF
listener $port 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
max_inflight_messages 1000
log_type error
log_type warning
log_type notice
log_type subscribe
log_type unsubscribe
CONF
    mosquitto -c "$WORK/mosquitto.conf" >"$WORK/mosquitto.log" 2>&1 </dev/null &
    SERVERS+=($!)
    wait_for_port "$port" $! || die "mosquitto does not come up"
    export TEST_MQTT_PORT=$port
    # Its lines tell tests when a subscription is in force.
    export TEST_MQTT_LOG="$WORK/mosquitto.log"
}

# Runs a command so that a signal ends this script at once and not when the command happens to be done.
step() {
    printf '\n=== %s\n' "$*" >&2
    set -m
    "$@" </dev/null &
    STEP=$!
    set +m
    local status=0
    wait "$STEP" || status=$?
    STEP=
    return "$status"
}

# begin: what is needed is installed, and there is a directory for what is left behind. From here on everything ends
# with the script.
begin() {
    need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
    # mosquitto and mariadbd live where only root's PATH leads.
    PATH="$PATH:/usr/sbin:/sbin"
    cd -- "$ROOT"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # Not under a long TMPDIR: a socket's path is at most 107 bytes.
    WORK=$(mktemp -d /tmp/mqtt-gateway-test.XXXXXX)
    # Servers of single tests run as other users, for root.
    chmod 711 "$WORK"
    # What tests that were cut off leave behind goes with the rest.
    export TMPDIR="$WORK/tmp"
    mkdir "$TMPDIR"
    SKIPPED_CHECKS=$WORK/skipped
}

# A server that is named is used instead: the tests make databases and users on it.
start_servers() {
    if [ -n "${TEST_MYSQL_URL:-}" ]; then say "using the MariaDB or MySQL of TEST_MYSQL_URL"; else start_mariadbd "$(free_port)"; fi
    if [ -n "${TEST_POSTGRES_URL:-}" ]; then say "using the PostgreSQL of TEST_POSTGRES_URL"; else start_postgres "$(free_port)"; fi
    start_mosquitto "$(free_port)"
}

# recorded COMMAND…: its output goes to where `sum_up` finds results as well.
recorded() { "$@" 2>&1 | tee -a "$WORK/results.log"; }

# need_a_test NAME…: fails if the names were given and no test was run.
need_a_test() {
    [ $# -eq 0 ] || grep -qE '^test .+ \.\.\. (ok|FAILED)$' "$WORK/results.log" || die "no test has one of these in its name: $*"
}

# The result lines of what was recorded, and after them what has failed and why.
sum_up() {
    [ -s "$WORK/results.log" ] || return 0
    printf '\n=== results\n'
    grep -E '^test result: |^[0-9]+ (passed|failed).* in [0-9.]+s' "$WORK/results.log" || true
    grep -E '^test .* \.\.\. FAILED$|^error(:|\[)|^(FAILED|ERROR) ' "$WORK/results.log" || true
    awk '/^---- .* stdout ----$/ { print; left = 0; next }
        / panicked at / { left = 20 }
        left-- > 0 { print substr($0, 1, 500) }
        /^failures:$/ { left = 0 }' "$WORK/results.log"
}
