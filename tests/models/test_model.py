"""Loading models: folders of ours, foreign files, and what does not fit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hpcseg.config import read_model
from hpcseg.errors import UsageError
from hpcseg.models import find_model, init_foreign, load_model, shipped_models
from hpcseg.models.model import read_foreign

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


class Foreign(nn.Module):
    """A network that hpcseg does not know: two convolutions and a pooling, halo 4, stride 2."""

    def __init__(self, logits=2, middle=None):
        super().__init__()
        self.first, self.middle = nn.Conv2d(3, 6, 3, padding=1), middle or nn.Identity()
        self.last = nn.Conv2d(6, logits, 3, padding=1)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.middle(nn.functional.relu(self.first(x))), 2)
        return self.last(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))


@pytest.fixture(scope="module")
def export(initialised):
    """export(path, size, batch, network) saves a network with torch.export for that one shape."""

    def save(path, size=192, batch=1, network=None):
        program = torch.export.export(initialised(network or Foreign()), (torch.zeros(batch, 3, size, size),))
        torch.export.save(program, path)
        return path

    return save


@pytest.fixture(scope="module")
def exported(export, tmp_path_factory):
    """A .pt2 file with its model.toml, made once."""
    path = export(tmp_path_factory.mktemp("foreign") / "net.pt2")
    init_foreign(path, 3)
    return path


def test_a_folder_of_ours_is_loaded_ready_for_inference(make_model, tmp_path):
    model = load_model(str(make_model(tmp_path / "m")))
    assert (model.name, model.stride, model.halo) == ("m", 4, 28)
    assert (model.window, model.batch, model.found) == (0, 0, None)
    assert not model.network.training
    assert model.network(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_the_shipped_models_are_found_by_name():
    assert shipped_models()
    for name in shipped_models():
        model = load_model(name)
        assert model.halo % model.stride == 0
        assert model.network(torch.zeros(1, model.spec.bands, 64, 64)).isfinite().all()


def test_an_unknown_model_is_refused_with_the_choices():
    with pytest.raises(UsageError, match=r"no model 'se-ice'; wanted a folder with model\.toml, .* or one of .*sea-ice"):
        find_model("se-ice")


def test_a_folder_without_model_toml_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no model\.toml in this folder"):
        load_model(str(tmp_path))


def test_absent_or_broken_weights_are_refused_by_name(make_model, tmp_path):
    folder = make_model(tmp_path / "m")
    (folder / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"weights\.safetensors: "):
        load_model(str(folder))
    (folder / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match=r"weights\.safetensors: .*No such file"):
        load_model(str(folder))


@pytest.mark.parametrize("other", [{"down": [4, 16, 16]}, {"down": [8, 16], "up": [8]}])
def test_weights_of_another_network_are_refused_with_both_files(make_model, tmp_path, other):
    folder = make_model(tmp_path / "m")
    (make_model(tmp_path / "other", **other) / "weights.safetensors").rename(folder / "weights.safetensors")
    with pytest.raises(UsageError, match=r"weights\.safetensors does not fit network unet-light of .*model\.toml"):
        load_model(str(folder))


def test_weights_for_other_classes_or_bands_are_refused(make_model, tmp_path):
    folder = make_model(tmp_path / "m")
    for k, numbers in enumerate(({"classes": 4}, {"bands": 2})):
        make_model(tmp_path / f"{k}", **numbers).joinpath("weights.safetensors").rename(folder / "weights.safetensors")
        with pytest.raises(UsageError, match="does not fit"):
            load_model(str(folder))


def test_the_digest_follows_weights_and_whatever_changes_a_label(make_model, tmp_path):
    def digest(name, **options):
        return load_model(str(make_model(tmp_path / name, **options))).digest

    first = digest("a")
    assert digest("b") == first
    assert digest("c", spec={"description": "another", "resolution": 5.0}) == first
    assert digest("d", seed=1) != first
    assert digest("e", spec={"threshold": 0.4}) != first
    folder = make_model(tmp_path / "f")
    weights = load_file(folder / "weights.safetensors")
    weights["head.bias"] = weights["head.bias"] + 1e-7
    save_file(weights, folder / "weights.safetensors")
    assert load_model(str(folder)).digest != first


def test_a_fixed_shape_is_taken_as_window_and_batch(exported):
    model = load_model(str(exported))
    assert (model.name, model.window, model.batch) == ("net", 192, 1)
    assert (model.halo, model.stride) == (32, 32)
    assert model.found.stride == 2
    assert model.found.halo == 8
    assert model.network(torch.zeros(1, 3, 192, 192)).shape == (1, 2, 192, 192)


def test_what_one_rank_probed_is_taken_by_the_others(exported):
    first = load_model(str(exported))
    again = load_model(str(exported), found=first.found._replace(halo=40))
    assert again.halo == 64
    assert again.digest == first.digest


def test_init_writes_a_model_toml_to_complete(exported):
    spec = read_model(exported.with_suffix(".toml"))
    assert (spec.network, spec.bands, len(spec.classes)) == ("net.pt2", 3, 2)
    with pytest.raises(UsageError, match=r"net\.toml is there already"):
        init_foreign(exported, 3)


def test_a_foreign_file_without_toml_is_refused_with_the_command(export, tmp_path):
    (tmp_path / "net.pt2").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no net\.toml beside it; make one with: hpcseg models init .*net\.pt2"):
        load_model(str(tmp_path / "net.pt2"))


@pytest.mark.parametrize("name", ["net.pt2", "net.pt"])
@pytest.mark.parametrize("content", [b"", b"no network"])
def test_a_broken_foreign_file_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}: cannot be loaded"):
        init_foreign(tmp_path / name, 3)


def test_a_foreign_network_for_other_bands_is_refused(exported):
    with pytest.raises(UsageError, match=r"takes input \(1, 3, 192, 192\), wanted \(batch, 4, height, width\)"):
        read_foreign(exported, 4)


def with_halo(exported, folder, halo):
    """A copy of an exported network whose model.toml sets the halo."""
    path = folder / "net.pt2"
    path.write_bytes(exported.read_bytes())
    path.with_suffix(".toml").write_text(f"halo = {halo}\n" + exported.with_suffix(".toml").read_text())
    return path


def test_a_halo_in_the_toml_overrides_the_probe(exported, tmp_path):
    model = load_model(str(with_halo(exported, tmp_path, 64)), found=load_model(str(exported)).found)
    assert (model.halo, model.window) == (64, 192)


@pytest.mark.parametrize("halo", [96, 90, 70])
def test_a_halo_that_leaves_no_core_is_refused(exported, tmp_path, halo):
    path = with_halo(exported, tmp_path, halo)
    with pytest.raises(UsageError, match=r"takes 192x192 only, and needs a halo of \d+: no core is left"):
        load_model(str(path))


def test_a_window_too_small_for_its_network_is_refused_for_that(export, tmp_path):
    path = export(tmp_path / "tiny.pt2", size=64)
    init_foreign(path, 3)
    with pytest.raises(UsageError, match=r"takes 64x64 only, and needs a halo of 32: no core is left"):
        load_model(str(path))


def test_a_network_fixed_to_a_batch_says_so(export, tmp_path):
    path = export(tmp_path / "pair.pt2", size=128, batch=2)
    init_foreign(path, 3)
    model = load_model(str(path))
    assert (model.window, model.batch) == (128, 2)


def test_other_numbers_of_logits_than_classes_are_refused(export, exported, tmp_path):
    path = export(tmp_path / "five.pt2", network=Foreign(5))
    path.with_suffix(".toml").write_bytes(exported.with_suffix(".toml").read_bytes())
    with pytest.raises(UsageError, match=r"gives 5 logits, model\.toml names 2 classes"):
        load_model(str(path))


def test_a_network_whose_map_would_depend_on_its_tiles_needs_insisting(export, tmp_path):
    path = export(tmp_path / "norm.pt2", network=Foreign(middle=nn.GroupNorm(2, 6)))
    init_foreign(path, 3)
    with pytest.raises(UsageError, match=r"depends on where a tile lies .*logits differ by [0-9.e-]+;.*--any-network"):
        load_model(str(path))


def test_a_torchscript_network_takes_any_window(initialised, tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.script(initialised(Foreign())).save(str(path))
    init_foreign(path, 3)
    model = load_model(str(path))
    assert (model.window, model.batch, model.halo, model.stride) == (0, 0, 32, 32)
