#!/usr/bin/env bash
# What mapping with a gallery of six costs beside the one network of all, on one core.
#
#   bash run/bench_gallery.sh [--size 6144] [--repeat 3] [--dir out/bench/gallery]
#   taskset -c 0 bash run/bench_gallery.sh
#
# Six networks of one kind (unet-light) map scenes of six textures: `regions`, where squares of 1,536 px have one texture, and `mixed`,
# where each cell of 512 px has another than its neighbours, the worst that can be. All run in turn; prints medians as key=value lines, of
# the clock and (_cpu) of processor time. `over_mono`: (gallery - features and hashing) / mono, measured in processor time, on the same
# scene; features and hashing are those of the same cells in memory. network_memory: most that the networks took; with little
# memory (--gallery-memory) they are swapped: `small_`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
export OMP_NUM_THREADS=1
exec python run/bench_gallery.py "$@"
