# Sourced by recipes called as NAME SCENE LABELS [OUT] [flags of hpcseg train]: sets scene, labels, out and launch, leaves the flags.
recipe="$(basename "$0" .sh)"
if [ $# -lt 2 ]; then
    echo "$recipe: wanted SCENE LABELS [OUT] [flags of hpcseg train]" >&2
    exit 2
fi
scene="$(realpath -- "$1")" labels="$(realpath -- "$2")"
shift 2
out="out/$recipe"
case "${1:-}" in "" | -*) ;; *) out="$(realpath -m -- "$1")" && shift ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
source run/launch.sh
