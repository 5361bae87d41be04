#!/usr/bin/env bash
# Start (or complete) a cluster of N node processes on this machine; see `--help`.
#
#   ./start_cluster.sh [N] [--reset] [--stop] [--data DIR] [--port P] [--peer-port P]
#
# Nodes listen on 6333, 6343, ... (peers: 6335, 6345, ...); data and logs are under ./data. Nodes
# that run are left alone, dead ones are started again. Returns when the cluster is ready. With
# --stop the nodes end and their data stays; with --stop --reset it is deleted.
set -euo pipefail
script="$(readlink -f -- "${BASH_SOURCE[0]}")"
here="$(dirname -- "$script")"

command=start
data=(--data "$here/data") # that of the checkout, from wherever the script is called
reset=()
starting=() # what only a start needs: --stop takes all nodes, whatever their number and ports
while [ $# -gt 0 ]; do
    case "$1" in
        --stop) command=stop ;;
        --reset) reset=(--reset) ;;
        --data=*) data=("$1") ;;
        --data)
            data=("$@")
            data=("${data[@]:0:2}")
            [ $# -lt 2 ] || shift
            ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$script"; exit 0 ;;
        *) starting+=("$1") ;;
    esac
    shift
done
if [ "$command" = stop ]; then
    for argument in ${starting[@]+"${starting[@]}"}; do
        case "$argument" in
            --port | --peer-port | --port=* | --peer-port=* | --free-ports | --timeout* | [0-9]*) ;;
            *) echo "start_cluster.sh: --stop does not go with $argument" >&2; exit 2 ;;
        esac
    done
    starting=()
fi

if [ ! -e "$here/.venv/.installed" ]; then
    make --no-print-directory -C "$here" setup >&2
fi
exec "$here/.venv/bin/python" -m balsadb.cli cluster "$command" \
    "${data[@]}" ${reset[@]+"${reset[@]}"} ${starting[@]+"${starting[@]}"}
