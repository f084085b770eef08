#!/usr/bin/env bash
# Trees: a detector learns from boxes in one strip of a picture, is judged on another, and counts another forest.
#
#   bash run/trees.sh PICTURE BOXES OTHER OTHER_BOXES [OUT] [flags of hpcseg train]
#
# PICTURE: without georeference; three strips of it, from the top, train, choose checkpoint and threshold, and test. OTHER: a scene on the
# ground. BOXES: Pascal VOC or a table of xmin,ymin,xmax,ymax in pixels. OUT: out/trees. Settings are in run/trees.toml; flags win.
# F1 is printed beside that of the best regular grid, its spacing and offset chosen on the very objects that it is judged by, and of
# peaks of smoothed colour, their parameters chosen on the second strip. HPCSEG_RANKS=4 runs all on four ranks. Run it again to resume.
#
#   PIXEL    metres of a pixel of PICTURE       RESOLUTION   metres of a pixel that the network sees
#   SEEDS    of the networks; the one that does best on the second strip counts
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "trees: wanted PICTURE BOXES OTHER OTHER_BOXES [OUT] [flags of hpcseg train]" >&2
    exit 2
fi
picture="$(realpath -- "$1")" boxes="$(realpath -- "$2")" other="$(realpath -- "$3")" other_boxes="$(realpath -- "$4")"
shift 4
out=out/trees
case "${1:-}" in "" | -*) ;; *) out="$(realpath -m -- "$1")" && shift ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
source run/launch.sh
: "${PIXEL:=0.1}" "${RESOLUTION:=0.3}" "${SEEDS:=0 1 2}"
run() { "${launch[@]}" hpcseg "$@" </dev/null; }

# --- strips, their trees, and the other forest's
mkdir -p "$out/strips" "$out/other"
python run/trees.py cut "$out" "$picture" "$boxes" "$PIXEL" "$RESOLUTION"
python run/trees.py place "$out" "$other" "$other_boxes" "$RESOLUTION"

# --- a network a seed, and the one that does best on the second strip
for seed in $SEEDS; do
    run train run/trees.toml --scenes "$out/strips/scenes.csv" --labels "$out/strips" --out "$out/seed_$seed" --seed "$seed" \
        --pixel-size "$RESOLUTION" "$@" | tee "$out/seed_$seed.log"
done
for seed in $SEEDS; do echo "$(sed -n 's/^validation_f1_within_2=//p' "$out/seed_$seed.log") $seed"; done | sort -g >"$out/scores.txt"
read -r _ seed < <(tail -n 1 "$out/scores.txt")

# --- counts of what it has not seen, judged
run count "$out/strips/test.tif" --model "$out/seed_$seed" --out "$out/count_test" --pixel-size "$RESOLUTION" --overwrite
run evaluate "$out/count_test" --points "$out/strips" --distance 2,1 --pixel-size "$RESOLUTION"
run count "$out/other/other.tif" --model "$out/seed_$seed" --out "$out/count_other" --overwrite
run evaluate "$out/count_other" --points "$out/other" --distance 2,1.5,1

echo
for each in $SEEDS; do sed -n "s/^test_f1_within/seed_${each}_test_f1_within/p" "$out/seed_$each.log"; done
echo "seed=$seed"
python run/trees.py judge "$out" "$RESOLUTION"
