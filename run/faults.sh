#!/usr/bin/env bash
# Random faults over jobs that map and jobs that train, under mpirun: SIGKILL, SIGTERM, SIGUSR1 and SIGSTOP to a rank or to mpirun, a disk
# that fills up, a scene that vanishes or is cut short; some two at once, some again while the job is resumed.
#
#   bash run/faults.sh [--faults 100] [--seed 7] [--stage predict|train|both] [--ranks 4] [--out DIR] [--patience 1]
#
# After each the job must have ended, every file must be readable and every tile that is marked done right; then the same command goes on
# with another number of ranks, and must end with the bits of a job that nothing happened to (training: with the same number of ranks).
# Prints a row for each disturbed job and key=value lines. Exit code 1 if anything was wrong; --out keeps what such trials left.
# ranks: the most of a job. patience: a machine with other work on it takes so much longer. Needs what `run/setup.sh` installs for tests.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/run/env.sh"
export PYTHONPATH="$root/tests" OMP_NUM_THREADS=1
# Root can mount a small file system, in a namespace that nobody else sees and that ends with this script.
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
    exec unshare -m python -m faults.campaign --mount "$@"
fi
exec python -m faults.campaign "$@"
