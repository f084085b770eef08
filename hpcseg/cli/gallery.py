"""hpcseg gallery: an archive's cells in buckets, and a network for each bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hpcseg.cli import run_options, scene_options
from hpcseg.cli.gallery_evaluate import evaluate
from hpcseg.cli.gallery_train import train
from hpcseg.cli.gallery_views import search, show
from hpcseg.environment import stop_requested
from hpcseg.gallery import assign as assigning
from hpcseg.gallery import build as building
from hpcseg.gallery.encoder import EncoderSettings
from hpcseg.gallery.hashing import HashSettings

folder_argument = click.argument("gallery", type=click.Path(path_type=Path))


@click.group("gallery", no_args_is_help=False)
def command() -> None:
    """Sort an archive's cells into buckets by a binary code, and use them. Each has its own --help."""


command.add_command(search)
command.add_command(show)
command.add_command(evaluate)
command.add_command(train)


def reading_options(function: Callable) -> Callable:
    """How scenes are read and cells computed."""
    for option in reversed((
        scene_options,
        click.option("--mask", default="", metavar="FILE[:RULE]", help="Raster on the scenes' grid that says where data are."),
        click.option("--core", type=click.IntRange(0), default=0, help="Edge of what is read at once: whole cells. Default: about 512."),
        run_options,
        click.pass_obj,
    )):  # fmt: skip
        function = option(function)
    return function


@command.command("build")
@click.argument("scenes", nargs=-1, required=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the gallery.")
@click.option("--cell", type=click.IntRange(1), default=512, show_default=True, help="Edge in pixels of the squares that have a code.")
@click.option("--reduce", type=click.IntRange(1), default=4, show_default=True, help="Cells are averaged so many times before the encoder.")
@click.option("--sample", type=click.IntRange(1, 20000), default=2000, show_default=True, help="Cells that the buckets are built from.")
@click.option("--held", type=click.FloatRange(0, 0.9), default=0.2, show_default=True, help="Share of them that judges instead.")
@click.option("--buckets", type=click.IntRange(0, 253), default=0, help="Number of buckets. Default: at the knee.")
@click.option("--max-buckets", type=click.IntRange(2, 253), default=24, show_default=True, help="Largest number that is looked at.")
@click.option("--max-distance", type=click.IntRange(-1, 64), default=-1, help="Bits from the nearest centroid beyond which a cell is the "
              "mono model's. Default: what 99.9 % of the sample keep within.")  # fmt: skip
@click.option("--encoder", default="", help="A model whose encoder gives the features. Default: one is trained.")
@click.option("--bits", type=click.IntRange(1, 64), default=64, show_default=True, help="Of a code.")
@click.option("--epochs", type=click.IntRange(0), default=EncoderSettings().epochs, show_default=True, help="Of the encoder.")
@click.option("--hash-steps", type=click.IntRange(1), default=HashSettings().steps, show_default=True, help="Of the hashing network.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the sample and all weights.")
@click.option("--averaging", type=click.Choice(["auto", "horovod", "torch"]), default="auto", help="What adds gradients up over ranks.")
@click.option("--overwrite", is_flag=True, help="Build anew where a gallery is already.")
@reading_options
def build(comm: Any, cache_mb: int, bits: int, epochs: int, hash_steps: int, seed: int, **arguments: Any) -> int:
    """Find the buckets of an archive, SCENES (files, globs, folders, manifests), and put each of its cells into one."""
    training, hashing = EncoderSettings(epochs=epochs, seed=seed), HashSettings(bits=bits, steps=hash_steps, seed=seed)
    options = building.BuildOptions(cache=cache_mb << 20, seed=seed, training=training, hashing=hashing, **arguments)
    built, assigned = building.build(comm, options, stop_requested)
    _say(comm, [*building.report_lines(built), *assigning.report_lines(assigned)])
    return assigned.exit_code


@command.command("assign")
@folder_argument
@click.argument("scenes", nargs=-1, required=True)
@click.option("--overwrite", is_flag=True, help="Replace scenes that the gallery holds already.")
@reading_options
def assign(comm: Any, cache_mb: int, **arguments: Any) -> int:
    """Put the cells of more SCENES into the buckets of GALLERY. Run it again to resume."""
    assigned = assigning.assign(comm, assigning.AssignOptions(cache=cache_mb << 20, **arguments), stop_requested)
    _say(comm, assigning.report_lines(assigned))
    return assigned.exit_code


def _say(comm: Any, lines: list[str]) -> None:
    if comm.rank == 0:
        print("\n".join(lines))
