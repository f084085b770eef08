# Sourced by recipes: sets launch, the words that start ranks: those of a batch job (see slurm/job.sh), else mpirun for HPCSEG_RANKS, else none.
launch=()
if [ -n "${HPCSEG_LAUNCH:-}" ]; then
    read -ra launch <<<"$HPCSEG_LAUNCH"
elif [ -n "${HPCSEG_RANKS:-}" ]; then
    launch=(mpirun -n "$HPCSEG_RANKS" --oversubscribe --bind-to none)
fi
# The warning before the end of a batch job's time may reach this shell too: it is meant for the ranks.
trap : USR1
