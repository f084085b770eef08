"""hpcseg count: objects, peaks of a detector's heat or patches of a map of classes."""

from __future__ import annotations

import os
from typing import Any

import click

from hpcseg.cli import Words
from hpcseg.cli.predict import mapping_options, say
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.gallery.predict import opener_of
from hpcseg.inference.options import Options
from hpcseg.mapping.run import exit_code
from hpcseg.mpi import on_root
from hpcseg.objects.count import count
from hpcseg.objects.search import Choice


@click.command("count")
@mapping_options
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), default=None,
              help="Least score that counts. Default: the model's; of patches none.")  # fmt: skip
@click.option("--distance", type=click.FloatRange(0), default=None, metavar="METRES",
              help="With a detector: least between two objects. Default: the model's.")  # fmt: skip
@click.option("--classes", default="", type=Words(str, "floe,pond"), metavar="NAME,...",
              help="With a model that labels pixels: whose patches are objects. Default: all classes but the first.")  # fmt: skip
@click.option("--min-area", type=click.FloatRange(0), default=0.0, metavar="M2", help="Likewise: the least area of a patch.")
@click.option("--pixel-size", type=click.FloatRange(0), default=0.0, metavar="METRES", help="Of scenes that do not say where they lie.")
@click.option("--density", type=click.FloatRange(0), default=0.0, metavar="METRES",
              help="Also write <scene>_density.tif: objects in each cell of this edge.")  # fmt: skip
@click.option("--sheet", type=click.IntRange(0, 1000), default=40, show_default=True, metavar="N",
              help="Show the N highest scores in sheet.png, for people to check; 0 = none.")  # fmt: skip
@click.pass_obj
def command(comm: Any, cache_mb: int, **arguments: Any) -> int:
    """Count objects in SCENES: points by a detector (hpcseg train --task points), or patches by a model that labels pixels. Run it again
    to resume.

    In the folder --out: points.gpkg and points.csv, a point an object with its score; counts.csv, by scene and class, with the number to
    expect where the model is calibrated, else the sum of the scores. Patches have their area and as size the diameter of a circle of that
    area, their score is their mean confidence; a detector's heat is as wide for small objects as for large ones and tells no size.
    """
    on_root(comm, _refuse_part)
    names = ("threshold", "distance", "classes", "min_area", "pixel_size", "density", "sheet")
    choice = Choice(**{name: arguments.pop(name) for name in names})
    options = Options(cache=cache_mb << 20, **arguments)
    counted = count(comm, options, choice, stop_requested, opener_of(options.model))
    if counted is not None:
        say(counted.summary)
        print("".join([*(f"wrote {path}\n" for path in counted.files), *(f"{line}\n" for line in counted.lines)]), end="")
    return exit_code(comm, counted and counted.summary)


def _refuse_part() -> None:
    """Refuse to be one of several jobs. Raises UsageError."""
    part = os.environ.get("HPCSEG_PART")
    if part:
        raise UsageError(f"HPCSEG_PART={part}: a count tells of all its scenes together: start one job, not an array, or unset it")
