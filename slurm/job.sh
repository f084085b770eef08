#!/usr/bin/env bash
# What every batch script runs: one command of hpcseg, or one recipe of run/, on all ranks of the job; then "submit again" if needed.
#
#   bash slurm/job.sh predict SCENES --model M --out DIR
#   bash slurm/job.sh run/buildings.sh SCENE LABELS
#
#   HPCSEG_LAUNCH    the words that start the ranks, such as: srun --kill-on-bad-exit=1 --mpi=pmix
#   HPCSEG_REPEATS   how often the job may be submitted again                                        default: 10
#   HPCSEG_GO_ON=1   what was done but for listed failures (3) is done: for chains of jobs
#
# Exit codes 0, 2 and 3 are the end of a job. Any other (75: a signal; a dead rank, a lost node) and the scheduler gets it once more, if it
# is what resumes: predict, label, count, train, gallery train or assign, or a recipe; once what --overwrite replaces is gone, a repeat of a
# command leaves it away. All else (verify, export, evaluate, stats; a recipe or gallery assign with --overwrite) would start anew. The tasks of a Slurm job array, --array=1-N, share the scenes out,
# by HPCSEG_PART; HPCSEG_PART=3/10 sbatch ... without --array does one of ten again.
set -euo pipefail
HPCSEG_HOME="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export HPCSEG_HOME
source "$HPCSEG_HOME/slurm/site.sh"
say() { printf 'job: %s\n' "$*" >&2; }
[ $# -gt 0 ] || { say "wanted a command of hpcseg or a recipe, with its arguments"; exit 2; }
[ -n "${HPCSEG_LAUNCH:-}" ] || { say "HPCSEG_LAUNCH is empty: set it to what starts the ranks"; exit 2; }
export HPCSEG_LAUNCH

# Slurm's default mixes two kinds of PMIx fence, and now and then lets a rank out of MPI_Init early: those that it meets crash. Measured on
# Slurm 22.05 with Open MPI 4.1 over TCP: 6 of 110 starts, none of 120 with one kind alone.
export SLURM_PMIX_FENCE="${SLURM_PMIX_FENCE:-tree}"

# The tasks of a Slurm array share the scenes out: the K-th of N maps or labels every N-th of them, from the K-th.
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ] && { [ -z "${HPCSEG_PART:-}" ] || [ "$SLURM_ARRAY_TASK_COUNT" -gt 1 ]; }; then
    case "$1" in predict | label) ;; *) say "an array shares out the scenes of predict or label, not of $1"; exit 2 ;; esac
    count="$SLURM_ARRAY_TASK_COUNT" step="${SLURM_ARRAY_TASK_STEP:-1}" place="$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))"
    span="$((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN))"
    if [ -n "${HPCSEG_PART:-}" ] || ((count < 2 || place % step || span != (count - 1) * step)); then
        say "wanted an array such as --array=1-10, two tasks or more without gaps; to do one again: HPCSEG_PART=3/10 sbatch ... without --array"
        exit 2
    fi
    export HPCSEG_PART="$((place / step + 1))/$count"
fi

# How often this job was started before. LSF does not say: a file beside the job's output counts its starts.
counter="${LS_SUBCWD:-.}/.hpcseg-starts-${LSB_JOBID:-}"
[ -z "${LSB_JOBID:-}" ] || echo $(($(cat "$counter" 2>/dev/null || echo 0) + 1)) >"$counter"
repeats() {
    if [ -n "${LSB_JOBID:-}" ]; then echo $(($(cat "$counter") - 1)); else echo "${SLURM_RESTART_COUNT:-${HPCSEG_REPEAT:-0}}"; fi
}
# hpcseg makes this file when all that it was to overwrite is gone. PBS gives a job that is submitted again another number, but its variables.
number="${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-${LSB_JOBID:-}}}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
[ -z "$number" ] || HPCSEG_BEGUN="$PWD/.hpcseg-begun-$number"
export HPCSEG_BEGUN="${HPCSEG_BEGUN:-$PWD/.hpcseg-begun-${PBS_JOBID:-}}"
submit_again() {
    if [ -n "${SLURM_JOB_ID:-}" ]; then
        # The number of one task of an array is that of the whole array.
        scontrol requeue "${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
    elif [ -n "${LSB_JOBID:-}" ]; then
        :  # LSF itself queues it again, by its exit code
    elif [ -n "${PBS_JOBID:-}" ]; then
        # The options of the first submission: PBS knows them, the job does not.
        HPCSEG_REPEAT=$(($(repeats) + 1)) qsub -V $(qstat -f -w "$PBS_JOBID" | sed -n 's/^ *Submit_arguments = //p')
    else
        return 1
    fi
}

give_up() {
    say "exit code $code, $1"
    [ -z "${LSB_JOBID:-}" ] || code=4  # a code that LSF does not queue again
}

# A repeat goes on with what the first start has done. Of the commands of a recipe some may not have begun: there --overwrite has to stay.
resumes=
case "$1 ${2:-}" in
    "gallery assign") [[ " $* " = *" --overwrite "* ]] || resumes=1 ;;
    "predict "* | "label "* | "count "* | "train "* | "gallery train")
        resumes=1
        if [ -e "$HPCSEG_BEGUN" ]; then
            for word in "$@"; do
                shift
                [ "$word" = --overwrite ] || set -- "$@" "$word"
            done
        fi
        ;;
    *".sh "*) [[ " $* " = *" --overwrite "* ]] || resumes=1 ;;
esac

# A warning before the end of time may reach this shell too: it is meant for the ranks.
trap : USR1
code=0
case "$1" in
    *.sh) bash "$@" || code=$? ;;
    *) $HPCSEG_LAUNCH hpcseg "$@" </dev/null || code=$? ;;
esac

case "$code" in
    0 | 2) ;;
    3) [ -z "${HPCSEG_GO_ON:-}" ] || code=0 ;;
    *)
        limit="${HPCSEG_REPEATS:-10}" before="$(repeats)"
        if [ -z "$resumes" ]; then
            give_up "not submitted again: this would start anew"
        elif [ "$before" -ge "$limit" ]; then
            give_up "and submitted again $before times already (HPCSEG_REPEATS=$limit): given up"
        elif submit_again; then
            say "exit code $code: submitted again, to go on where this one stopped"
            exit "$code"
        else
            say "exit code $code: run the same command again to go on where this one stopped"
        fi
        ;;
esac
rm -f "$counter" "$HPCSEG_BEGUN"
exit "$code"
