#!/usr/bin/env bash
# A gallery of a mixed archive: buckets found without knowing what the scenes show, then judged by it.
#
#   bash run/gallery.sh [OUT] [KIND=SCENE ...] [flags of hpcseg gallery build]
#
# OUT: out/gallery. Synthetic towns, sea ice and radar are made; scenes of three bands and more are added, of these kinds or others:
#
#   bash run/gallery.sh OUT kampala=rgb.tif vegas=pansharpened.tif sar=before.tif+after.tif+before.tif ice=photo.tif
#
# The kinds are but the names of scenes, which only the judge reads: purity (the share of cells in a bucket whose kind is its most frequent),
# adjusted Rand index, mean average precision of held cells, what scenes that came later fare, and the same with the colour statistics of
# cells in place of features. All runs on HPCSEG_RANKS=2 ranks.
#
#   SIZE, SEEDS          edge in pixels of the synthetic scenes, and their seeds: one scene of each kind for each seed
#   UNSEEN               seed of the scenes that are assigned when the gallery stands
#   CELL, BUCKETS        edge of a cell in pixels; number of buckets, 0 = at the knee: it is not told of the kinds either
set -euo pipefail
out=out/gallery
case "${1:-}" in "" | -* | *=*) ;; *) out="$1" && shift ;; esac
out="$(realpath -m -- "$out")"
scenes=()
while [[ "${1:-}" =~ ^[a-z]+=. ]]; do
    IFS=+ read -ra parts <<<"${1#*=}"
    for k in "${!parts[@]}"; do parts[k]="$(realpath -- "${parts[k]}")"; done
    scenes+=("${1%%=*} $(IFS=+ && echo "${parts[*]}")") && shift
done
case "${1:-}" in "" | -*) ;; *) echo "gallery: $1: wanted [OUT] [KIND=SCENE ...] [flags of hpcseg gallery build]" >&2 && exit 2 ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
: "${HPCSEG_RANKS:=2}"
source run/launch.sh
: "${SIZE:=1280}" "${SEEDS:=1 2}" "${UNSEEN:=9}" "${CELL:=128}" "${BUCKETS:=0}"

# draw MANIFEST SEEDS: towns, ice and radar, a scene of each for each seed, and a manifest of them
draw() {
    local seed folder
    echo scene,id >"$out/$1.csv"
    for seed in $2; do
        folder="$out/scenes/$seed"
        if [ ! -f "$folder/done" ]; then
            hpcseg synth buildings "$folder" --size "$SIZE" --seed "$seed" --pixel "0.$((3 + seed % 3))" >/dev/null
            hpcseg synth ice "$folder" --size "$SIZE" --seed "$seed" --scale "0.$((4 + 3 * (seed % 3)))" --clouds "0.$((seed % 3))" >/dev/null
            hpcseg synth sar "$folder" --size "$SIZE" --seed "$seed" --scale db --flood 0.1 >/dev/null
            touch "$folder/done"
        fi
        {
            echo "$folder/buildings_000.tif,towns_$seed"
            echo "$folder/ice_000.tif,ice_$seed"
            echo "$folder/before/sar_000.tif+$folder/sar_000.tif+$folder/before/sar_000.tif,sar_$seed"
        } >>"$out/$1.csv"
    done
}
mkdir -p "$out"
draw archive "$SEEDS"
draw unseen "$UNSEEN"
for k in "${!scenes[@]}"; do
    read -r kind scene <<<"${scenes[k]}"
    echo "$scene,${kind}_real$k" >>"$out/archive.csv"
done

begin=$SECONDS
gallery="$out/gallery_$CELL"
"${launch[@]}" hpcseg gallery build "$out/archive.csv" --bands 1,2,3 --nodata-rule any --out "$gallery" --cell "$CELL" --reduce 1 \
    --buckets "$BUCKETS" --overwrite "$@" </dev/null | tee "$out/build.log"
"${launch[@]}" hpcseg gallery assign "$gallery" "$out/unseen.csv" --bands 1,2,3 --nodata-rule any </dev/null >"$out/assign.log"
echo "build_and_assign=$((SECONDS - begin)) s"
echo
python run/gallery.py "$gallery" "$out/unseen.csv"
