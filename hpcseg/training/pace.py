"""How long a sample takes in training on this machine, without MPI: what `hpcseg submit` estimates from where no earlier run tells."""

from __future__ import annotations

import time

import torch

from hpcseg import device
from hpcseg.config import read_model
from hpcseg.models import build, find_model
from hpcseg.training.settings import Settings


def time_sample(settings: Settings, bands: int, threads: int) -> float:
    """Seconds of one sample forward and backward, with the threads of a rank, after one that is not counted."""
    network, options = settings.network or "unet-light", settings.options
    if settings.init:
        spec = read_model(find_model(settings.init) / "model.toml")
        network, options = spec.network, spec.options
    where = device.choose()
    torch.set_num_threads(threads)
    made = build(network, bands, len(settings.classes), options, settings.task).to(where).train()
    batch = torch.randn((1, bands, settings.tile, settings.tile), device=where)
    begin = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        with torch.autocast(where.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            logits = made(batch)
        logits.float().square().mean().backward()
        if where.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - begin
