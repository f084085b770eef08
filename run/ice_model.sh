#!/usr/bin/env bash
# The sea-ice model that hpcseg ships: makes synthetic scenes, trains, judges the model on scenes of other seeds, puts it into the zoo.
#
#   bash run/ice_model.sh [OUT] [flags of hpcseg train]
#
# OUT: out/ice_model. Settings are in run/ice_model.toml; flags win. Run it again to resume; scenes that are made stay.
set -euo pipefail
out=out/ice_model
case "${1:-}" in "" | -*) ;; *) out="$(realpath -m -- "$1")" && shift ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
zoo=hpcseg/models/zoo/sea-ice

# scenes NAME SEED COUNT [FLAG]: COUNT scenes for each size of floes and each share of clouds and ponds, and their manifest
scenes() {
    local name="$1" seed="$2" count="$3" scale look clouds ponds k folder
    [ ! -f "$out/$name.csv" ] || return 0
    echo scene,id,label >"$out/$name.part"
    for scale in 0.35 0.6 1 1.6 2.5 4; do
        for look in 0.02:0.03 0.1:0.3 0.17:0.01 0.25:0.15; do
            clouds="${look%:*}" ponds="${look#*:}" folder="$name/${scale}_$clouds"
            hpcseg synth ice "$out/$folder" --size 384 --count "$count" --seed "$seed" --scale "$scale" --clouds "$clouds" --ponds "$ponds" \
                "${@:4}" >/dev/null
            for ((k = 0; k < count; k++)); do
                printf '%s/ice_%03d.tif,%s_%03d,%s/truth/ice_%03d.tif\n' "$folder" "$k" "${folder//\//_}" "$k" "$folder" "$k"
            done >>"$out/$name.part"
            seed=$((seed + 1))
        done
    done
    mv "$out/$name.part" "$out/$name.csv"
}

mkdir -p "$out"
scenes train 1000 16 --degrade
scenes clear 2000 2
scenes degraded 3000 2 --degrade

hpcseg train run/ice_model.toml --scenes "$out/train.csv" --out "$out/model" "$@"

# --- its scores on scenes of seeds that training never saw, as they are and through poorer cameras
for kind in clear degraded; do
    hpcseg predict "$out/$kind.csv" --model "$out/model" --out "$out/maps_$kind" --precision fp32 --overwrite >/dev/null
    hpcseg evaluate "$out/maps_$kind" --json "$out/$kind.json" | grep -E '^(accuracy|iou_[a-z_]*)=' | sed "s/^/${kind}_/"
done

# --- into the zoo; scenes of any resolution are welcome, because the floes of training had many sizes
python - "$out" "$zoo" <<'PYTHON'
import json, shutil, sys
from pathlib import Path

import msgspec

from hpcseg.config import ModelSpec, decode_toml, encode_toml

out, zoo = map(Path, sys.argv[1:])


def scores(kind):
    pooled = json.loads((out / f"{kind}.json").read_text())["pooled"]
    return f"accuracy {pooled['overall']['accuracy']:.3f}, IoU {' '.join(format(each['iou'], '.3f') for each in pooled['classes'])}"


about = "Sea ice in visible light (RGB u8). Trained on synthetic scenes only. On held-out scenes "
about += f"as made: {scores('clear')}; degraded: {scores('degraded')}."
spec = decode_toml(out / "model" / "model.toml", ModelSpec)
(zoo / "model.toml").write_bytes(encode_toml(msgspec.structs.replace(spec, description=about, resolution=0.0)))
shutil.copyfile(out / "model" / "weights.safetensors", zoo / "weights.safetensors")
print(about)
PYTHON
