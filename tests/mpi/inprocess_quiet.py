"""Ranks that warn, and then end well or all fail: run as `mpirun -n N python inprocess_quiet.py end|fail` by test_quiet.py."""

from __future__ import annotations

import sys
import warnings

from hpcseg import mpi

COMM = mpi.start()
for _ in range(2):
    warnings.warn("memory is short", RuntimeWarning, stacklevel=1)
if COMM.rank == 2:
    warnings.warn("one\ndisk is slow", UserWarning, stacklevel=1)
if sys.argv[1] == "fail":
    COMM.Barrier()
    raise ValueError("no such thing")
mpi.finish(COMM, 0)
