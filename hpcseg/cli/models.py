"""hpcseg models: what there is to map with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import config_option
from hpcseg.errors import UsageError
from hpcseg.models import NETWORKS, init_foreign, load_model, shipped_models
from hpcseg.models.cost import operations_per_pixel, outline, trainable_parameters


@click.command("models")
@click.argument("words", nargs=-1, metavar="[NAME | init FILE]")
@click.option("--bands", type=click.IntRange(1), default=3, show_default=True, help="Input bands, for networks and for init.")
@click.option("--classes", type=click.IntRange(2), default=2, show_default=True, help="Classes, for networks.")
@config_option
@click.pass_obj
def command(comm: Any, words: tuple[str, ...], bands: int, classes: int) -> int:
    """List networks and shipped models, describe one of either, or write a model.toml for a .pt2 or TorchScript FILE.

    Listed are trainable parameters, halo, stride, and operations for each pixel of a window: a multiplication and an addition are two.
    """
    if words[:1] == ("init",):
        if len(words) != 2:
            raise UsageError("wanted: hpcseg models init FILE")
        path = init_foreign(Path(words[1]), bands)
        print(f"wrote {path}: complete its classes and normalisation, then predict with --model {words[1]}")
        return 0
    names = words or (*NETWORKS, *shipped_models())
    for name in names:
        print(_line(name, bands, classes))
    return 0


def _line(name: str, bands: int, classes: int) -> str:
    if name in NETWORKS:
        network = outline(name, bands, classes)
        cost, parameters = operations_per_pixel(network, bands), trainable_parameters(network)
        halo, stride, what = network.aligned_halo, network.stride, NETWORKS[name].summary
        kind = f"network  bands={bands} classes={classes}"
    else:
        model = load_model(name)
        halo, stride, what, bands = model.halo, model.stride, model.spec.description, model.spec.bands
        cost = operations_per_pixel(model.network, bands, model.window or 256)
        parameters = trainable_parameters(model.network)
        kind = f"model ({model.spec.network})  bands={bands} classes={', '.join(c.name for c in model.spec.classes)}"
    numbers = f"parameters={parameters}  halo={halo} px  stride={stride} px  cost={cost / 1e3:.1f} kFLOP/px"
    return f"{name}: {kind}  {numbers}  {what}".rstrip()
