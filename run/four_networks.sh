#!/usr/bin/env bash
# Four networks: seconds per 500x500x3 sample of each (RESFlow, Table II), and their F1 by epoch on one scene (Fig. 10).
#
#   bash run/four_networks.sh SCENE LABELS [OUT] [flags of hpcseg train]
#
# SCENE, LABELS: as for run/buildings.sh, whose settings are used. OUT: out/four_networks; OUT/curves.png is the picture.
# HPCSEG_RANKS=4 runs all on four ranks. Run it again to resume.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"

"${launch[@]}" hpcseg bench train --repeat 1 --dir "$out/bench" </dev/null
for network in unet resnet50-fcn segnet deeplab; do
    "${launch[@]}" hpcseg train run/buildings.toml --model "$network" --scenes "$scene" --labels "$labels" --out "$out/$network" "$@" \
        </dev/null
done
hpcseg bench train --curves "$out"
