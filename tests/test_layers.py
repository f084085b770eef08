"""Layers: a module imports only from rows above its own, each heavy dependency has one owner, importing starts nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hpcseg

PACKAGE = Path(hpcseg.__file__).parent

ROWS = {
    0: ("errors", "environment"),
    1: ("config", "tiles", "georeference", "footprint", "partition", "thresholds", "matching", "timeline", "kernels"),
    2: ("mpi", "raster", "area", "store", "device", "models", "progress"),
    2.5: ("stream", "share", "truth", "annotations"),
    2.7: ("mapping",),
    3: ("statistics", "prefilter", "products", "synthetic", "metrics"),
    3.3: ("inference", "tally", "scorecard"),
    3.5: ("labels",),
    3.6: ("planning", "training", "evaluation"),
    3.7: ("gallery", "objects"),
    3.8: ("scaling", "submission"),
    4: ("cli",),
    5: ("launch",),
}
SIDEWAYS = {
    ("partition", "tiles"), ("kernels", "tiles"), ("kernels", "thresholds"), ("footprint", "tiles"), ("footprint", "georeference"),
    ("annotations", "truth"),
}  # fmt: skip
LATE = {"launch": {"hpcseg.mpi", "hpcseg.cli"}}
OWNERS = {
    "mpi4py": {"mpi"},
    "h5py": {"store"},
    "osgeo": {"raster", "area", "products"},
    "numba": {"kernels"},
    "cv2": {"kernels"},
    "torch": {"models", "device", "inference", "training", "gallery"},
    "matplotlib": {"products"},
    "jinja2": {"products"},
    "click": {"cli"},
    "tqdm": {"progress"},
    "horovod": {"training"},
    "sklearn": {"gallery"},
    "pyarrow": {"gallery"},
}
ROW_OF = {name: row for row, names in ROWS.items() for name in names}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit(path: Path) -> str:
    """The module or package directly under hpcseg that a file belongs to."""
    return path.parts[0].removesuffix(".py")


def parse(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text(), filename=str(path))


def imported(node: ast.AST) -> list[str]:
    """The full names that an import statement brings; `from hpcseg import x` brings hpcseg.x."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        module = node.module or ""
        return [f"hpcseg.{alias.name}" for alias in node.names] if module == "hpcseg" else [module]
    return []


def every_import(path: Path) -> set[str]:
    return {name for node in ast.walk(parse(path)) for name in imported(node)}


def late_imports(path: Path) -> set[str]:
    """What is imported inside functions."""
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {name for function in functions for node in ast.walk(function) for name in imported(node)}


def units_of(names: set[str]) -> set[str]:
    """The units of hpcseg among imported names; what hpcseg/__init__.py itself defines belongs to no row."""
    return {name.split(".")[1] for name in names if name.startswith("hpcseg.") and name != "hpcseg.__version__"}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_has_a_row(path):
    assert unit(path) in ROW_OF, f"{path} is in no row: add it to the table and to the design"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_only_from_rows_above_its_own(path):
    here = unit(path)
    named = units_of(LATE.get(here, set()))
    wrong = [
        other
        for other in units_of(every_import(path)) - named - {here}
        if ROW_OF.get(other, -1) >= ROW_OF[here] and (here, other) not in SIDEWAYS
    ]
    assert not wrong, f"{path} (row {ROW_OF[here]}) imports {', '.join(f'{w} (row {ROW_OF[w]})' for w in sorted(wrong))}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_stand_at_the_top(path):
    assert late_imports(path) == LATE.get(unit(path), set())


def test_the_launcher_needs_the_standard_library_alone_until_mpi_has_started():
    outside = {name.split(".")[0] for name in every_import(Path("launch.py"))} - {"hpcseg"}
    assert outside <= sys.stdlib_module_names
    calls = [node for node in ast.walk(parse(Path("launch.py"))) if isinstance(node, ast.Call)]
    dynamic = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func).endswith("import_module")]
    assert dynamic == ["f'hpcseg.cli.{name}'"], "the command's own module is the only dynamic import"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_heavy_dependency_is_imported_by_its_owner_alone(path):
    tops = {name.split(".")[0] for name in every_import(path)}
    foreign = [name for name, owners in OWNERS.items() if name in tops and unit(path) not in owners]
    assert not foreign, f"{path} imports {foreign}, which belong to {[sorted(OWNERS[name]) for name in foreign]}"


def test_importing_starts_nothing():
    code = """
import logging, sys
import hpcseg, hpcseg.mpi, hpcseg.raster, hpcseg.store
from mpi4py import MPI
assert not MPI.Is_initialized(), "MPI was started"
assert "torch" not in sys.modules, "torch was imported"
assert not logging.getLogger().handlers, "logging was set up"
import threading
assert threading.active_count() == 1, "a thread was started"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_hpcseg_alone_brings_nothing_heavy():
    code = f"import sys, hpcseg; heavy = {sorted(OWNERS)!r}; assert not [n for n in [*heavy, 'numpy'] if n in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
