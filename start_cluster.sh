#!/usr/bin/env bash
# Start (or complete) a cluster of N node processes on this machine; see `--help`.
#
#   ./start_cluster.sh [N] [--reset] [--stop] [--data DIR] [--port P] [--peer-port P]
#
# Nodes listen on 6333, 6343, ... (peers: 6335, 6345, ...); data and logs are under ./data. Nodes
# that run are left alone, dead ones are started again. Returns when the cluster is ready.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

command=start
arguments=()
for argument in "$@"; do
    case "$argument" in
        --stop) command=stop ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) arguments+=("$argument") ;;
    esac
done

if [ ! -e "$here/.venv/.installed" ]; then
    make --no-print-directory -C "$here" setup >&2
fi
# The folder ./data is that of the checkout, from wherever the script is called.
case " ${arguments[*]-} " in
    *" --data"*) ;;
    *) arguments+=(--data "$here/data") ;;
esac
exec "$here/.venv/bin/balsadb" cluster "$command" ${arguments[@]+"${arguments[@]}"}
