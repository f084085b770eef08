#!/usr/bin/env bash
# Open water without people: a teacher labels synthetic radar scenes, a student learns from it, both are judged on unseen scenes.
#
#   bash run/water.sh [OUT] [BEFORE AFTER TRUTH] [flags of hpcseg train]
#
# OUT: out/water. BEFORE, AFTER, TRUTH: real scenes of one band, before and during a flood, and the mask of AFTER, 0 dry, 1 flood: AFTER is
# labelled, alone and with BEFORE, and a student of its own learns from its labels; textures of the structural feature set are judged besides.
# Settings of the students are in run/water.toml; flags win. HPCSEG_RANKS=4 runs all on four ranks. Run it again to resume.
#
#   SHARES                       shares of water; one scene of each for each seed
#   SEEDS, VALIDATION, UNSEEN    seeds of scenes to learn from, to choose the checkpoint by, and to judge on
#                                many: a student has one threshold for all scenes, about the mean of those that its teacher fits to each
#   SIZE                         edge of the scenes in pixels
#   FALLBACK                     threshold in dB where a synthetic scene gives none: half way from calm water to land
#   REAL                         flags of hpcseg label water for BEFORE and AFTER
#   FEATURES, SPECTRAL, SPATIAL  the grid of textures that is reported for AFTER
set -euo pipefail
out=out/water before="" after="" truth=""
case "${1:-}" in "" | -*) ;; *) out="$(realpath -m -- "$1")" && shift ;; esac
case "${1:-}" in
    "" | -*) ;;
    *)
        if [ $# -lt 3 ]; then echo "water: wanted [OUT] [BEFORE AFTER TRUTH] [flags of hpcseg train]" >&2; exit 2; fi
        before="$(realpath -- "$1")" after="$(realpath -- "$2")" truth="$(realpath -- "$3")"
        shift 3
        ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
source run/launch.sh
: "${SHARES:=0.01 0.05 0.3}" "${SEEDS:=11 12 13 14 15 16 17 18}" "${VALIDATION:=21 22 23 24}" "${UNSEEN:=71 72 73}" "${SIZE:=1120}" "${FALLBACK:=-14}"
: "${REAL:=--scale db --db-per-unit 0.1}" "${FEATURES:=length sd psi}" "${SPECTRAL:=8 15 25}" "${SPATIAL:=25 50}"
run() { "${launch[@]}" hpcseg "$@" </dev/null; }

# draw FOLDER SEEDS: scenes FOLDER/<seed>_<share>.tif in dB, and FOLDER/truth of the same names
draw() {
    local seed share name folder="$out/$1"
    mkdir -p "$folder/truth"
    for seed in $2; do
        for share in $SHARES; do
            name="${seed}_$share"
            [ ! -f "$folder/truth/$name.tif" ] || continue
            hpcseg synth sar "$folder/part" --size "$SIZE" --seed "$seed" --water "$share" --scale db >/dev/null
            mv "$folder/part/sar_000.tif" "$folder/$name.tif"
            mv "$folder/part/truth/sar_000.tif" "$folder/truth/$name.tif"
        done
    done
}
draw train "$SEEDS"
draw validation "$VALIDATION"
draw unseen "$UNSEEN"
{
    echo scene,split
    for part in train validation; do for each in "$out/$part"/*.tif; do echo "$part/$(basename "$each"),$part"; done; done
} >"$out/train.csv"

# --- the teacher on all, and what it and its textures are worth
run label water "$out/train.csv" --scale db --fallback "$FALLBACK" --out "$out/labels" >/dev/null
for method in amplitude sfs; do
    fallback=()
    if [ "$method" = amplitude ]; then fallback=(--fallback "$FALLBACK"); fi
    code=0
    run label water "$out/unseen" --scale db --method "$method" "${fallback[@]}" --out "$out/teacher_$method" >"$out/teacher_$method.log" || code=$?
    # 3: a scene gives no threshold, and says so.
    if [ "$code" != 0 ] && [ "$code" != 3 ]; then exit "$code"; fi
    grep '^skipped' "$out/teacher_$method.log" || true
    run evaluate "$out/teacher_$method" --labels "$out/unseen/truth" >/dev/null
done

# --- its student
run train run/water.toml --scenes "$out/train.csv" --labels "$out/labels" --out "$out/student" "$@" | tee "$out/student.log"
run predict "$out/unseen" --model "$out/student" --out "$out/maps" --overwrite >/dev/null
run evaluate "$out/maps" --labels "$out/teacher_amplitude" --json "$out/maps/against_teacher.json" >/dev/null
run evaluate "$out/maps" --labels "$out/unseen/truth" --scenes "$out/unseen" --png >/dev/null
hpcseg export "$out/maps" --to png >/dev/null

# --- a real flood: the teacher on one date and on both, its student, and a grid of textures
if [ -n "$after" ]; then
    real="$out/real"
    read -ra values <<<"$REAL"
    mkdir -p "$real/truth"
    name="$(basename "$after")" && name="${name%.*}"
    ln -sfn "$truth" "$real/truth/$name.${truth##*.}"
    judge() { run evaluate "$1" --labels "$real/truth" --scenes "$after" "${@:2}" >"$1/evaluation.txt"; }
    run label water "$after" "${values[@]}" --out "$real/amplitude" >/dev/null
    judge "$real/amplitude" --png
    run label water "$after" --before "$before" "${values[@]}" --out "$real/flood" >/dev/null
    judge "$real/flood" --classes-map 0=dry,1=flood --png
    run train run/water.toml --block 448 --scenes "$after" --labels "$real/amplitude" --out "$real/student" "$@"
    run predict "$after" --model "$real/student" --out "$real/maps" --overwrite >/dev/null
    judge "$real/maps" --png
    hpcseg export "$real/maps" --to png --scene "$after" >/dev/null
    for feature in $FEATURES; do
        for spatial in $SPATIAL; do
            for spectral in $SPECTRAL; do
                folder="$real/grid/${feature}_${spectral}_$spatial"
                code=0
                run label water "$after" "${values[@]}" --method sfs --feature "$feature" --spectral "$spectral" --spatial "$spatial" \
                    --out "$folder" >/dev/null || code=$?
                # 3: no threshold.
                if [ "$code" = 0 ]; then judge "$folder"; elif [ "$code" != 3 ]; then exit "$code"; fi
            done
        done
    done
fi

echo
python run/water.py unseen "$out"
if [ -n "$after" ]; then python run/water.py real "$out"; fi
