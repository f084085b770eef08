"""Probing foreign networks: stride and halo by trying, and refusal of what depends on its tiles."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hpcseg.errors import UsageError
from hpcseg.models.probe import probe

WINDOW = 256
BANDS = 2


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU())


class Net(nn.Module):
    """A U-Net of `levels` poolings, with a way of going up and something between encoder and decoder."""

    def __init__(self, levels, up="transposed", middle=None, width=6):
        super().__init__()
        self.up, self.middle = up, middle
        self.encoder = nn.ModuleList(block(BANDS if k == 0 else width, width) for k in range(levels + 1))
        self.lift = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, stride=2) for _ in range(levels))
        self.decoder = nn.ModuleList(block(2 * width, width) for _ in range(levels))
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x):
        skips = []
        for k, convolve in enumerate(self.encoder):
            x = convolve(F.max_pool2d(x, 2) if k else x)
            skips.append(x)
        skips.pop()
        x = self.middle(x) if self.middle else x
        for lift, convolve in zip(self.lift, self.decoder, strict=True):
            if self.up == "transposed":
                x = lift(x)
            else:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=self.up == "corners")
            x = convolve(torch.cat([skips.pop(), x], 1))
        return self.head(x)


class GlobalPool(nn.Module):
    def forward(self, x):
        return x + F.adaptive_avg_pool2d(x, 1)


@pytest.mark.parametrize(
    ("up", "levels", "reach"),
    [("transposed", 1, 8), ("transposed", 2, 20), ("transposed", 3, 44), ("bilinear", 1, 10), ("bilinear", 2, 26), ("bilinear", 3, 54)],
)
def test_the_halo_of_a_u_net_is_its_aligned_reach_in_steps_of_8(initialised, up, levels, reach):
    found = probe(initialised(Net(levels, up)), BANDS, WINDOW)
    assert found.stride == 2**levels
    assert found.halo == -(-reach // 8) * 8
    assert found.difference <= 1e-5
    assert found.logits == 3


def test_a_network_without_neighbours_needs_no_halo(initialised):
    found = probe(initialised(nn.Sequential(nn.Conv2d(BANDS, 5, 1))), BANDS, WINDOW)
    assert (found.stride, found.halo, found.logits) == (1, 0, 5)


@pytest.mark.parametrize(("dilation", "halo"), [(1, 8), (8, 8), (9, 16), (31, 32)])
def test_the_reach_of_one_convolution(initialised, dilation, halo):
    network = initialised(nn.Sequential(nn.Conv2d(BANDS, 2, 3, padding=dilation, dilation=dilation)))
    found = probe(network, BANDS, WINDOW)
    assert (found.stride, found.halo) == (1, halo)


@pytest.mark.parametrize(
    "network",
    [
        Net(2, "corners"),
        Net(2, middle=nn.GroupNorm(2, 6)),
        Net(2, middle=nn.InstanceNorm2d(6)),
        Net(2, middle=GlobalPool()),
    ],
    ids=["align_corners", "group norm", "instance norm", "global pooling"],
)
def test_a_network_whose_result_depends_on_its_tile_has_no_stride(initialised, network):
    found = probe(initialised(network), BANDS, WINDOW)
    assert found.stride == 0
    assert found.difference > 1e-4


def test_the_batch_a_network_is_fixed_to_is_given(initialised):
    network, seen = initialised(Net(1)), set()

    def fixed(x):
        seen.add(tuple(x.shape))
        return network(x)

    assert probe(fixed, BANDS, 128, batch=3).stride == 2
    assert seen == {(3, BANDS, 128, 128)}


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv2d(BANDS + 1, 2, 1),
        nn.Conv2d(BANDS, 2, 3),
        nn.Sequential(nn.Flatten(), nn.LazyLinear(4)),
        lambda x: {"out": x},
    ],
    ids=["bands", "smaller", "vector", "table"],
)
def test_what_is_no_segmentation_network_is_refused(network):
    with pytest.raises(UsageError, match=r"the network (fails on an input of|gives) "):
        probe(network, BANDS, 128)


@pytest.mark.parametrize("window", [64, 96, 128, 192])
def test_a_small_fixed_window_does_not_spoil_the_stride(initialised, window):
    found = probe(initialised(Net(2)), BANDS, window)
    assert (found.stride, found.halo) == (4, 24)
