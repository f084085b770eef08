"""hpcseg train: a model from scenes and labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hpcseg.cli import Words, stall_option, threads_option
from hpcseg.environment import stop_requested
from hpcseg.kernels.filters import FILTERS
from hpcseg.mpi import on_root
from hpcseg.training.settings import Settings, read_settings
from hpcseg.training.train import exit_code, report_lines, train


def training_options(function: Callable) -> Callable:
    """What a training run is told, but where it writes; read by `settings_of`."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed((
        click.argument("config", required=False, type=file),
        click.option("--config", "config_flag", type=file, help="The same as CONFIG."),
        click.option("--scenes", multiple=True, help="Files, globs, folders, manifests; may be given several times."),
        click.option("--labels", multiple=True, help="Labels: rasters, vector files, maps; pair with the scenes by id or stem."),
        click.option("--task", type=click.Choice(["classes", "points"]),
                     help="Label pixels, or find objects: labels are then points or boxes."),
        click.option("--sigma", type=click.FloatRange(0, min_open=True),
                     help="Of points: how far an object's heat reaches, in metres; about a quarter of its size."),
        click.option("--pixel-size", type=click.FloatRange(0), help="Of points: metres of a pixel of scenes that do not say it."),
        click.option("--classes", type=Words(str, "other,building"), metavar="NAME,...", help="Names of the classes, class 0 first."),
        click.option("--model", "network", help="The network: see hpcseg models."),
        click.option("--init", help="A model to start from."),
        click.option("--encoder-weights", help="A file of encoder weights in torchvision's layout."),
        click.option("--freeze", type=click.Choice(["encoder"]), help="What is not trained."),
        click.option("--resolution", type=click.FloatRange(0), help="Read the scenes resampled to this pixel size."),
        click.option("--prefilter", type=click.Choice(list(FILTERS)),
                     help="What scenes pass first: a filter against thin cloud over sea ice."),
        click.option("--tile", type=click.IntRange(1), help="Edge of a sample in pixels."),
        click.option("--block", type=click.IntRange(0),
                     help="Edge in pixels of what is dealt out to train, validation and test; 0 = scenes."),
        click.option("--epochs", type=click.IntRange(1)),
        click.option("--batch", type=click.IntRange(1), help="Samples of a step, over all ranks."),
        click.option("--rate", type=float, help="Learning rate."),
        click.option("--seed", type=int),
        click.option("--precision", type=click.Choice(["fp32", "bf16"])),
        click.option("--averaging", type=click.Choice(["auto", "horovod", "torch"]), help="What adds gradients up over ranks."),
        click.option("--readers", type=click.IntRange(1), help="Threads that prepare batches."),
        click.option("--overwrite", is_flag=True, default=None, help="Start anew where an earlier run left its results."),
        threads_option,
        stall_option,
        click.pass_obj,
    )):  # fmt: skip
        function = option(function)
    return function


def settings_of(comm: Any, **flags: Any) -> Settings:
    """What `read_flags` gives, on every rank. Collective. Raises UsageError."""
    return on_root(comm, lambda: read_flags(**flags))


def read_flags(config: Path | None, config_flag: Path | None, **flags: Any) -> Settings:
    """The settings of a configuration and of the flags that were given. Raises UsageError."""
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in flags.items() if value not in (None, ())}
    source = click.get_current_context().get_parameter_source
    defaults = {key: given.pop(key) for key in ("threads", "stall") if source(key) is not ParameterSource.COMMANDLINE}
    return read_settings(config or config_flag, given, defaults)


@click.command("train")
@click.option("--out", type=click.Path(), help="Folder of the model, its checkpoint and its curves.")
@training_options
def command(comm: Any, **flags: Any) -> int:
    """Train a model as CONFIG, a TOML file, says; flags win. Run it again to resume."""
    settings = settings_of(comm, **flags)
    outcome = train(comm, settings, stop_requested)
    if outcome is not None:
        print("\n".join(report_lines(settings, outcome)))
        if outcome.stopped:
            print("stopped: run the same command again to resume")
    return exit_code(comm, outcome)
