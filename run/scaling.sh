#!/usr/bin/env bash
# Shows how hpcseg scales on this machine: a strong and a weak study of predict, label and train, the simulation checked against them, and
# their page. An hour or more on two cores that do nothing else. What is in OUT/study.csv is not run again.
#
#   bash run/scaling.sh [OUT] [RANKS]             # out/scaling 1,2
#   bash run/scaling.sh docs/scaling 1,2,4,8      # within a Slurm allocation ranks are started by srun
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source run/env.sh
out="${1:-out/scaling}" ranks="${2:-1,2}"

# Five sizes of tile, five runs each: one of them on one rank gives the simulation its rates, it has to foretell all others. Long runs, so
# that a machine others use too is met in all its moods by each.
hpcseg scaling strong predict --ranks "$ranks" --tiles 256,384,512,768,1024 --size 6144 --repeat 5 --out "$out"
hpcseg scaling strong predict --ranks "$ranks" --tiles 512,1024,2048 --size 6144 --precisions bf16 --out "$out"
hpcseg scaling strong predict --ranks "$ranks" --tiles 512 --size 6144 --precisions bf16 --partitions rows --out "$out"
hpcseg scaling strong label,train --ranks "$ranks" --tiles 512 --precisions bf16 --out "$out"
hpcseg scaling weak predict,label,train --ranks "$ranks" --tiles 512 --precisions bf16 --out "$out"
hpcseg scaling simulate --calibrate "$out" --tile 512 --validate
hpcseg scaling simulate --case resflow
rm -rf "$out/work"
hpcseg scaling report "$out"
