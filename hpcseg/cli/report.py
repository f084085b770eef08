"""hpcseg report: a run as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import config_option, stall_option
from hpcseg.environment import stop_requested
from hpcseg.mpi import Pulse
from hpcseg.products.page import write_run_page


@click.command("report")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@stall_option
@config_option
@click.pass_obj
def command(comm: Any, directory: Path, stall: float) -> int:
    """Write DIRECTORY/report.html of a predict, label, count or train run: pictures, classes and areas, times, failures, provenance, and
    a paragraph on methods with its citations. It opens anywhere, without a network. Ranks share out the maps.
    """
    with Pulse(comm, stall, stop_requested) as pulse:
        path = write_run_page(comm, pulse, directory)
    if comm.rank == 0:
        print(f"wrote {path}")
    return 0
