#!/usr/bin/env bash
# From nothing to a first map: sets up what is missing, makes a synthetic sea-ice scene, maps it on two ranks, exports the map.
#
#   bash run/demo.sh
#
# Everything is left in out/demo. Run it again at any time: what is done stays, an interrupted map is resumed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash run/setup.sh
source run/env.sh
out=out/demo

# --- a scene with its truth
scene="$out/scenes/ice_000.tif"
[ -f "$scene" ] || hpcseg synth ice "$out/scenes" --size 4000x4000 --seed 1 --swath

# --- its map, by the model that comes with hpcseg, on two ranks
mpirun -n 2 --oversubscribe --bind-to none hpcseg predict "$scene" --model sea-ice --out "$out/maps" </dev/null
hpcseg verify "$out/maps"

# --- what others can open: a map for GIS, polygons, and a picture of the scene beside its map
mkdir -p "$out/products"
for product in ice_000.tif ice_000.gpkg ice_000.png; do
    case "$product" in *.tif) kind=cog ;; *.gpkg) kind=gpkg ;; *.png) kind=png ;; esac
    hpcseg export "$out/maps/ice_000.h5" --to "$kind" --out "$out/products/$product" --scene "$scene"
done

echo
printf '%-10s %s\n' scene "$PWD/$scene" truth "$PWD/$out/scenes/truth/ice_000.tif" map "$PWD/$out/maps/ice_000.h5" \
    GeoTIFF "$PWD/$out/products/ice_000.tif" polygons "$PWD/$out/products/ice_000.gpkg" picture "$PWD/$out/products/ice_000.png"
