# Source this before `hpcseg` or `mpirun`: puts the environment on PATH and tells Open MPI about containers and busy machines.
_hpcseg_root="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)"
export PATH="$_hpcseg_root/.venv/bin:$PATH"
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# Containers refuse the copy between processes that Open MPI tries first, and say so on every start.
export OMPI_MCA_btl_vader_single_copy_mechanism="${OMPI_MCA_btl_vader_single_copy_mechanism:-none}"
# Ranks that wait give their core to those that work.
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
unset _hpcseg_root
