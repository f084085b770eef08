"""What every network of ours does: shapes, gradients, tiles that join, export, inference; and what the paper says of some."""

from __future__ import annotations

import pytest
import torch
from narrow import OPTIONS, make_narrow
from safetensors.torch import save_file
from torch import nn

from hpcseg.config import Class, ModelSpec, Normalisation, encode_toml
from hpcseg.errors import UsageError
from hpcseg.inference.engine import Recipe, make_engine
from hpcseg.models import NETWORKS, build, init_foreign, load_model
from hpcseg.models.cost import operations_per_pixel, outline, trainable_parameters
from hpcseg.models.optimise import for_inference
from hpcseg.models.probe import probe
from hpcseg.models.resnet import ResNet, Style
from hpcseg.models.vgg import Vgg
from hpcseg.tiles import Grid

CPU = torch.device("cpu")
every_network = pytest.mark.parametrize("name", NETWORKS)


def noise(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write_folder(folder, name, network, bands, classes):
    """A model folder of a narrow network."""
    legend = [Class(name=f"class {k}", color="#808080") for k in range(classes)]
    norm = Normalisation(mean=[0.0] * bands, std=[1.0] * bands)
    spec = ModelSpec(network=name, bands=bands, classes=legend, options=OPTIONS[name], normalisation=norm)
    folder.mkdir()
    (folder / "model.toml").write_bytes(encode_toml(spec))
    save_file(network.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "parameters"), [("unet", 13_395_329), ("segnet", 29_443_073), ("resnet50-fcn", 23_541_769), ("deeplab", 42_542_280)]
)
def test_the_networks_of_resflow_have_their_published_numbers_of_parameters(name, parameters):
    assert trainable_parameters(outline(name, 3, 2)) == parameters


@pytest.mark.parametrize(
    ("encoder", "parameters"),
    [
        (Vgg(3, [64, 128, 256, 512, 512], [2, 2, 3, 3, 3], norm=False, pool=nn.Identity), 14_714_688),
        (Vgg(3, [64, 128, 256, 512, 512], [2, 2, 3, 3, 3], norm=True, pool=nn.Identity), 14_723_136),
        (ResNet(3, 64, [3, 4, 6, 3], Style()), 25_557_032 - 2_049_000),
        (ResNet(3, 64, [3, 4, 23, 3], Style()), 44_549_160 - 2_049_000),
    ],
    ids=["VGG-16", "VGG-16 with batch norm", "ResNet-50", "ResNet-101"],
)
def test_encoders_have_the_parameters_of_the_classifiers_without_their_tops(encoder, parameters):
    assert trainable_parameters(encoder) == parameters


@pytest.mark.parametrize(
    ("name", "stride", "halo"),
    [("unet", 16, 112), ("segnet", 32, 192), ("resnet50-fcn", 32, 256), ("deeplab", 8, 712), ("vgg16-deconv", 32, 160),
     ("unet-ice", 32, 192)],
)
def test_strides_and_halos_at_the_default_widths(name, stride, halo):
    network = outline(name, 3, 2)
    assert (network.stride, network.aligned_halo) == (stride, halo)


def test_deep_networks_are_counted_without_being_run():
    network = outline("deeplab", 3, 2)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert operations_per_pixel(network, 3) > 1e6


@every_network
@pytest.mark.parametrize(("bands", "classes", "logits"), [(5, 4, 4), (1, 2, 1)])
def test_any_number_of_bands_and_classes(name, bands, classes, logits):
    network = make_narrow(name, bands, classes)
    height, width = 2 * network.stride, 3 * network.stride
    with torch.inference_mode():
        assert network(torch.zeros(2, bands, height, width)).shape == (2, logits, height, width)


@every_network
def test_every_part_is_there_by_name_and_the_network_knows_its_own(name):
    network = build(name, 3, 2, OPTIONS[name])
    parts = {part for part, _ in network.named_children()}
    assert {"encoder", "decoder", "head"} <= parts or name == "one-convolution"
    assert set(network.per_class) <= parts
    assert network.name == name
    assert not network.training


@every_network
def test_gradients_reach_every_weight(name):
    network = make_narrow(name).train()
    logits = network(noise(2, 3, 64, 64))
    (logits * noise(*logits.shape, seed=4)).sum().backward()
    for tensor_name, tensor in network.named_parameters():
        assert tensor.grad is not None, f"{tensor_name} takes no part"
        assert tensor.grad.isfinite().all(), tensor_name
        assert tensor.ndim == 1 or tensor.grad.any(), f"{tensor_name} learns nothing"


@every_network
def test_a_window_with_its_halo_gives_what_the_whole_gives(name):
    network = make_narrow(name, 3, 3)
    halo, stride = network.aligned_halo, network.stride
    first, core = (2 * stride, stride), 64
    edge = core + 2 * halo
    scene = noise(1, 3, edge + 4 * stride, edge + 3 * stride)
    rows, cols = (slice(start, start + edge) for start in first)
    with torch.inference_mode():
        whole, part = network(scene)[..., rows, cols], network(scene[..., rows, cols])
    inner = slice(halo, halo + core)
    torch.testing.assert_close(part[..., inner, inner], whole[..., inner, inner], rtol=0, atol=2e-5 * float(whole.std()))
    if name != "one-convolution":
        assert not torch.equal(part, whole), "a halo is needed: the border differs"


@pytest.mark.parametrize("name", ["segnet", "resnet50-fcn", "deeplab", "vgg16-deconv", "unet-ice"])
def test_the_probe_finds_what_the_layers_say(name):
    network = make_narrow(name, 2, 3)
    found = probe(network, 2, 384)
    assert found.stride == network.stride
    assert found.difference <= 1e-5
    # The probe knows distances to 8 pixels.
    assert network.aligned_halo <= found.halo <= max(8, network.aligned_halo)


@every_network
def test_made_ready_to_run_it_gives_the_same_logits(name, tmp_path):
    network = make_narrow(name, 3, 3)
    model = load_model(str(write_folder(tmp_path / name, name, network, 3, 3)))
    assert (model.halo, model.stride) == (network.aligned_halo, network.stride)
    exact, rough = (for_inference(model, CPU, precision) for precision in ("fp32", "bf16"))
    assert not [layer for layer in exact.modules() if isinstance(layer, nn.BatchNorm2d)], "batch norm is folded"
    x = noise(1, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        plain, folded, rounded = network(x), exact(x), rough(x.bfloat16())
    torch.testing.assert_close(folded, plain, rtol=0, atol=1e-4 * float(plain.std()))
    assert rounded.dtype == torch.bfloat16
    assert (plain.argmax(1) == rounded.float().argmax(1)).float().mean() > 0.95


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long) if name == "unet" else name for name in NETWORKS])
def test_exported_it_maps_as_a_foreign_network(name, tmp_path):
    network = make_narrow(name, 3, 3)
    edge = 192 if network.aligned_halo <= 32 else 384
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, edge, edge),)), path)
    init_foreign(path, 3)
    model = load_model(str(path))
    assert (model.window, model.found.logits, model.found.stride) == (edge, 3, network.stride)
    core = edge - 2 * model.halo
    engine = make_engine(Recipe(model, core, "fp32"), [Grid(core, core, core, model.halo)], CPU, 1)
    x = noise(1, 3, edge, edge)
    with torch.inference_mode():
        torch.testing.assert_close(engine.logits(x), network(x), rtol=1e-4, atol=1e-4)


def test_a_deeplab_of_two_classes_gives_the_logit_of_its_two_scores():
    network = make_narrow("deeplab", 3, 2)
    x = noise(1, 3, 64, 64)
    with torch.inference_mode():
        scores = nn.functional.interpolate(network.decoder(network.encoder(x)[-1]), scale_factor=8, mode="bilinear")
        torch.testing.assert_close(torch.sigmoid(network(x)), torch.softmax(scores, 1)[:, 1:], rtol=1e-5, atol=1e-6)


def test_a_deeplab_updates_statistics_alone_of_its_batch_norm():
    network = make_narrow("deeplab", 3, 2).train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    network(5 + noise(2, 3, 64, 64))
    assert not any(norm.affine for norm in norms)
    assert not any(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))


def test_max_unpooling_puts_values_back_where_they_were():
    network = build("segnet", 1, 2, {"widths": [1], "depths": [1]})
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
                layer.weight[0, 0, layer.weight.shape[2] // 2, layer.weight.shape[3] // 2] = 1
                layer.bias.zero_()
        x = torch.tensor([[1.0, 2, 0, 0], [3, 4, 5, 0], [9, 0, 0, 0], [0, 0, 0, 7]])
        wanted = torch.tensor([[0.0, 0, 0, 0], [0, 4, 5, 0], [9, 0, 0, 0], [0, 0, 0, 7]])
        torch.testing.assert_close(network(x[None, None])[0, 0], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("segnet", {"depths": [2, 2]}, r"depths is \[2, 2\], wanted a number of at least 1 for each of the widths"),
        ("vgg16-deconv", {"up": [8]}, r"up has 1 widths, wanted 5: one for each pooling"),
        ("resnet50-fcn", {"blocks": [3, 4, 6]}, r"blocks is \[3, 4, 6\], wanted four numbers"),
        ("deeplab", {"rates": []}, r"rates is \[\], wanted at least one dilation"),
        ("unet-ice", {"dropout": [0.1]}, r"dropout has 1 shares, wanted 6"),
    ],
)
def test_options_that_make_no_network_are_refused(name, options, message):
    with pytest.raises(UsageError, match=f"network {name}: {message}"):
        build(name, 3, 2, options)
