#!/usr/bin/env bash
# Buildings: trains a narrow U-Net with three seeds, maps the scene with the model of the median one, and draws what it got right.
#
#   bash run/buildings.sh SCENE LABELS [OUT] [flags of hpcseg train]
#
# LABELS: footprints (GeoJSON, GeoPackage, ...) or a raster of 0 and 1 on the scene's grid. OUT: out/buildings. Settings are in
# run/buildings.toml; flags win, such as these for a scene of 650 x 650 pixels of 0.3 m in degrees:
#
#   bash run/buildings.sh SCENE LABELS OUT --resolution 0 --tile 64 --block 128
#
# The scene is dealt out in blocks to train, validation (chooses the checkpoint) and test; F1 of buildings on test is printed, a line
# a seed, then the median. HPCSEG_RANKS=4 runs all on four ranks. Run it again to resume; models that are trained stay.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"

# --- three models, and the one whose F1 on the test blocks is the median
mkdir -p "$out"
for seed in 0 1 2; do
    "${launch[@]}" hpcseg train run/buildings.toml --scenes "$scene" --labels "$labels" --out "$out/seed_$seed" --seed "$seed" "$@" \
        </dev/null | tee "$out/seed_$seed.log"
done
for seed in 0 1 2; do echo "$(sed -n 's/^test_f1=//p' "$out/seed_$seed.log") $seed"; done | sort -g >"$out/scores.txt"
read -r f1 seed < <(sed -n 2p "$out/scores.txt")

# --- its map, and the picture of scene, truth, map and errors; the map shows train blocks too, the scores above do not
predict=("${launch[@]}" hpcseg predict "$scene" --model "$out/seed_$seed" --out "$out/maps" --resample) code=0
"${predict[@]}" </dev/null || code=$?
case "$code" in
    0) ;;
    2) "${predict[@]}" --overwrite </dev/null ;;  # a map of another model gives way, one of this model is resumed
    *) exit "$code" ;;
esac
map="$(ls "$out"/maps/*.h5)"
read -r width height < <(gdalinfo "NETCDF:\"$map\":labels" | sed -n 's/^Size is \([0-9]*\), /\1 /p')
mkdir -p "$out/scene"
seen="$out/scene/$(basename "$map" .h5).vrt"  # the scene on the map's grid
gdal_translate -q -of VRT -r average -outsize "$width" "$height" "$scene" "$seen"
hpcseg evaluate "$out/maps" --labels "$labels" --scenes "$seen" --png

echo
sort -k2 "$out/scores.txt" | while read -r each k; do echo "seed_${k}_test_f1=$each"; done
echo "median_test_f1=$f1"
echo "median_seed=$seed"
