# What the scripts share. To be sourced by bash; runs nothing by itself.

# Where the clone is, whatever the caller's working directory.
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Features of all test builds: with the same ones everywhere nothing is built twice.
FEATURES=failpoints,bench-internals

# help_if_asked "$@": what the head of the script says, and that is all.
help_if_asked() {
    case ${1:-} in -h | --help) ;; *) return 0 ;; esac
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
}

# What building takes: paho's C library is compiled by cmake.
# libc6-dev is what gcc only recommends, and nothing links without.
BUILD_PACKAGES=(gcc libc6-dev cmake make)

# Rust is the one thing that is not installed for the user: how it gets on a machine is theirs to choose.
need_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' "$ROOT/Cargo.toml" | head -n 1)
    # rustup's directory is often in the login shell's PATH only.
    if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"
    fi
    if ! command -v cargo >/dev/null || ! have=$(rustc --version 2>/dev/null | cut -d ' ' -f 2); then
        rust_is_missing "there is no Rust toolchain" "$wanted"
    fi
    if [ "$(printf '%s\n' "$wanted" "${have%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
        rust_is_missing "Rust $have is too old" "$wanted"
    fi
}

rust_is_missing() {
    die "$1; Rust $2 or later is needed. With rustup: 'rustup update stable'. Without:
    apt-get install curl && curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

# need_rust_tools NAME…: cargo's subcommands that a minimal toolchain lacks.
need_rust_tools() {
    local tool
    for tool in "$@"; do
        cargo "$tool" --version >/dev/null 2>&1 ||
            die "cargo $tool is missing. With rustup: 'rustup component add rustfmt clippy'."
    done
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Whether the machine has what a package gives, be it from elsewhere (pkgconf, a build of one's own).
is_there() {
    local command
    case $1 in
        mosquitto-clients) command=mosquitto_pub ;;
        mariadb-server-core) command=mariadb-install-db ;;
        mariadb-client-core) command=my_print_defaults ;;
        ejabberd) command=ejabberdctl ;;
        prometheus) command=promtool ;;
        python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null && return ;;
        postgresql) postgres_programs >/dev/null && return ;;
        *) command=$1 ;;
    esac
    { [ -n "${command:-}" ] && PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null; } || is_installed "$1"
}

# The directory of PostgreSQL's newest server on this machine; Debian has none of its programs in a PATH.
postgres_programs() {
    local initdb
    initdb=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1) || true
    [ -n "$initdb" ] || initdb=$(command -v initdb) || return
    dirname -- "$initdb"
}

# need_packages NAME…: installs Debian packages that are not there; does nothing, and needs no network, when all are.
need_packages() {
    local package missing=()
    for package in "$@"; do
        is_there "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing, by Debian's names: ${missing[*]}"

    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "missing: ${missing[*]}. There is no sudo; as root run: apt-get install ${missing[*]}"
        as_root=(sudo)
        say "sudo is asked only to install: ${missing[*]}"
    else
        say "installing: ${missing[*]}"
    fi
    install_without_starting "${missing[@]}" ||
        die "could not install; as root run: apt-get install ${missing[*]}"
}

# Debian starts a daemon when it is installed. The suite runs its own servers and wants no others, so a unit that is
# about to come is masked meanwhile and left disabled. One that was there before is not in the list and not touched.
install_without_starting() {
    local package units=() status=0
    if [ -d /run/systemd/system ]; then
        for package in "$@"; do
            case $package in
                mosquitto | prometheus) units+=("$package.service") ;;
                # Erlang brings a daemon by which its nodes find each other.
                rabbitmq-server | ejabberd) units+=("$package.service" epmd.service epmd.socket) ;;
            esac
        done
    fi
    [ ${#units[@]} -eq 0 ] || "${as_root[@]}" systemctl mask --runtime --quiet "${units[@]}"
    "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
    case " $* " in *" postgresql "*) make_no_cluster ;; esac
    # RUNLEVEL=1 says the same to machines without systemd.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2 || status=$?
    case " $* " in *" postgresql "*) make_clusters_again ;; esac
    if [ ${#units[@]} -gt 0 ]; then
        "${as_root[@]}" systemctl unmask --runtime --quiet "${units[@]}"
        "${as_root[@]}" systemctl disable --quiet "${units[@]}" || true
    fi
    return "$status"
}

CLUSTERS=/etc/postgresql-common/createcluster.conf
NO_CLUSTER='create_main_cluster = false # for mqtt-gateway, while the server is installed'

# PostgreSQL's server comes with a cluster of the machine's own, unless this says otherwise.
make_no_cluster() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends postgresql-common </dev/null >&2 || return 0
    echo "$NO_CLUSTER" | "${as_root[@]}" tee -a "$CLUSTERS" >/dev/null
}

make_clusters_again() { "${as_root[@]}" sed -i "\\|^$NO_CLUSTER\$|d" "$CLUSTERS" || true; }

TOOLS=${CARGO_TARGET_DIR:-$ROOT/target}/tools

# make_tools: installs scripts/requirements.txt into $TOOLS, again when the list or the interpreter has changed. The programs
# are in $TOOLS/bin. Fails where Python or the packages are not available.
make_tools() {
    local list=$ROOT/scripts/requirements.txt wanted
    # In a subshell, because it ends what it runs in when it fails.
    (need_packages python3-venv) || return
    wanted=$(python3 --version && cat -- "$list")
    [ "$wanted" != "$(cat -- "$TOOLS/made-for" 2>/dev/null)" ] || return 0
    say "installing scripts/requirements.txt into $TOOLS"
    rm -rf -- "$TOOLS"
    mkdir -p -- "${TOOLS%/*}"
    python3 -m venv "$TOOLS" &&
        "$TOOLS/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list" >&2 &&
        printf '%s\n' "$wanted" >"$TOOLS/made-for"
}

# What was not checked, a line each: how many checks, and which. Shared with the scripts that a script runs.
export SKIPPED_CHECKS=${SKIPPED_CHECKS:-}
ALLOW_SKIPS=

# allow_skips_if_asked "$@": whether that is the first argument, which is to be shifted away then.
allow_skips_if_asked() {
    [ "${1:-}" = --allow-skips ] || return
    ALLOW_SKIPS=--allow-skips
}

# skip COUNT WHICH: notes checks that cannot be made here, and ends the script unless skips are allowed.
skip() {
    say "SKIPPED: $2"
    [ -z "$SKIPPED_CHECKS" ] || printf '%s %s\n' "$1" "$2" >>"$SKIPPED_CHECKS"
    [ -n "$ALLOW_SKIPS" ] || die "a check that is skipped fails the run; --allow-skips lets it pass"
}

# The end of the last line: how many checks were skipped, and which.
skips() {
    [ -s "$SKIPPED_CHECKS" ] || return 0
    awk '{ count += $1; list = list (NR > 1 ? "; " : "") $0 } END { printf ", but %d checks were SKIPPED: %s", count, list }' \
        "$SKIPPED_CHECKS"
}

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A loopback port nobody listens on, below the range that the kernel gives to outgoing connections.
free_port() {
    local port
    while :; do
        port=$((RANDOM % 14000 + 16000))
        port_answers "$port" || break
    done
    echo "$port"
}

# wait_for_port PORT PID: until the server answers; fails at once when it has ended, and after a minute anyway.
wait_for_port() {
    local deadline=$((SECONDS + 60))
    until port_answers "$1"; do
        kill -0 "$2" 2>/dev/null || return 1
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}
