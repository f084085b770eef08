"""hpcseg synth: synthetic scenes with truth."""

from __future__ import annotations

import re
from collections.abc import Callable
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


def _common(command: Callable) -> Callable:
    """What all kinds of scenes take."""
    for option in reversed((
        click.argument("directory", type=click.Path(file_okay=False, path_type=Path)),
        click.option("--size", default="4000x4000", show_default=True, callback=_size, metavar="HEIGHTxWIDTH", help="Pixels of a scene."),
        click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Number of scenes."),
        click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Other scenes for each seed."),
        click.option("--swath", is_flag=True, help="Tilted within its frame: the corners hold no data."),
        config_option,
    )):  # fmt: skip
        command = option(command)
    return command


def _share(name: str, default: float, text: str) -> Callable:
    return click.option(name, type=click.FloatRange(0, 1, max_open=True), default=default, show_default=True, help=text)


def _write(kind: Callable[..., list[Path]], directory: Path, size: tuple[int, int], count: int, seed: int, **look: Any) -> int:
    """Write scenes of a kind and say which files there are."""
    for path in kind(directory, count, *size, seed, **look):
        print(f"wrote {path}")
    return 0


class Kinds(click.Group):
    """The kinds of scenes, as commands of their own; another kind is refused with the valid ones."""

    def resolve_command(self, context: click.Context, words: list[str]) -> Any:
        if words[0] not in self.commands and not words[0].startswith("-"):
            raise click.UsageError(f"no kind of scenes {words[0]!r}; wanted one of {', '.join(self.commands)}")
        return super().resolve_command(context, words)


@click.group("synth", cls=Kinds, no_args_is_help=False)
def command() -> None:
    """Write scenes of a kind and their truth into DIRECTORY and DIRECTORY/truth."""


@command.command("ice")
@_common
@_share("--clouds", 0.1, "Share under thin cloud.")
@_share("--ponds", 0.0, "Share of thick ice under ponds.")
@click.option("--scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Size of floes; 1 = up to 4 km.")
@click.option(
    "--lead-width",
    type=click.FloatRange(0),
    default=0.0,
    metavar="PX",
    help="Closed pack ice with leads and fields of thin ice of about this width, such as 20 to 800, in place of floes.",
)
@click.option("--degrade", is_flag=True, help="As poorer cameras see them: blur, gamma, exposure, colour cast, haze, noise.")
def ice(**words: Any) -> int:
    """Sea ice in visible light, RGB u8; truth 0 open water, 1 thin ice, 2 thick ice, 255 no data."""
    return _write(synthetic.ice, **words)


@command.command("sar")
@_common
@_share("--water", 0.05, "Share of the valid pixels under rivers and lakes.")
@_share("--flood", 0.0, "Share flooded besides; the scene before it goes to DIRECTORY/before.")
@_share("--wind", 0.3, "Share of the water that wind makes rougher and brighter.")
@_share("--shadow", 0.02, "Share in radar shadow, dark as water.")
@click.option("--looks", type=click.FloatRange(1), default=4.4, show_default=True, help="Looks of the speckle; 1 is the roughest.")
@click.option("--scale", type=click.Choice(["amplitude", "power", "db"]), default="power", show_default=True, help="Scale of the values.")
def sar(**words: Any) -> int:
    """Radar backscatter (C band, VV) of a river landscape, f32; truth 0 dry, 1 permanent water, 2 flood, 255 no data.

    A swath has near-zero border noise along its edges, which is no data in the truth; no data itself is 0.
    """
    return _write(synthetic.sar, **words)


@command.command("buildings")
@_common
@_share("--settled", 0.7, "Share of districts with streets and houses; the others are fields.")
@_share("--woods", 0.2, "Share of open ground under trees.")
@click.option("--pixel", type=click.FloatRange(0.05, 2), default=0.4, show_default=True, metavar="METRES", help="Edge of a pixel.")
def buildings(**words: Any) -> int:
    """Towns in visible light, RGB u8; truth 0 open, 1 building, 255 no data."""
    return _write(synthetic.buildings, **words)


@command.command("animals")
@_common
@click.option("--density", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of animals; 1 = some 60 in a hectare.")
@click.option("--lookalikes", type=click.FloatRange(0, 1), default=1.0, show_default=True,
              help="Melt holes, blocks of ice and shadows; 1 = some 110 in a hectare.")  # fmt: skip
@click.option("--pixel", type=click.FloatRange(0.05, 1), default=0.2, show_default=True, metavar="METRES", help="Edge of a pixel.")
def animals(**words: Any) -> int:
    """Animals along cracks in sea ice, RGB u8, among what resembles them; truth are points: truth/*.geojson, and animals.csv of all."""
    return _write(synthetic.animals, **words)
