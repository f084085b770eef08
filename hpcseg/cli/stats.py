"""hpcseg stats: statistics of scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import config_option, scene_options, stall_option, threads_option
from hpcseg.environment import stop_requested
from hpcseg.inference.options import Options
from hpcseg.inference.prepare import open_scenes
from hpcseg.mpi import Pulse, on_root
from hpcseg.raster import list_scenes
from hpcseg.statistics import statistics

_PERCENTILES = (1.0, 2.0, 50.0, 98.0, 99.0)


@click.command("stats")
@click.argument("scenes", nargs=-1, required=True)
@scene_options
@threads_option
@stall_option
@config_option
@click.pass_obj
def command(comm: Any, **arguments: Any) -> int:
    """Mean, deviation, extremes and percentiles of each band of SCENES, exact for any number of ranks."""
    options = Options(model="", out=Path(), **arguments)
    with Pulse(comm, options.stall, stop_requested) as pulse:
        entries = on_root(comm, lambda: list_scenes(options.scenes, options.assets))
        found, refused = open_scenes(comm, entries, options, None)
        results, failures = statistics(comm, pulse, found, options.nodata_rule, _PERCENTILES, options.threads, options.cache)
    if comm.rank == 0:
        for name, reason in refused:
            print(f"skipped {name}: {reason}")
        for text in failures:
            print(f"failed {text}")
        for scene, bands in zip(found, results, strict=True):
            for number, band in zip(scene.bands, bands, strict=True):
                shares = " ".join(f"p{p:g}={v:.6g}" for p, v in zip(_PERCENTILES, band.percentiles, strict=True))
                print(f"{scene.name} band {number}: count={band.count} mean={band.mean:.9g} std={band.deviation:.9g} "
                      f"min={band.minimum:.6g} max={band.maximum:.6g} {shares}")  # fmt: skip
    return 3 if refused or failures else 0
