"""Train the sea-ice model that hpcseg ships, on synthetic scenes: python run/make_ice_model.py (8 minutes on one core)."""

import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from hpcseg.config import Class, ModelSpec, Normalisation, encode_toml
from hpcseg.models.unet import UNet
from hpcseg.synthetic import IceScene
from hpcseg.tiles import Window

ZOO = Path(__file__).resolve().parent.parent / "hpcseg" / "models" / "zoo" / "sea-ice"
MEAN, STD = [125.0, 132.0, 138.0], [84.0, 80.0, 76.0]
LEGEND = {"open water": "#0b3d66", "thin ice": "#7fb2d6", "thick ice": "#f4f8fb"}
ABOUT = "Sea ice in visible light (RGB u8). Trained on synthetic scenes only. On held-out scenes "
STEPS, BATCH, EDGE, HELD_OUT = 640, 6, 192, 900_000


def patch(rng: np.random.Generator, seed: int) -> tuple[Tensor, Tensor]:
    """A window of a synthetic scene, f32 (3, EDGE, EDGE) in grey values, and its truth, i64 (EDGE, EDGE)."""
    scale = float(np.exp(rng.uniform(np.log(0.35), np.log(4.0))))
    scene = IceScene(seed, 0, 40_000, 40_000, scale, clouds=rng.uniform(0.0, 0.25), ponds=rng.uniform(0.01, 0.3))
    picture, truth = scene.block(Window(*rng.integers(0, 39_000, 2).tolist(), EDGE, EDGE))
    return torch.from_numpy(picture).float(), torch.from_numpy(truth).long()


def degrade(x: Tensor, rng: np.random.Generator) -> Tensor:
    """What cameras, exposures and air do to a picture f32 (3, h, w): blur, gamma, colour cast, exposure, haze, noise."""
    if rng.random() < 0.5:
        x = nn.functional.avg_pool2d(nn.functional.pad(x[None], (1, 1, 1, 1), "reflect"), 3, 1)[0]
    x = 255 * (x / 255) ** rng.uniform(0.75, 1.3) * rng.uniform(0.74, 1.06)
    x = x * torch.tensor(rng.uniform(0.95, 1.05, (3, 1, 1)), dtype=torch.float32)
    haze, air = rng.uniform(0, 0.28) * rng.integers(0, 2), torch.tensor(rng.uniform([150, 185, 205], [215, 225, 235]))
    x = x * (1 - haze) + haze * air.float()[:, None, None]
    return (x + torch.from_numpy(rng.normal(0, rng.uniform(0, 3), x.shape).astype(np.float32))).clamp(1, 255).round()


def batch(rng: np.random.Generator, seeds: list[int], spoil: bool) -> tuple[Tensor, Tensor]:
    """Normalised pictures (N, 3, EDGE, EDGE) and truths (N, EDGE, EDGE), flipped and, if asked, degraded at random."""
    pairs = [patch(rng, seed) for seed in seeds]
    x = torch.stack([degrade(picture, rng) if spoil else picture for picture, _ in pairs])
    y = torch.stack([truth for _, truth in pairs])
    turns, flip = int(rng.integers(4)), [-1] if rng.random() < 0.5 else []
    x, y = (torch.rot90(t, turns, (-2, -1)).flip(flip) for t in (x, y))
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None], y


def train(network: nn.Module) -> None:
    """AdamW with one cycle of the learning rate; cross entropy in which thin ice, the rarest, counts twice."""
    rng, start = np.random.default_rng(0), time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS, pct_start=0.2)
    criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 1.0]))
    for step in range(STEPS):
        x, y = batch(rng, rng.integers(HELD_OUT, size=BATCH).tolist(), spoil=True)
        loss = criterion(network(x.to(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            print(f"step={step} loss={loss.item():.4f} seconds={time.perf_counter() - start:.0f}", flush=True)


def validate(network: nn.Module, spoil: bool) -> str:
    """Accuracy and IoU per class on seeds that training never saw."""
    rng, counts = np.random.default_rng(1), torch.zeros(9, dtype=torch.int64)
    with torch.inference_mode():
        for first in range(HELD_OUT, HELD_OUT + 12 * BATCH, BATCH):
            x, y = batch(rng, list(range(first, first + BATCH)), spoil)
            counts += torch.bincount((3 * y + network(x).argmax(1)).ravel(), minlength=9)
    table, hits = counts.reshape(3, 3), counts[::4]
    iou = " ".join(f"{value:.3f}" for value in hits / (table.sum(0) + table.sum(1) - hits))
    return f"accuracy {hits.sum() / counts.sum():.3f}, IoU {iou}"


if __name__ == "__main__":
    torch.manual_seed(0)
    unet = UNet(3, 3, down=[16, 32, 64, 128, 128], up=[64, 32, 16, 16]).to(memory_format=torch.channels_last)
    train(unet)
    about = f"{ABOUT}as made: {validate(unet.eval(), False)}; degraded: {validate(unet, True)}."
    print(about)
    classes, norm = [Class(name=name, color=color) for name, color in LEGEND.items()], Normalisation(mean=MEAN, std=STD)
    spec = ModelSpec(network="unet-light", bands=3, classes=classes, normalisation=norm, description=about)
    save_file({name: value.contiguous() for name, value in unet.state_dict().items()}, ZOO / "weights.safetensors")
    (ZOO / "model.toml").write_bytes(encode_toml(spec))
