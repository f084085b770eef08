"""hpcseg gallery evaluate: a gallery's maps beside those of one model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from hpcseg.cli import config_option, stall_option, threads_option
from hpcseg.cli.evaluate import read_settings, truth_options
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.gallery.compare import Compared, Question, compare, draw_maps, report_lines, write_tables
from hpcseg.mpi import Pulse, on_root

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("evaluate")
@click.argument("gallery", type=_folder, metavar="GALLERY/APPLICATION")
@click.option("--maps", required=True, type=_folder, help="Folder of maps made with the gallery.")
@click.option("--mono", required=True, type=_folder, help="Folder of maps of the same scenes made with one model.")
@truth_options
@click.option("--region", default="region", show_default=True, help="Manifest column that names a scene's region; else its own name.")
@click.option("--out", type=_folder, default=None, help="Folder for scores.csv, speeds.csv and pictures. Default: that of --maps.")
@click.option("--pictures", type=click.IntRange(0), default=12, show_default=True, help="Draw the first N maps, tinted by bucket.")
@threads_option
@stall_option
@config_option
@click.pass_obj
def evaluate(
    comm: Any,
    gallery: Path,
    maps: Path,
    mono: Path,
    labels: tuple[str, ...],
    region: str,
    out: Path | None,
    pictures: int,
    **arguments: Any,
) -> int:
    """Judge the maps of a model gallery and of one model against the same truth, by region, and compare how fast they were made."""
    stall, folder = arguments.pop("stall"), out or maps
    settings = read_settings(png=pictures > 0, png_scenes=pictures, block=0, **arguments)
    with Pulse(comm, stall, stop_requested) as pulse:
        on_root(comm, lambda: _check(folder))
        found = compare(comm, pulse, Question(gallery, maps, mono, labels, region), settings)
        return on_root(comm, lambda: _publish(found, folder, pulse))


def _check(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{folder} cannot be written: name another folder with --out")


def _publish(found: Compared | None, folder: Path, pulse: Pulse) -> int:
    """Write and print the verdict, on rank 0. Returns the exit code."""
    assert found is not None
    paths = [*write_tables(found, folder), *draw_maps(found, folder, pulse.step)]
    for name, reason in found.left_out:
        print(f"skipped {name}: {reason}")
    for note in found.notes:
        print(f"note: {note}")
    print("\n".join([*report_lines(found), *(f"wrote {path}" for path in paths)]))
    return 3 if found.left_out else 0
