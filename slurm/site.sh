# Sourced by every job, and the only place for what differs between sites: modules, paths, the launcher. As it stands it suits any
# machine where run/setup.sh has made .venv; on yours, say here what you load before run/setup.sh, for instance:
#
#   module load gcc openmpi hdf5/1.14-parallel gdal cuda
#   export HPCSEG_LAUNCH="srun --kill-on-bad-exit=1 --mpi=pmi2"      # where srun needs another word to start MPI
#   export NUMBA_CACHE_DIR="$TMPDIR/numba"                           # a disk of the node's own
source "$HPCSEG_HOME/run/env.sh"
