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
truth="$out/scenes/truth/ice_000.tif"  # is finished last
[ -f "$truth" ] || hpcseg synth ice "$out/scenes" --size 4000x4000 --seed 1 --swath

# --- its map, by the model that comes with hpcseg, on two ranks
map() { mpirun -n 2 --oversubscribe --bind-to none hpcseg predict "$scene" --model sea-ice --out "$out/maps" "$@" </dev/null; }
code=0
map || code=$?
if [ "$code" = 2 ]; then
    echo "demo: what an earlier version left is made anew"
    map --overwrite
elif [ "$code" != 0 ]; then
    exit "$code"
fi
hpcseg verify "$out/maps"

# --- what others can open: a map for GIS, polygons, and a picture of the scene beside its map
for kind in cog gpkg png; do hpcseg export "$out/maps" --to "$kind" --out "$out/products" --scene "$scene"; done

echo
printf '%-10s %s\n' scene "$PWD/$scene" truth "$PWD/$truth" map "$PWD/$out/maps/ice_000.h5" \
    GeoTIFF "$PWD/$out/products/ice_000.tif" polygons "$PWD/$out/products/ice_000.gpkg" picture "$PWD/$out/products/ice_000.png"
