"""hpcseg label: teachers that label scenes without people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hpcseg.cli import Words, file_options, part_option, run_options, scene_options
from hpcseg.environment import stop_requested
from hpcseg.kernels.ice import Rule
from hpcseg.kernels.rays import MODES, Sfs
from hpcseg.kernels.sfs import FEATURES
from hpcseg.labels.before import any_before
from hpcseg.labels.ice import ice_teacher
from hpcseg.labels.index import COLORS, index_teacher
from hpcseg.labels.run import LabelOptions, label
from hpcseg.labels.shares import share_lines
from hpcseg.labels.teacher import Teacher
from hpcseg.labels.water import TEXTURE, WaterOptions, water_teacher
from hpcseg.mapping.report import report_lines
from hpcseg.mapping.run import exit_code


@click.group("label")
def command() -> None:
    """Label scenes by a rule: ice, water, or an index of two bands. Each has its own --help."""


def label_options(function: Callable) -> Callable:
    """What all teachers take."""
    for option in reversed((
        click.argument("scenes", nargs=-1, required=True),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the labels, <scene>.h5 each."),
        click.option("--mask", default="", metavar="FILE[:RULE]", help="Raster on the scenes' grid that says where data are: alpha, "
                     "transparent, nonzero, zero, =V, <V, <=V, >V, >=V. Default: alpha, else nonzero."),
        click.option("--core", type=click.IntRange(0), default=0, help="Edge of what a tile writes. Default: the teacher's."),
        scene_options,
        part_option,
        click.option("--overwrite", is_flag=True, help="Remove earlier labels of these scenes instead of resuming them."),
        file_options,
        run_options,
        click.pass_obj,
    )):  # fmt: skip
        function = option(function)
    return function


offset_option = click.option("--offset", type=float, default=None, help="Added to the stored values. Default: what the metadata say.")


def _run(comm: Any, teacher: Teacher, cache_mb: int, **reading: Any) -> int:
    """Label and print what came of it."""
    summary = label(comm, teacher, LabelOptions(cache=cache_mb << 20, **reading), stop_requested)
    if summary is not None:
        for name, window, reason in summary.failed:
            print(f"failed {name} {window}: {reason}")
        print("\n".join([*share_lines(summary), *report_lines(summary)]))
        if summary.stopped:
            print("stopped: run the same command again to resume")
    return exit_code(comm, summary)


@command.command("index")
@click.option("--median", type=click.IntRange(1), default=1, show_default=True, help="Edge of the square whose median is taken, odd.")
@click.option("--above", type=float, required=True, help="Class 1 is where (A - B) / (A + B) exceeds this.")
@click.option("--name", type=click.Choice(list(COLORS)), default="index", show_default=True, help="Name of class 1.")
@offset_option
@label_options
def index(comm: Any, median: int, above: float, name: str, offset: float | None, **reading: Any) -> int:
    """Label SCENES by the normalised difference of two bands, --bands A,B."""
    return _run(comm, index_teacher(name, median, above, offset), **reading)


@command.command("ice")
@click.option("--filter", "filtered", type=click.Choice(["none", "published", "default"]), default="default",
              show_default=True, help="Against thin cloud and shadow.")  # fmt: skip
@click.option("--water", type=click.IntRange(0, 254), default=Rule().water, show_default=True, help="Brightest open water, 0 to 255.")
@click.option("--thick", type=click.IntRange(1, 255), default=Rule().thick, show_default=True, help="Darkest thick ice.")
@click.option("--stretch", type=Words(float, "0,10000"), default=None, metavar="LOW,HIGH", help="Values that are black and white.")
@click.option("--filtered", "picture", is_flag=True, help="Also write the pictures without cloud and shadow: OUT/filtered/<scene>.tif.")
@offset_option
@label_options
def ice(
    comm: Any, filtered: Any, water: int, thick: int, stretch: tuple[float, ...] | None, picture: bool, offset: float | None, **reading: Any
) -> int:
    """Label sea ice in SCENES of red, green and blue: open water, thin ice, thick ice."""
    if stretch is not None and len(stretch) != 2:
        raise click.UsageError(f"--stretch {','.join(f'{v:g}' for v in stretch)}: wanted LOW,HIGH")
    pair = None if stretch is None else (stretch[0], stretch[1])
    return _run(comm, ice_teacher(filtered, Rule(water, thick), pair, offset, picture), **reading)


@command.command("water")
@click.option("--scale", type=click.Choice(["amplitude", "power", "db"]), required=True, help="What the values are.")
@click.option("--method", type=click.Choice(["amplitude", "sfs"]), default="amplitude",
              show_default=True, help="What is cut at the threshold.")  # fmt: skip
@click.option("--feature", type=click.Choice(list(FEATURES)), default="length", show_default=True, help="With sfs: which texture.")
@click.option("--sfs-mode", type=click.Choice(list(MODES)), default="paper", show_default=True, help="otb: as Orfeo ToolBox computes it.")
@click.option("--spectral", type=click.IntRange(1, 254), default=TEXTURE.spectral, show_default=True,
              help="With sfs: its spectral threshold.")  # fmt: skip
@click.option("--spatial", type=click.IntRange(1, 127), default=TEXTURE.spatial, show_default=True, help="With sfs: its reach in pixels.")
@click.option("--polarity", type=click.Choice(["auto", "below", "above"]), default="auto", show_default=True,
              help="Side of the threshold where water lies.")  # fmt: skip
@click.option("--db-per-unit", type=float, default=1.0, show_default=True, help="Of values in dB.")
@click.option("--fallback", type=float, default=None, help="Threshold where the scene gives none.")
@click.option("--speckle", type=click.Choice(["none", "lee"]), default="none", show_default=True,
              help="Filter that comes first.")  # fmt: skip
@click.option("--looks", type=float, default=4.4, show_default=True, help="With lee: looks of the values.")
@click.option("--speckle-radius", type=int, default=2, show_default=True, help="With lee: of its square, in pixels.")
@click.option("--doubt", type=float, default=0.0, show_default=True, metavar="SHARE", help="Share of the levels on either side of the "
              "threshold that stays unlabelled: for training.")  # fmt: skip
@click.option("--before", default=None, metavar="SCENES", help="The scene before the flood, or a folder of such by name: tells flood from "
              "permanent water. A manifest's column before comes first.")  # fmt: skip
@label_options
def water(comm: Any, sfs_mode: str, spectral: int, spatial: int, before: str | None, **arguments: Any) -> int:
    """Label open water in radar SCENES of one band, by a threshold that is the scene's own."""
    names = ("scale", "method", "feature", "polarity", "db_per_unit", "fallback", "speckle", "looks", "speckle_radius", "doubt")
    own = {name: arguments.pop(name) for name in names}
    if before is None and any_before(comm, arguments["scenes"], arguments["assets"]):
        before = ""
    settings = Sfs(spectral=spectral, spatial=spatial, mode=sfs_mode)
    return _run(comm, water_teacher(WaterOptions(**own, sfs=settings), before), **arguments)
