#!/usr/bin/env bash
# Structural Feature Set: hpcseg's mode otb against Orfeo ToolBox itself, all six features with its defaults, one thread each.
#
#   bash run/bench_sfs.sh [--size 1024] [--repeat 3]
#
# Both are run in turn on one speckled u8 image; prints medians as key=value lines. Of Orfeo ToolBox's time that of an image of 8x8
# pixels is taken off: its start, not its work. `same`: the share of values equal within 1e-4 (W-Mean and SD 1e-3), of all pixels and features.
# `speedup`: two threads over one. On Debian Orfeo ToolBox comes with: apt-get install otb-bin
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
command -v otbcli_SFSTextureExtraction >/dev/null || { echo "bench_sfs: wants Orfeo ToolBox: apt-get install otb-bin" >&2; exit 2; }
exec python run/bench_sfs.py "$@"
