#!/usr/bin/env bash
# What the start of a run costs, by number of ranks on this machine (more of them than cores is the point: what grows shows).
#
#   bash run/bench_startup.sh [--ranks 2 8 32] [--scenes 64] [--model sea-ice] [--repeat 3]
#
# Maps small scenes, whose tiles cost little, and prints medians as key=value lines for each number of ranks: seconds of each phase on the
# slowest rank, start_N of the whole job to its end, and memory per rank before the first tile: peak, and with shared pages counted by
# their share. Then how long `hpcseg status` takes while a job of --files scenes runs, and `hpcseg plan` over a manifest of --manifest lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
exec python run/bench_startup.py "$@"
