"""hpcseg predict: the main job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hpcseg.cli import file_options, part_option, run_options, scene_options
from hpcseg.environment import stop_requested
from hpcseg.gallery.predict import opener_of
from hpcseg.inference.options import Options
from hpcseg.inference.predict import predict
from hpcseg.mapping.report import Summary, report_lines
from hpcseg.mapping.run import exit_code


def mapping_options(command: Callable) -> Callable:
    """The options of all commands that map scenes with a model."""
    for option in reversed((
        click.argument("scenes", nargs=-1, required=True),
        click.option("--model", required=True,
                     help="A shipped model's name, a model folder, a .pt2 or TorchScript file, or a model gallery."),
        click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the prediction files, <scene>.h5 each."),
        click.option("--core", type=click.IntRange(0), default=0, help="Edge of what a tile writes. Default 1024."),
        click.option("--halo", type=click.IntRange(-1), default=-1,
                     help="What a tile reads beyond its core; default: what the network needs."),
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True),
        scene_options,
        click.option("--any-network", is_flag=True, help="Map with a network whose result depends on where tiles lie."),
        click.option("--any-resolution", is_flag=True, help="Map scenes whose resolution is not the model's."),
        click.option("--resample", is_flag=True, help="Read scenes of another resolution at the model's."),
        click.option("--overwrite", is_flag=True, help="Remove earlier maps of these scenes instead of resuming them."),
        click.option("--compile", is_flag=True, help="torch.compile the network."),
        click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Windows a forward pass on a GPU."),
        click.option("--gallery-memory", type=click.IntRange(1), default=2000, show_default=True,
                     help="MB that the networks of a gallery take at most on a rank; fewer mean that they are loaded again."),
        file_options,
        run_options,
    )):  # fmt: skip
        command = option(command)
    return command


@click.command("predict")
@click.option("--confidence", is_flag=True, help="Also write the probability of each label.")
@click.option("--probability", default="", metavar="CLASS", help="Write that class's probability into /confidence.")
@part_option
@mapping_options
@click.pass_obj
def command(comm: Any, cache_mb: int, **arguments: Any) -> int:
    """Map SCENES (files, globs, folders, manifests, a.tif+b.tif) with a model. Run it again to resume."""
    options = Options(cache=cache_mb << 20, **arguments)
    summary = predict(comm, options, stop_requested, opener_of(options.model))
    if summary is not None:
        say(summary)
    return exit_code(comm, summary)


def say(summary: Summary) -> None:
    """Print how a run went."""
    for name, window, reason in summary.failed:
        print(f"failed {name} {window}: {reason}")
    print("\n".join(report_lines(summary)))
    if summary.stopped:
        print("stopped: run the same command again to resume")
