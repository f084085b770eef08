#!/usr/bin/env bash
# Submits jobs of which each starts when the one before it is done: labels, a model that learns from them, maps, products.
#
#   bash slurm/chain.sh FILE        FILE: a line a job, what you would write after sbatch
#
#   -N 4 -t 2:00:00 slurm/cluster.sbatch label ice train.csv --out labels
#   -N 4 -t 8:00:00 slurm/cluster.sbatch train train.toml --scenes train.csv --labels labels --out model
#   -N 8 -t 4:00:00 slurm/cluster.sbatch predict archive.csv --model model --out maps
#   -N 1 -t 1:00:00 slurm/cluster.sbatch export maps --to cog
#
# A job that fails, or is cancelled, takes those after it along. Failures that are listed (exit code 3) do not stop the chain.
set -euo pipefail
[ $# = 1 ] && [ -f "$1" ] || { echo "chain: wanted FILE, a line a job: what you would write after sbatch" >&2; exit 2; }
export HPCSEG_GO_ON=1
after=()
while IFS= read -r line || [ -n "$line" ]; do
    [[ "$line" =~ ^[[:space:]]*(#.*)?$ ]] && continue
    eval "words=($line)"  # the file is the user's own shell words: quotes and variables mean what they mean there
    job="$(sbatch --parsable --kill-on-invalid-dep=yes ${after[@]+"${after[@]}"} "${words[@]}" </dev/null)"
    echo "$job  $line"
    after=("--dependency=afterok:${job%%;*}")
done <"$1"
