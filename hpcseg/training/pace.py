"""How long a sample takes in training on this machine, without MPI: what `hpcseg submit` estimates from where no earlier run tells."""

from __future__ import annotations

import time

import torch

from hpcseg import device
from hpcseg.config import read_model
from hpcseg.errors import UsageError
from hpcseg.models import build, find_model
from hpcseg.models.network import SegmentationNetwork
from hpcseg.training.settings import Settings

_BATCH = 2


def make_outline(settings: Settings, bands: int) -> SegmentationNetwork:
    """The network that a run would train, without memory for its weights. Raises UsageError if it is none, or takes no such samples."""
    name, options = settings.network or "unet-light", settings.options
    if settings.init:
        spec = read_model(find_model(settings.init) / "model.toml")
        name, options = spec.network, spec.options
    with torch.device("meta"):
        network = build(name, bands, len(settings.classes), options, settings.task)
    if settings.tile % network.stride:
        raise UsageError(f"tile is {settings.tile}, wanted a multiple of the stride of {name}, {network.stride}")
    return network


def time_sample(settings: Settings, bands: int, threads: int) -> float:
    """Seconds of one sample of a small batch, forward and backward, with the threads of a rank, after a batch that is not counted."""
    where = device.choose()
    torch.set_num_threads(threads)
    network = make_outline(settings, bands).to_empty(device=where).train()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.01)
    batch = torch.randn((_BATCH, bands, settings.tile, settings.tile), device=where)
    begin = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        with torch.autocast(where.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = network(batch)
        logits.float().square().mean().backward()
        if where.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - begin) / _BATCH
