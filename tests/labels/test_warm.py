"""What is compiled ahead is all that a teacher needs: no rank compiles again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import importlib, pkgutil, sys, threading
from pathlib import Path
import hpcseg.kernels
from hpcseg.kernels.rays import Sfs
from hpcseg.kernels.warm import compile_reading
from hpcseg.labels.ice import ice_teacher
from hpcseg.labels.index import index_teacher
from hpcseg.labels.run import LabelOptions, label
from hpcseg.labels.warm import compile_steps
from hpcseg.labels.water import WaterOptions, water_teacher
from hpcseg.mpi import MPI, self_comm
from hpcseg.statistics.run import compile_counting
MPI.Init_thread(MPI.THREAD_MULTIPLE)
folder = Path(sys.argv[2])
water = {"fallback": 1.5}
teacher, scene = {
    "index": lambda: (index_teacher(median=3), "two"),
    "ice none": lambda: (ice_teacher("none"), "three"),
    "ice published": lambda: (ice_teacher("published"), "three"),
    "ice default": lambda: (ice_teacher("default", picture=True), "three"),
    "water": lambda: (water_teacher(WaterOptions("power", **water)), "one"),
    "lee": lambda: (water_teacher(WaterOptions("db", speckle="lee", **water)), "one"),
    "flood": lambda: (water_teacher(WaterOptions("power", **water), str(folder / "before.tif")), "one"),
    "sfs": lambda: (water_teacher(WaterOptions("power", "sfs", sfs=Sfs(15, 9), **water)), "one"),
    "sfs otb": lambda: (water_teacher(WaterOptions("power", "sfs", "w-mean", Sfs(15, 9, mode="otb"), **water)), "one"),
}[sys.argv[1]]()
modules = [importlib.import_module(f"hpcseg.kernels.{each.name}") for each in pkgutil.iter_modules(hpcseg.kernels.__path__)]
found = [k for m in modules for k in vars(m).values() if hasattr(k, "signatures")]
kernels = {f"{k.py_func.__module__}.{k.py_func.__name__}": k for k in found}
count = lambda: {name: len(kernel.signatures) for name, kernel in kernels.items()}
compile_steps(teacher)
compile_reading(["float32", "uint8", "uint16"], teacher.dtype)
compile_counting()
ahead = count()
assert any(ahead.values())
summary = label(self_comm(), teacher, LabelOptions((str(folder / f"{scene}.tif"),), out=folder / "out", core=256), threading.Event())
assert summary.exit_code == 0, summary.refused
more = [name for name, n in count().items() if n > ahead[name]]
assert not more, more
MPI.Finalize()
"""
TEACHERS = ["flood", *(pytest.param(name, marks=pytest.mark.long) for name in
            ("index", "ice none", "ice published", "ice default", "water", "lee", "sfs", "sfs otb"))]  # fmt: skip


@pytest.mark.parametrize("teacher", TEACHERS)
def test_labelling_compiles_nothing_more(teacher, make_scene, tmp_path):
    for name, bands, dtype in (("one", 1, "float32"), ("before", 1, "float32"), ("two", 2, "uint16"), ("three", 3, "uint8")):
        make_scene(tmp_path / f"{name}.tif", 300, 280, bands, dtype)
    code = [sys.executable, "-c", CODE, teacher, str(tmp_path)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
