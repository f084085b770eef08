"""hpcseg count: objects, from the heat of a detector."""

from __future__ import annotations

from typing import Any

import click

from hpcseg.cli.predict import mapping_options, say
from hpcseg.environment import stop_requested
from hpcseg.gallery.predict import opener_of
from hpcseg.inference.options import Options
from hpcseg.mapping.run import exit_code
from hpcseg.objects.count import Choice, count


@click.command("count")
@mapping_options
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), default=None,
              help="Least score that counts. Default: the model's.")  # fmt: skip
@click.option("--distance", type=click.FloatRange(0), default=None, metavar="METRES",
              help="Least between two objects. Default: the model's.")  # fmt: skip
@click.option("--pixel-size", type=click.FloatRange(0), default=0.0, metavar="METRES", help="Of scenes that do not say where they lie.")
@click.option("--density", type=click.FloatRange(0), default=0.0, metavar="METRES",
              help="Also write <scene>_density.tif: objects in each cell of this edge.")  # fmt: skip
@click.option("--sheet", type=click.IntRange(0, 1000), default=40, show_default=True, metavar="N",
              help="Show the N highest scores in sheet.png, for people to check; 0 = none.")  # fmt: skip
@click.pass_obj
def command(comm: Any, cache_mb: int, **arguments: Any) -> int:
    """Count objects in SCENES with a detector (hpcseg train --task points). Run it again to resume.

    In the folder --out: points.gpkg and points.csv, a point an object; counts.csv, by scene and class, with the number to expect where the
    model is calibrated, else the sum of the scores.
    """
    choice = Choice(*(arguments.pop(name) for name in ("threshold", "distance", "pixel_size", "density", "sheet")))
    options = Options(cache=cache_mb << 20, **arguments)
    counted = count(comm, options, choice, stop_requested, opener_of(options.model))
    if counted is not None:
        say(counted.summary)
        print("".join([*(f"wrote {path}\n" for path in counted.files), *(f"{line}\n" for line in counted.lines)]), end="")
    return exit_code(comm, counted and counted.summary)
