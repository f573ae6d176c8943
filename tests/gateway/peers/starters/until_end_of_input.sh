# Servers that live as long as somebody holds our standard input open. To be sourced.

PROCESSES=()

# run COMMAND…: in a process group of its own, with all that it starts.
run() {
    set -m
    "$@" </dev/null &
    PROCESSES+=($!)
    set +m
}

end_processes() {
    trap '' INT TERM HUP
    local process
    for process in "${PROCESSES[@]}"; do
        kill -KILL -- "-$process" 2>/dev/null || true
    done
}

# The servers hold nothing that is needed any more, so they are killed.
until_end_of_input() {
    trap end_processes EXIT
    trap 'exit 143' INT TERM HUP
    while read -r _; do :; done
}
