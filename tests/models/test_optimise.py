"""Networks made ready to run give what the plain network gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hpcseg.models import load_model
from hpcseg.models.optimise import DTYPES, fold, for_inference
from hpcseg.models.probe import Probe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    return load_model(str(make_model(tmp_path_factory.mktemp("models") / "m")))


def window(seed=0):
    x = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def test_folded_and_fused_it_gives_the_logits_of_the_plain_network(model):
    ready = for_inference(model, CPU, "fp32")
    with torch.inference_mode():
        torch.testing.assert_close(ready(window()), model.network(window()), rtol=1e-4, atol=1e-4)


def test_nothing_is_left_of_batch_norm_and_relu(model):
    ready = for_inference(model, CPU, "fp32")
    assert not [layer for layer in ready.modules() if isinstance(layer, (nn.BatchNorm2d, nn.ReLU))]


def test_the_model_itself_stays_as_it_is(model):
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    for_inference(model, CPU, "bf16")
    after = model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("fuse_relu", [False, True])
def test_folding_leaves_other_layers_alone(initialised, fuse_relu):
    layers = [nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False)]
    network = initialised(nn.Sequential(*layers))
    x = window(1)
    with torch.inference_mode():
        wanted = network(x)
        torch.testing.assert_close(fold(network, fuse_relu)(x), wanted, rtol=1e-4, atol=1e-4)
    assert [type(layer).__name__ for layer in network] == ["ReLU", "BatchNorm2d", "Conv2d", "Dropout", "ReLU", "Conv2d"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_come_in_the_precision_s_type(model, precision):
    ready = for_inference(model, CPU, precision)
    with torch.inference_mode():
        assert ready(window().to(DTYPES[precision])).dtype == DTYPES[precision]


def test_bfloat16_agrees_in_nearly_all_labels(model):
    with torch.inference_mode():
        exact = model.network(window())
        rough = for_inference(model, CPU, "bf16")(window().bfloat16()).float()
    assert (exact.argmax(1) == rough.argmax(1)).float().mean() > 0.97
    assert (exact - rough).abs().max() < 0.05 * exact.std() * 10


def test_a_foreign_network_keeps_its_weights_and_takes_any_type(model):
    foreign = model.__class__(**{**model.__dict__, "found": Probe(4, 24, 0.0, 3)})
    with torch.inference_mode():
        wanted = model.network(window())
        torch.testing.assert_close(for_inference(foreign, CPU, "fp32")(window()), wanted)
        rough = for_inference(foreign, CPU, "bf16")(window().bfloat16()).float()
    assert (wanted.argmax(1) == rough.argmax(1)).float().mean() > 0.97
