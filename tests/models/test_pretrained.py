"""Starting from weights of elsewhere: what is taken, adapted, left out or refused; and parts that do not train."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from narrow import OPTIONS, make_narrow
from safetensors.torch import save_file
from torch import nn

from hpcseg.errors import UsageError
from hpcseg.models import build
from hpcseg.models.pretrained import MATCHED, adapt_bands, describe, freeze, init_from, load_encoder
from hpcseg.models.resnet import ResNet, Style
from hpcseg.models.vgg import Vgg

BOTTLENECK = ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked",
              "conv2.weight", "bn2.weight", "conv3.weight", "bn3.running_var")  # fmt: skip


def lively(encoder, seed=5):
    """An encoder whose batch norm has scales, shifts and statistics of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if tensor.ndim == 1:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + (-0.5 if name.endswith(("bias", "mean")) else 0.5))
    return encoder.eval()


def publish(encoder, path, **more):
    """Save an encoder in torchvision's layout, with a top."""
    weights = {encoder.torchvision_name(name): tensor.clone() for name, tensor in encoder.state_dict().items()}
    weights |= {"fc.weight": torch.zeros(10, 8), "fc.bias": torch.zeros(10), **more}
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    return path


def resnet_for(name, bands=3, bias=False):
    """A ResNet of the narrow network's size as torchvision has it, or with biases."""
    return lively(ResNet(bands, OPTIONS[name]["width"], OPTIONS[name]["blocks"], Style(bias=bias, dilated=name == "deeplab")))


def vgg_for(name, norm):
    return lively(Vgg(3, OPTIONS[name]["widths"], OPTIONS[name]["depths"], norm, nn.Identity))


def outcomes(rows):
    """Names by outcome."""
    found = {}
    for row in rows:
        found.setdefault(row.outcome, []).append(row.name)
    return found


def model_of(network, name=None):
    """What load_model gives, as far as starting from it needs it."""
    return SimpleNamespace(name="first", network=network, spec=SimpleNamespace(network=name or network.name))


def same(x, y):
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4 * float(y.std()))


def test_names_of_a_resnet_are_those_of_torchvision():
    encoder = ResNet(3, 2, [3, 4, 6, 3], Style())
    names = {encoder.torchvision_name(name) for name in encoder.state_dict()}
    blocks = [f"layer{stage}.{block}." for stage, count in enumerate([3, 4, 6, 3], 1) for block in range(count)]
    assert {"conv1.weight", "bn1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer4.0.downsample.1.bias"} <= names
    assert {block + tensor for block in blocks for tensor in BOTTLENECK} <= names
    assert len(names) == 318, "torchvision's ResNet-50 has 320 tensors, two of them its top's"


def test_names_of_a_vgg_are_those_of_torchvision():
    plain, normed = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28], [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    for norm, numbers in ((False, plain), (True, normed)):
        encoder = Vgg(3, [2] * 5, [2, 2, 3, 3, 3], norm, nn.Identity)
        names = [encoder.torchvision_name(name) for name, tensor in encoder.state_dict().items() if tensor.ndim == 4]
        assert names == [f"features.{k}.weight" for k in numbers]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_resnet_fills_the_encoder_of_the_fcn_and_biases_stay_0(tmp_path, suffix):
    given = resnet_for("resnet50-fcn")
    network = build("resnet50-fcn", 3, 2, OPTIONS["resnet50-fcn"])
    found = outcomes(load_encoder(network, publish(given, tmp_path / f"resnet50{suffix}")))
    assert set(found) == {MATCHED, "as it was: the file has none", "left out: the network has none"}
    assert sorted(found["left out: the network has none"]) == ["fc.bias", "fc.weight"]
    biases = ("conv1.bias", "conv2.bias", "conv3.bias", "downsample.0.bias")
    assert all(name.endswith(biases) for name in found["as it was: the file has none"])
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(network.encoder(x), given(x), strict=True):
            same(ours, theirs)
    assert network.fixed == set()


def test_a_deeplab_takes_scales_and_shifts_into_convolutions_and_means(tmp_path):
    given = resnet_for("deeplab")
    with torch.no_grad():
        given.stem.bn1.weight[0] = -0.7
        given.layer1[0].branch.bn2.weight[0] = 0.0
    network = build("deeplab", 3, 2, OPTIONS["deeplab"])
    found = outcomes(load_encoder(network, publish(given, tmp_path / "resnet101.pth")))
    norms = [layer for layer in given.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(found["taken into convolution and mean"]) == 2 * len(norms)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        same(network.encoder(x)[-1], given(x)[-1])


def test_a_deeplab_keeps_the_statistics_of_loaded_weights_while_it_trains(tmp_path):
    network = build("deeplab", 3, 2, OPTIONS["deeplab"])
    load_encoder(network, publish(resnet_for("deeplab"), tmp_path / "resnet101.pth"))
    before = network.encoder.stem.bn1.running_mean.clone()
    network.train()
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert torch.equal(network.encoder.stem.bn1.running_mean, before)
    assert network.encoder.stem.conv1.weight.grad.any(), "its weights train"
    assert network.decoder.training


@pytest.mark.parametrize(("name", "norm"), [("segnet", True), ("vgg16-deconv", False)])
def test_a_vgg_fills_its_encoders_layer_for_layer(tmp_path, name, norm):
    given, network = vgg_for(name, norm), build(name, 3, 2, OPTIONS[name])
    found = outcomes(load_encoder(network, publish(given, tmp_path / "vgg16.pth")))
    assert set(found) == {MATCHED, "left out: the network has none"}
    pairs = zip(network.encoder.state_dict().values(), given.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize(("name", "norm"), [("segnet", False), ("vgg16-deconv", True)])
def test_a_vgg_of_the_other_kind_is_refused_and_changes_nothing(tmp_path, name, norm):
    network = build(name, 3, 2, OPTIONS[name] | {"widths": [8, 16, 24], "depths": [2, 2, 1]})
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    given = lively(Vgg(3, [8, 16, 24], [2, 2, 1], norm, nn.Identity))
    with pytest.raises(UsageError, match=rf"vgg\.pth is of another network than the encoder of {name}: \d+\.weight is .*, wanted "):
        load_encoder(network, publish(given, tmp_path / "vgg.pth"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["unet", "unet-ice", "one-convolution"])
def test_a_network_without_such_an_encoder_says_so(tmp_path, name):
    path = publish(resnet_for("deeplab"), tmp_path / "resnet50.pth")
    with pytest.raises(UsageError, match=rf"no weight of .*resnet50\.pth fits network {name}"):
        load_encoder(build(name, 3, 2, OPTIONS[name]), path)


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors", "broken.pth", "broken.safetensors", "list.pth"])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, name):
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"no weights")
    elif name == "list.pth":
        torch.save([torch.zeros(3)], tmp_path / name)
    with pytest.raises(UsageError, match=rf"{name}: (no weights can be read|wanted a state dict)"):
        load_encoder(build("segnet", 3, 2, OPTIONS["segnet"]), tmp_path / name)


@pytest.mark.parametrize("bands", [1, 2, 5, 6])
def test_three_band_weights_serve_any_number_of_bands(tmp_path, bands):
    given, network = vgg_for("segnet", True), build("segnet", bands, 2, OPTIONS["segnet"])
    found = outcomes(load_encoder(network, publish(given, tmp_path / "vgg16_bn.pth")))
    assert found[f"adapted: from 3 to {bands} bands"] == ["encoder.0.weight"]
    torch.testing.assert_close(network.encoder[0].weight, adapt_bands(given[0].weight, bands))


def test_bands_are_repeated_cyclically_and_scaled():
    weight = torch.arange(6.0).reshape(2, 3, 1, 1)
    torch.testing.assert_close(adapt_bands(weight, 4)[:, :, 0, 0], 0.75 * torch.tensor([[0.0, 1, 2, 0], [3, 4, 5, 3]]))
    torch.testing.assert_close(adapt_bands(weight, 1)[:, :, 0, 0], torch.tensor([[3.0], [12]]))
    alike = torch.randn(1, 1, 4, 4)
    for bands in (1, 6):
        x, y = alike.expand(1, bands, 4, 4), alike.expand(1, 3, 4, 4)
        torch.testing.assert_close(nn.functional.conv2d(x, adapt_bands(weight, bands)), nn.functional.conv2d(y, weight))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_model_of_the_same_network_is_taken_whole(name):
    first, network = make_narrow(name, 3, 3), make_narrow(name, 3, 3, seed=1)
    assert set(outcomes(init_from(network, model_of(first)))) == {MATCHED}
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(x), first(x))


@pytest.mark.parametrize(
    ("name", "parts"),
    [("unet", {"head"}), ("segnet", {"head"}), ("resnet50-fcn", {"decoder", "head"}), ("deeplab", {"decoder"}), ("vgg16-deconv", {"head"})],
)
def test_heads_of_another_size_are_made_anew_and_named(name, parts):
    first, network = make_narrow(name, 3, 4), make_narrow(name, 3, 3, seed=1)
    new = outcomes(init_from(network, model_of(first)))["made anew: another number of classes"]
    assert {each.partition(".")[0] for each in new} == parts
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[key]) != (key in new), key


def test_a_model_of_other_bands_is_adapted():
    first, network = make_narrow("unet", 3, 3), make_narrow("unet", 4, 3)
    rows = init_from(network, model_of(first))
    assert outcomes(rows)["adapted: from 3 to 4 bands"] == ["encoder.0.0.weight"]
    torch.testing.assert_close(network.encoder[0][0].weight, adapt_bands(first.encoder[0][0].weight, 4))


def test_a_model_of_another_network_or_of_other_widths_is_refused():
    network = make_narrow("unet", 3, 3)
    with pytest.raises(UsageError, match="--init first: a segnet, wanted a unet"):
        init_from(network, model_of(make_narrow("segnet", 3, 3)))
    with pytest.raises(UsageError, match=r"--init first: other options than this unet: encoder\.\S+ is 8x8x3x3, wanted 16x8x3x3"):
        init_from(build("unet", 3, 3, {"down": [8, 16], "up": [8]}), model_of(build("unet", 3, 3, {"down": [8, 8], "up": [8]})))


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "one-convolution"])
def test_a_frozen_encoder_does_not_change_and_the_rest_trains(name):
    network = make_narrow(name, 3, 3)
    freeze(network, "encoder")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    network.train()
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    (network(torch.randn(2, 3, 32, 32)) * torch.randn(2, 3, 32, 32)).sum().backward()
    optimiser.step()
    changed = {key.partition(".")[0] for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {part for part, child in network.named_children() if part != "encoder" and list(child.parameters())}
    assert not any(layer.training for layer in network.encoder.modules())


def test_a_frozen_part_stays_so_whenever_training_is_set_again():
    network = make_narrow("segnet")
    freeze(network, "encoder")
    network.eval()
    network.train()
    assert network.training
    assert network.decoder.training
    assert not network.encoder.training


def test_a_part_that_does_not_exist_is_refused_with_the_choices():
    with pytest.raises(UsageError, match="--freeze stem: network unet has no such part with weights; wanted one of encoder, decoder, head"):
        freeze(make_narrow("unet"), "stem")
    with pytest.raises(UsageError, match="network one-convolution has no such part with weights; wanted one of head"):
        freeze(make_narrow("one-convolution"), "encoder")


def test_the_table_names_all_that_is_not_just_matched(tmp_path):
    network = build("resnet50-fcn", 5, 2, OPTIONS["resnet50-fcn"])
    lines = describe(load_encoder(network, publish(resnet_for("resnet50-fcn"), tmp_path / "resnet50.pth"))).splitlines()
    assert lines[0].startswith("matched: tensors=")
    assert "adapted: from 3 to 5 bands: tensors=1 values=980 encoder.stem.conv1.weight (4x5x7x7)" in lines
    assert any(line.startswith("as it was: the file has none: tensors=17 ") and line.endswith("and 9 more") for line in lines)
    assert "left out: the network has none: tensors=2 values=90 fc.weight (10x8), fc.bias (10)" in lines
