#!/usr/bin/env bash
# Sea ice without people: teachers label synthetic scenes and are judged, students learn from them and are judged on unseen scenes.
#
#   bash run/sea_ice.sh [OUT] [SCENE] [flags of hpcseg train]
#
# OUT: out/sea_ice. SCENE: a real one in red, green and blue of 8 bits, which is labelled, mapped and drawn besides. Settings of the
# students are in run/sea_ice.toml; flags win. HPCSEG_RANKS=4 runs all on four ranks. Run it again to resume.
#
#   SEEDS, SKIES, LEADS   scenes that judge: one for each seed, share of clouds, and width of leads in pixels (0 = floes)
#   TRAIN_SEEDS           seeds of the scenes that students learn from, with TRAIN_LEADS
#   MAPPED                widths of the leads, of LEADS, in the scenes that students map
#   SIZE, TRAIN_SIZE      edges of the scenes in pixels
set -euo pipefail
out=out/sea_ice scene=""
case "${1:-}" in "" | -*) ;; *) out="$(realpath -m -- "$1")" && shift ;; esac
case "${1:-}" in "" | -*) ;; *) scene="$(realpath -- "$1")" && shift ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
source run/launch.sh
: "${SEEDS:=1 2 3}" "${SKIES:=clear:0 cloudy:0.3}" "${LEADS:=0 24 36 64 160 400}" "${SIZE:=1024}"
: "${TRAIN_SEEDS:=101 102}" "${TRAIN_LEADS:=0 24 64 200}" "${TRAIN_SIZE:=512}" "${MAPPED:=0 64}"

# draw FOLDER SIZE SEEDS LEADS: scenes FOLDER/<seed>_<sky>_<lead>.tif and FOLDER/truth of the same names; ice and clouds lie elsewhere
# in each, but the two skies of a seed and a width are over the same ice
draw() {
    local seed sky lead name folder="$out/$1"
    mkdir -p "$folder/truth"
    for seed in $3; do
        for lead in $4; do
            for sky in $SKIES; do
                name="${seed}_${sky%:*}_$lead"
                [ ! -f "$folder/truth/$name.tif" ] || continue
                hpcseg synth ice "$folder/part" --size "$2" --seed $((1000 * seed + lead)) --clouds "${sky#*:}" --lead-width "$lead" >/dev/null
                mv "$folder/part/ice_000.tif" "$folder/$name.tif"
                mv "$folder/part/truth/ice_000.tif" "$folder/truth/$name.tif"
            done
        done
    done
}
run() { "${launch[@]}" hpcseg "$@" </dev/null; }

draw unseen "$SIZE" "$SEEDS" "$LEADS"
draw train "$TRAIN_SIZE" "$TRAIN_SEEDS" "$TRAIN_LEADS"

# --- teachers, and what they are worth; the default one also writes the pictures that students see
teach() {  # teach FOLDER FILTERS: labels in FOLDER/<filter>, pictures in FOLDER/default/filtered
    local each more
    for each in $2; do
        more=()
        if [ "$each" = default ]; then more=(--filtered); fi
        run label ice "$out/$1" --filter "$each" "${more[@]}" --out "$out/$1/$each" >/dev/null
    done
}
teach unseen "none published default"
teach train "none default"
for each in none published default; do run evaluate "$out/unseen/$each" --labels "$out/unseen/truth" >/dev/null; done
python run/sea_ice.py teachers "$out"

# --- students: each learns one teacher's labels on one kind of pictures, and maps both kinds of scenes that it never saw
pictures() { if [ "$2" = original ]; then echo "$out/$1"; else echo "$out/$1/default/filtered"; fi; }
mapped() { local lead; for lead in $MAPPED; do printf '%s\n' "$(pictures unseen "$1")"/*_"$lead".tif; done; }
student() {  # student TEACHER PICTURES [flags]
    local teacher="$1" seen="$2" folder="$out/students/$1_$2" each scenes
    mkdir -p "$folder"
    run train run/sea_ice.toml --scenes "$(pictures train "$seen")" --labels "$out/train/$teacher" --out "$folder/model" "${@:3}"
    for each in original filtered; do
        mapfile -t scenes < <(mapped "$each")
        run predict "${scenes[@]}" --model "$folder/model" --out "$folder/$each" --overwrite >/dev/null
        run evaluate "$folder/$each" --labels "$out/unseen/$teacher" --json "$folder/${each}_teacher.json" >/dev/null
        run evaluate "$folder/$each" --labels "$out/unseen/truth" --json "$folder/${each}_truth.json" >/dev/null
    done
}
student none original "$@"
student default original "$@"
student default filtered "$@"

# --- pictures: unseen scenes with the maps of the student that learned to see through cloud; and the real scene, if there is one
best="$out/students/default_original"
run evaluate "$best/original" --labels "$out/unseen/truth" --scenes "$out/unseen" --png --png-scenes 4 >/dev/null
for map in "$best"/original/*.h5; do
    hpcseg export "$map" --to png --out "$out/pictures" --scene "$out/unseen/$(basename "$map" .h5).tif" >/dev/null
done
if [ -n "$scene" ]; then
    name="$(basename "$scene")" && name="${name%.*}"
    run label ice "$scene" --filter default --filtered --out "$out/real/labels" --overwrite
    for kind in original filtered; do
        seen="$scene"
        if [ "$kind" = filtered ]; then seen="$out/real/labels/filtered/$name.tif"; fi
        run predict "$seen" --model "$out/students/default_$kind/model" --out "$out/real/$kind" --any-resolution --overwrite >/dev/null
        run evaluate "$out/real/$kind" --labels "$out/real/labels" | sed -n "s/^accuracy=/real_${kind}_agreement=/p"
        hpcseg export "$out/real/$kind" --to png --scene "$seen" >/dev/null
    done
    hpcseg export "$out/real/labels" --to png --scene "$scene" >/dev/null
fi

echo
python run/sea_ice.py students "$out"
