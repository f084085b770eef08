"""U-Nets: their parameters, and the halo that they compute from their layers."""

from __future__ import annotations

import pytest
import torch

from hpcseg.errors import UsageError
from hpcseg.models import NETWORKS, build
from hpcseg.models.cost import operations_per_pixel, trainable_parameters
from hpcseg.models.unet import widen

CORE = 32


def small(levels, bands=2, classes=3):
    """A narrow U-Net with that many poolings."""
    return build("unet-light", bands, classes, {"down": [8] * (levels + 1), "up": [8] * levels})


def reaches(network, halo):
    """Whether content `halo` or more pixels beyond an aligned core changes its logits."""
    generator = torch.Generator().manual_seed(7)
    first = -(-(halo + 40) // network.stride) * network.stride
    size = -(-(2 * first + CORE) // network.stride) * network.stride
    base = torch.randn(1, 2, size, size, generator=generator)
    other = 3 * torch.randn(1, 2, size, size, generator=generator)
    kept = slice(first - halo, first + CORE + halo)
    other[..., kept, kept] = base[..., kept, kept]
    core = slice(first, first + CORE)
    with torch.inference_mode():
        return not torch.equal(network(base)[..., core, core], network(other)[..., core, core])


def test_the_network_of_resflow_has_its_published_number_of_parameters():
    assert trainable_parameters(build("unet", 3, 2)) == 13_395_329


@pytest.mark.parametrize(("levels", "reach"), [(1, 10), (2, 26), (3, 54), (4, 110)])
def test_the_halo_covers_what_impulses_find_and_wastes_less_than_a_stride(initialised, levels, reach):
    # Bilinear upsampling adds a pixel a level until the margins meet: 7 * 2**L - 2 from two poolings on.
    network = initialised(small(levels))
    assert reaches(network, reach - 1)
    assert not reaches(network, reach)
    assert not reaches(network, network.aligned_halo)
    assert network.aligned_halo % network.stride == 0
    assert network.aligned_halo - reach <= network.stride


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_network_keeps_the_size_of_its_input(initialised, levels):
    network = initialised(small(levels, bands=4, classes=5))
    assert network.stride == 2**levels
    assert network(torch.zeros(2, 4, 24, 16)).shape == (2, 5, 24, 16)


def test_two_classes_take_one_logit():
    for classes, logits in ((2, 1), (3, 3), (7, 7)):
        assert small(1, classes=classes)(torch.zeros(1, 2, 8, 8)).shape[1] == logits


def test_aligned_windows_join_without_a_seam(initialised):
    network = initialised(small(2))
    halo = network.aligned_halo
    scene = torch.randn(1, 2, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = network(scene)
        part = network(scene[..., 32 : 64 + 2 * halo, 40 : 72 + 2 * halo])
    rows, cols = slice(32 + halo, 64 + halo), slice(40 + halo, 72 + halo)
    torch.testing.assert_close(part[..., halo:-halo, halo:-halo], whole[..., rows, cols], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_built_with_its_own_options(name):
    network = build(name, 3, 3)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert trainable_parameters(network) > 0


def test_an_unknown_network_is_refused_with_the_choices():
    with pytest.raises(UsageError, match=r"no network 'resnet'; wanted one of unet, .*unet-light"):
        build("resnet", 3, 2)


def test_an_unknown_option_is_refused_with_the_choices():
    with pytest.raises(UsageError, match="unet-light has no option depth; wanted down, up"):
        build("unet-light", 3, 2, {"depth": 4})


@pytest.mark.parametrize(
    "options", [{"down": [8, 8], "up": [8, 8]}, {"down": []}, {"down": 8}, {"down": [8, "8"], "up": [8]}, {"down": [8, -8], "up": [8]}]
)
def test_widths_that_do_not_make_a_network_are_refused(options):
    with pytest.raises(UsageError, match="network unet-light: "):
        build("unet-light", 3, 2, options)


def test_operations_are_counted_for_each_pixel():
    assert operations_per_pixel(torch.nn.Conv2d(2, 5, 3, padding=1), 2) == 2 * 9 * 2 * 5


@pytest.mark.parametrize("factor", [2, 3])
def test_a_widened_network_computes_the_same(initialised, factor):
    network = initialised(small(2))
    wide = widen(network, factor).eval()
    assert trainable_parameters(wide) > (factor**2 - 1) * trainable_parameters(network)
    x = torch.randn(1, 2, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(wide(x), network(x), rtol=1e-4, atol=1e-4)
