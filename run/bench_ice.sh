#!/usr/bin/env bash
# Sea-ice labelling by the published filter, tile by tile with all halos, against the same filter in OpenCV calls on the whole image in
# memory; one thread each.
#
#   bash run/bench_ice.sh [--size 8192] [--core 2048] [--repeat 5]
#   taskset -c 0 bash run/bench_ice.sh      # what reads, labels and writes share one core
#
# All are run in turn; prints medians as key=value lines, of the clock and (_cpu) of processor time. opencv: in memory; opencv_raw,
# opencv_deflate: with GDAL's reading of a file. stream_raw, stream_deflate: the whole command but its start, from such a file to a file
# of labels, mask and shares. kernels: from memory to memory; default: the default filter so. `same=1`: all maps are equal, else it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
export OMP_NUM_THREADS=1
exec python run/bench_ice.py "$@"
