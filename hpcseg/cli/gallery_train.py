"""hpcseg gallery train: a network for each bucket of a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli.train import settings_of, training_options
from hpcseg.environment import stop_requested
from hpcseg.gallery.jobs import Order
from hpcseg.gallery.train import train_gallery
from hpcseg.gallery.verdicts import verdict_lines
from hpcseg.training.train import exit_code


@click.command("train")
@click.argument("gallery", type=click.Path(path_type=Path))
@click.option("--application", required=True, metavar="NAME", help="What the networks are for: the name of their folder in GALLERY.")
@click.option("--init-from-mono/--from-scratch", "from_mono", default=True, show_default=True,
              help="Train the model of all samples first and begin the buckets' networks with it, or all of them at once.")  # fmt: skip
@click.option("--min-samples", type=click.IntRange(1), default=16, show_default=True,
              help="Train samples that a bucket needs for a network of its own; else the model of all samples maps it.")  # fmt: skip
@training_options
def train(comm: Any, gallery: Path, application: str, from_mono: bool, min_samples: int, **flags: Any) -> int:
    """Train a network for each bucket of GALLERY, and one of all samples, at once, as CONFIG, a TOML file, says; flags win.

    Ranks divide over the networks by their samples. A sample belongs to the bucket of the cell that it lies in: run `hpcseg gallery
    assign` on the scenes before. A bucket keeps its network where that is better on its validation samples than the model of all; else the
    latter maps it. Run it again to resume."""
    settings = settings_of(comm, out=str(gallery / application), **flags)
    report = train_gallery(comm, Order(gallery, application, settings, from_mono, min_samples), stop_requested)
    if report is not None and report.stopped:
        print("stopped: run the same command again to resume")
    elif report is not None:
        print("\n".join([*verdict_lines(report.verdicts), f"ranks={report.ranks}", f"averaging={report.averaging}",
                         f"wall={report.wall:.1f} s"]))  # fmt: skip
    return exit_code(comm, report)
