"""hpcseg export: products from prediction files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import Words, config_option, prediction_files, stall_option, threads_option
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.mpi import Pulse, on_root
from hpcseg.objects import Choice, Settings, export_objects
from hpcseg.products import export

_SUFFIX = {"cog": ".tif", "gpkg": ".gpkg", "png": ".png"}


@click.command("export")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.option("--to", "kind", type=click.Choice(list(_SUFFIX)), default=None,
              help="cog = compressed GeoTIFF with overviews, gpkg = polygons, png = quicklook with legend.")  # fmt: skip
@click.option("--objects", is_flag=True,
              help="Connected components as points with area, centroid and bounding box (GeoPackage, CSV), and how many there are of each "
                   "size (PNG).")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for the products. Default: beside the maps.")
@click.option("--scene", type=click.Path(exists=True, path_type=Path), default=None, help="With --to png: the scene, shown beside its map.")
@click.option("--title", default="", help="With --to png. Default: the scene's name.")
@click.option("--classes", default="", type=Words(str, "floe,pond"), metavar="NAME,...",
              help="With --objects: of these classes. Default: all.")  # fmt: skip
@click.option("--min-area", "min_area_m2", type=click.FloatRange(0), default=0.0, metavar="M2",
              help="With --objects: smaller ones, in m2 on the ground, are left out.")  # fmt: skip
@click.option("--min-area-px", type=click.IntRange(0), default=0,
              help="Smaller patches are merged into their neighbours (gpkg), smaller objects are left out (--objects).")  # fmt: skip
@click.option("--connectivity", type=click.Choice(["4", "8"]), default=None,
              help="8 = pixels that touch at a corner belong to one patch or object. Default: gpkg 4, --objects 8.")  # fmt: skip
@threads_option
@stall_option
@config_option
@click.pass_obj
def command(comm: Any, directory: Path, kind: Any, objects: bool, out: Path | None, stall: float, **arguments: Any) -> int:
    """Export the maps in DIRECTORY as --to says, or their --objects. Ranks share out the maps; with --objects, their tiles."""
    maps = on_root(comm, lambda: _prepare(directory, out, bool(kind) + objects))
    connectivity = int(arguments.pop("connectivity") or (8 if objects else 4))
    if objects:
        return _objects(comm, stall, maps, out, connectivity, arguments)
    names = ("scene", "title", "min_area_px", "threads")
    for path in maps[comm.rank :: comm.size]:
        target = (out or path.parent) / f"{path.stem}{_SUFFIX[kind]}"
        product = export(path, kind, target, connectivity=8 if connectivity == 8 else 4, **{name: arguments[name] for name in names})
        _say([product.path], product.notes)
    return 0


def _prepare(directory: Path, out: Path | None, wanted: int) -> list[Path]:
    if wanted != 1:
        raise UsageError(f"give either --to {'|'.join(_SUFFIX)} or --objects")
    maps = prediction_files(directory)
    try:
        (out or maps[0].parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be made: {error}") from error
    return maps


def _objects(comm: Any, stall: float, maps: list[Path], out: Path | None, connectivity: int, options: dict[str, Any]) -> int:
    choice = Choice(options["classes"], options["min_area_m2"], options["min_area_px"])
    with Pulse(comm, stall, stop_requested) as pulse:
        results = export_objects(comm, pulse, maps, out, choice, Settings(connectivity, options["threads"]))
    for each in results if comm.rank == 0 else []:
        _say(each.files, each.notes)
        if each.problem:
            print(f"skipped {each.name}: {each.problem}", flush=True)
    return 3 if any(each.problem for each in results) else 0


def _say(files: Any, notes: Any) -> None:
    """What was written, a line a file at once, so that ranks do not cut into each other's lines."""
    print("".join([*(f"wrote {path}\n" for path in files), *(f"note: {note}\n" for note in notes)]), end="", flush=True)
