#!/usr/bin/env bash
# Makes .venv with hpcseg and all it needs. Run it again at any time: it does only what is missing.
#
#   bash run/setup.sh
#
# On Debian and Ubuntu it installs the system's Open MPI, parallel HDF5 and GDAL where they are absent. On a cluster load the
# site's modules first (MPI, parallel HDF5, GDAL, CUDA): what mpicc, h5pcc, gdal-config and nvcc say is what it builds against.
#
#   PYTHON        the interpreter to use (3.10 or later)                    default: python3
#   HPCSEG_CACHE  where built wheels are kept between set-ups               default: ~/.cache/hpcseg
#   HDF5_DIR      the parallel HDF5 to build h5py against                   default: h5pcc's
#   SLURM=1       also installs Slurm (as root, where apt-get is), of which the tests start one of their own
#   BROWSER=1     also installs playwright and Chromium, in which the tests open the pages of reports
#
# Pip's own settings hold. PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gives torch's build without CUDA, a tenth in size.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Two set-ups at once would spoil one another: the second waits for the first. (Some network file systems have no locks.)
exec 9<run/setup.sh
flock 9 2>/dev/null || true

TORCH=2.13.0 H5PY=3.16.0 HOROVOD=0.28.1
venv="$PWD/.venv"
say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# --- system: use what the site has, install only where nothing is there
python="${PYTHON:-python3}"
python_ready() { "$python" -c 'import venv, ensurepip, sysconfig, os, sys
sys.exit(sys.version_info < (3, 10) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null; }
missing=""
have mpicc && have mpirun || missing+=" openmpi-bin libopenmpi-dev"
have h5pcc || [ -n "${HDF5_DIR:-}" ] || missing+=" libhdf5-openmpi-dev"
have gdal-config || missing+=" libgdal-dev"
have gdalinfo || missing+=" gdal-bin"
have c++ && have make || missing+=" g++ make"
python_ready || missing+=" python3 python3-venv python3-dev"
[ "$(id -u)" = 0 ] && sudo="" || sudo="sudo"
apt_install() {
    say "installing $*"
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
if [ -n "$missing" ]; then
    have apt-get || die "not found:$missing (names of Debian's packages). Load the site's modules for them, then run this again."
    apt_install ca-certificates $missing
fi
if [ -n "${SLURM:-}" ] && [ -z "$sudo" ] && have apt-get && ! { have slurmctld && have munged; }; then
    apt_install slurm-wlm munge || say "no Slurm could be had: the tests that want one are skipped"
fi
# Elsewhere than on Debian apt-get's Chromium may be a snap, which servers and containers lack: playwright brings its own there.
if [ -n "${BROWSER:-}" ] && [ -z "$sudo" ] && ! have chromium && grep -qs '^ID=debian' /etc/os-release; then
    apt_install chromium || say "no Chromium could be had from apt-get"
fi
python_ready || die "$python is not a Python of 3.10 or later with venv and headers; set PYTHON."

pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }
# Compiling all of torch's Python files would take longer than everything else: what commands import is compiled at the end.
install() { pip install --no-compile "$@"; }
browser() {
    [ -n "${BROWSER:-}" ] || return 0
    "$venv/bin/python" -c 'import playwright' 2>/dev/null || install --no-build-isolation -e ".[browser]" \
        || { say "no playwright could be had: the tests that want a browser are skipped"; return 0; }
    have chromium || "$venv/bin/playwright" install --with-deps chromium >/dev/null \
        || say "no Chromium could be had: the tests that want a browser are skipped"
}

# --- nothing to do when this very set-up is done already
want="$(cat run/setup.sh setup.cfg pyproject.toml; mpicc --showme:version 2>/dev/null || mpicc -show; gdal-config --version; echo "${HDF5_DIR:-} $(command -v h5pcc)"; "$python" -V; have nvcc && nvcc --version || true)"
stamp="$(printf '%s' "$want" | sha256sum | cut -c1-16)"
if [ "$(cat "$venv/.setup" 2>/dev/null)" = "$stamp" ]; then browser; say "ready: $venv"; exit 0; fi

# --- environment
say "environment in $venv"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
install "torch==$TORCH" "setuptools>=70,<81" "wheel<1" "numpy>=2.1,<2.5" "mpi4py>=4.0,<5"

# --- what must be built against the site's libraries: built once, kept
if [ -z "${HDF5_DIR:-}" ]; then
    HDF5_DIR="$(dirname "$(dirname "$(readlink -f "$(command -v h5pcc)")")")"
    if [ "$HDF5_DIR" = /usr ]; then HDF5_DIR="/usr/lib/$(c++ -print-multiarch)/hdf5/openmpi"; fi
fi
[ -d "$HDF5_DIR" ] || die "HDF5_DIR=$HDF5_DIR is not a folder; set it to the prefix of a parallel HDF5."
if have h5pcc; then h5pcc -showconfig | grep -qi 'parallel hdf5: *\(yes\|on\)' || die "h5pcc is of a serial HDF5; load a parallel one."; fi
gdal="$(gdal-config --version)"
torch="$("$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("torch"))')"  # with its build: 2.13.0+cpu
# Horovod's GPU operations need both the compiler and a torch built for CUDA.
cuda="$(have nvcc && "$venv/bin/python" -c 'import torch; print(torch.version.cuda or "")' || true)"
key="$(printf '%s\n' "$("$venv/bin/python" -VV)" "$(mpicc -show)" "$HDF5_DIR" "$gdal" "$cuda" "$torch $H5PY $HOROVOD" | sha256sum | cut -c1-12)"
wheels="${HPCSEG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hpcseg}/wheels-$key"
mkdir -p "$wheels"
scratch="$(mktemp -d "$wheels/build.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT

# pip's own cache must not be asked: it does not know which libraries a wheel of its was built against.
wheel() {  # wheel NAME ARGUMENTS...: into the cache by one rename, so that a broken build leaves nothing there
    local name="$1"; shift
    ls "$wheels/$name"-*.whl >/dev/null 2>&1 && return
    say "building $name (kept in $wheels)"
    mkdir "$scratch/$name"
    pip wheel --no-cache-dir --no-deps --no-build-isolation -w "$scratch/$name" "$@" >"$scratch/$name.log" 2>&1 \
        || { tail -40 "$scratch/$name.log" >&2; die "$name did not build; its log ends above."; }
    mv "$scratch/$name"/*.whl "$wheels/"
}
build_h5py() { CC=mpicc HDF5_MPI=ON HDF5_DIR="$HDF5_DIR" CFLAGS="-O2 -g0" wheel h5py --no-binary=h5py "h5py==$H5PY"; }
# A distribution's own NumPy lies among Python's headers, which GDAL's build looks at before those of the NumPy in use.
build_gdal() {
    CPPFLAGS="-I$("$venv/bin/python" -c 'import numpy; print(numpy.get_include())')" wheel gdal --no-binary=gdal "gdal[numpy]==$gdal.*"
}
build_horovod() {
    ls "$wheels"/horovod-*.whl >/dev/null 2>&1 && return
    # Horovod's CMake files fix C++14; torch's headers need 20.
    pip download --no-deps --no-build-isolation --no-binary=horovod -d "$scratch" "horovod==$HOROVOD" >"$scratch/horovod.log" 2>&1 \
        || { tail -40 "$scratch/horovod.log" >&2; die "horovod could not be fetched."; }
    tar -xzf "$scratch/horovod-$HOROVOD.tar.gz" -C "$scratch"
    sed -i 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 20/' "$scratch/horovod-$HOROVOD"/{,horovod/torch/}CMakeLists.txt
    local gpu=""
    [ -z "$cuda" ] || gpu="HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_BUILD_CUDA_CC_LIST=${HOROVOD_BUILD_CUDA_CC_LIST:-70,80,90}"
    env $gpu PATH="$venv/bin:$PATH" HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1 \
        HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 bash -c "$(declare -f say die pip wheel)
        venv='$venv' wheels='$wheels' scratch='$scratch' wheel horovod '$scratch/horovod-$HOROVOD'"
}
if ! ls "$wheels"/{h5py,gdal,horovod}-*.whl >/dev/null 2>&1; then
    install "Cython>=3.1,<4" "pkgconfig>=1.5,<2" "cmake>=3.20,<4" "packaging<27" "cffi>=1.4,<3" "cloudpickle<4" psutil pyyaml
    jobs=""
    for each in h5py gdal horovod; do build_$each & jobs+=" $!"; done
    for job in $jobs; do wait "$job"; done
fi

# --- hpcseg itself
say "installing hpcseg"
install --no-build-isolation "$wheels"/*.whl -e ".[test]"
say "checking"
# Compiled here and now: ranks start at once then, also of users who cannot write here, or whose Python is told to write nothing.
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -c "
import importlib, h5py, horovod.torch, hpcseg.launch
from osgeo import gdal_array
for name in hpcseg.launch.COMMANDS: importlib.import_module('hpcseg.cli.' + name)
assert h5py.get_config().mpi, 'h5py is serial'" \
    || die "what was installed does not work (see above); remove $wheels and $venv, then run this again."
printf '%s' "$stamp" >"$venv/.setup"
browser
say "ready: source run/env.sh, then hpcseg --help"
