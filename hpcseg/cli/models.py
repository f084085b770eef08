"""hpcseg models: what there is to map with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from torch import nn

from hpcseg.cli import config_option
from hpcseg.errors import UsageError
from hpcseg.models import NETWORKS, build, init_foreign, load_model, shipped_models
from hpcseg.models.cost import operations_per_pixel, trainable_parameters


@click.command("models")
@click.argument("words", nargs=-1, metavar="[NAME | init FILE]")
@click.option("--bands", type=click.IntRange(1), default=3, show_default=True, help="Input bands, for networks and for init.")
@click.option("--classes", type=click.IntRange(2), default=2, show_default=True, help="Classes, for networks.")
@config_option
@click.pass_obj
def command(comm: Any, words: tuple[str, ...], bands: int, classes: int) -> int:
    """List networks and shipped models, describe one of either, or write a model.toml for a .pt2 or TorchScript FILE."""
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
        own = build(name, bands, classes)
        network: nn.Module = own
        halo, what = own.aligned_halo, NETWORKS[name].summary
        kind = f"network  bands={bands} classes={classes}"
    else:
        model = load_model(name)
        network, halo, what = model.network, model.halo, model.spec.description
        bands = model.spec.bands
        kind = f"model ({model.spec.network})  bands={bands} classes={', '.join(c.name for c in model.spec.classes)}"
    cost = operations_per_pixel(network, bands)
    return f"{name}: {kind}  parameters={trainable_parameters(network)}  halo={halo} px  cost={cost / 1e3:.1f} kFLOP/px  {what}".rstrip()
