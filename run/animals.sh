#!/usr/bin/env bash
# Animals: draws surveys of ice with animals along its cracks among what resembles them, trains a detector on one, chooses its
# threshold on another, counts a third that it has not seen, and judges that beside peaks of dark colour.
#
#   bash run/animals.sh [OUT] [flags of hpcseg train]
#
# OUT: out/animals. Settings are in run/animals.toml; flags win. HPCSEG_RANKS=4 runs on four ranks (default two). Run it again to resume.
# Ends with 1 where F1 within a metre is below .9, or peaks of colour reach .6.
#
#   SIZE     edge of a scene in pixels of 0.2 m
#   SCENES   scenes of the survey that trains, and of the one that is counted; half as many choose the threshold
set -euo pipefail
out=out/animals
case "${1:-}" in "" | -*) ;; *) out="$(realpath -m -- "$1")" && shift ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
: "${SIZE:=1024}" "${SCENES:=3}" "${HPCSEG_RANKS:=2}"
source run/launch.sh
run() { "${launch[@]}" hpcseg "$@" </dev/null; }

# --- three surveys, each with a seed of its own
hpcseg synth animals "$out/train" --size "$SIZE" --count "$SCENES" --seed 1
hpcseg synth animals "$out/validation" --size "$SIZE" --count "$(((SCENES + 1) / 2))" --seed 2
hpcseg synth animals "$out/test" --size "$SIZE" --count "$SCENES" --seed 3
python run/animals.py list "$out"

# --- a detector, what it counts, and how right that is
run train run/animals.toml --scenes "$out/scenes.csv" --out "$out/model" "$@"
run count "$out/test" --model "$out/model" --out "$out/count" --density 50
run evaluate "$out/count" --points "$out/test/truth" --distance 1,0.5

echo
python run/animals.py judge "$out"
