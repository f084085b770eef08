"""hpcseg synth: synthetic scenes with truth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from hpcseg import synthetic
from hpcseg.cli import config_option


def _size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """Height and width, from "4000x3000", or from "4000" for both."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
    if not found:
        raise click.BadParameter(f"{value!r}: wanted HEIGHTxWIDTH, such as 4000x3000")
    return int(found[1]), int(found[2] or found[1])


@click.command("synth")
@click.argument("kind", type=click.Choice(["ice"]))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--size", default="4000x4000", show_default=True, callback=_size, metavar="HEIGHTxWIDTH", help="Pixels of a scene.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Number of scenes.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Other scenes for each seed, the same for the same.")
@click.option("--swath", is_flag=True, help="Tilted within its frame: the corners hold no data.")
@click.option("--clouds", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True, help="Share under thin cloud.")
@click.option("--ponds", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True, help="Share of thick ice under ponds.")
@click.option("--scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Size of floes; 1 = up to 4 km.")
@click.option("--degrade", is_flag=True, help="As poorer cameras see them: blur, gamma, exposure, colour cast, haze, noise.")
@config_option
@click.pass_obj
def command(comm: Any, kind: str, directory: Path, size: tuple[int, int], count: int, seed: int, **look: Any) -> int:
    """Write scenes of a KIND and their truth into DIRECTORY and DIRECTORY/truth."""
    for path in synthetic.ice(directory, count, *size, seed, **look):
        print(f"wrote {path}")
    return 0
