"""hpcseg stats: statistics of scenes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from hpcseg.cli import Words, config_option, scene_options, stall_option, threads_option
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.mapping.options import MapOptions
from hpcseg.mapping.settle import open_scenes
from hpcseg.mpi import Pulse, on_root
from hpcseg.raster import list_scenes
from hpcseg.statistics import count_scenes, line_of, tabulate, write_table


@click.command("stats")
@click.argument("scenes", nargs=-1, required=True)
@scene_options
@click.option(
    "--percentiles",
    default="1,2,50,98,99",
    type=Words(float, "2,50,98"),
    metavar="P,...",
    show_default=True,
    help="The lowest values that so many % of the valid pixels do not exceed.",
)
@click.option(
    "--above", type=float, default=None, metavar="T", help="Share and mean of the pixels above T, and the mean with the rest set to 0."
)
@click.option("--histogram", type=click.IntRange(1), default=None, metavar="BINS", help="Counts in at most so many bins, into --out.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="All of it as .json; as .csv the histogram if there is one, else a table.",
)
@threads_option
@stall_option
@config_option
@click.pass_obj
def command(
    comm: Any, percentiles: tuple[float, ...], above: float | None, histogram: int | None, out: Path | None, **arguments: Any
) -> int:
    """Mean, deviation, extremes and percentiles of each band of SCENES, and of all scenes pooled, exact for any number of ranks."""
    options = MapOptions(**arguments)
    on_root(comm, lambda: _check(percentiles, above, histogram, out))
    with Pulse(comm, options.stall, stop_requested) as pulse:
        entries = on_root(comm, lambda: list_scenes(options.scenes, options.assets))
        scenes, refused = open_scenes(comm, entries, options)
        counts, failures = count_scenes(comm, pulse, scenes, options.nodata_rule, above, options.threads, options.cache)

    def report() -> None:
        for name, reason in refused:
            print(f"skipped {name}: {reason}")
        for text in failures:
            print(f"failed {text}")
        table = list(tabulate(scenes, counts, percentiles, histogram or 0))
        for row in table:
            print(line_of(row))
        if out is not None:
            write_table(out, table)
            print(f"wrote {out}")

    on_root(comm, report)
    return 3 if refused or failures else 0


def _check(percentiles: tuple[float, ...], above: float | None, histogram: int | None, out: Path | None) -> None:
    """Refuse what does not fit together. Raises UsageError."""
    if wrong := [p for p in percentiles if not 0 <= p <= 100]:
        raise UsageError(f"--percentiles {wrong[0]:g}: wanted 0 to 100")
    if above is not None and not math.isfinite(above):
        raise UsageError(f"--above {above}: wanted a number")
    if histogram and out is None:
        raise UsageError(f"--histogram {histogram}: wanted --out FILE.csv or FILE.json to write it to")
    if out is not None and out.suffix not in (".csv", ".json"):
        raise UsageError(f"--out {out}: wanted a name that ends in .csv or .json")
