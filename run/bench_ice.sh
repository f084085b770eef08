#!/usr/bin/env bash
# Sea-ice labelling, tile by tile with all halos, against the same published filter in OpenCV calls on the whole image; one thread each.
#
#   bash run/bench_ice.sh [--size 8192] [--core 4096] [--repeat 3]
#
# Both are run in turn; prints medians as key=value lines. `same=1`: the two maps are equal. The default filter is timed beside them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
exec python run/bench_ice.py "$@"
