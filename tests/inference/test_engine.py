"""The engine on a CPU: no bit depends on threads, and no pixel on the size of its tile."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
import torch

from hpcseg.inference.engine import CpuEngine, Recipe, make_engine, planes_on_device, scores_of, window_tensor, write_planes
from hpcseg.inference.options import fixed_values
from hpcseg.models import load_model
from hpcseg.raster import CellCache, SceneReader, describe
from hpcseg.store import heat_planes
from hpcseg.stream import Source, Stream
from hpcseg.tiles import Grid, Window

TIE = 1e-5


@pytest.fixture(scope="module")
def models(make_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {classes: load_model(str(make_model(folder / str(classes), classes=classes))) for classes in (2, 3)}


@pytest.fixture(scope="module")
def scene(make_scene, tmp_path_factory):
    pixels = np.random.default_rng(0).integers(1, 250, (3, 300, 340))
    pixels[:, 64:140, 128:210] = 0
    return describe(str(make_scene(tmp_path_factory.mktemp("scenes") / "a.tif", 300, 340, pixels=pixels, nodata=0)), "a")


def map_scene(scene, recipe, threads=1):
    """The planes of a whole scene by the stream: {name: (H, W)}."""
    grid = Grid(scene.height, scene.width, recipe.core, recipe.model.halo)
    source = Source([scene], [grid], [fixed_values(recipe.model.spec.normalisation, "all")], CellCache(1 << 26))
    planes = {name: np.full((scene.height, scene.width), 255, np.uint8) for name in recipe.planes}
    engine = make_engine(recipe, [grid], torch.device("cpu"), threads)
    for item in Stream(source, [(0, tile) for tile in range(grid.size)], engine):
        core = grid.core_window(item.tile)
        if item.state == "ready":
            for plane, part in zip(planes.values(), item.buffer.planes, strict=True):
                plane[core.slices] = part[: core.height, : core.width]
    return planes


def whole_logits(scene, model):
    """Logits (H, W, c) of the plain network over the whole scene at once, and validity (H, W)."""
    values, h, edge = fixed_values(model.spec.normalisation, "all"), model.halo, 512
    window = Window(-h, -h, edge, edge)
    tensor, array = window_tensor(edge, model.spec.bands, "fp32")
    valid = np.zeros((edge, edge), np.uint8)
    SceneReader(scene, values, CellCache(1 << 26)).read(window, h, array, valid)
    with torch.inference_mode():
        logits = model.network(tensor)[0].permute(1, 2, 0).numpy()
    inside = Window(h, h, scene.height, scene.width).slices
    return logits[inside], valid[inside] == 1


def margin(logits):
    """How far the label is from another: difference of the two highest logits, or distance from the cut 0."""
    ordered = np.sort(logits, -1)
    return np.abs(logits[..., 0]) if logits.shape[-1] == 1 else ordered[..., -1] - ordered[..., -2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_threads_do_not_change_a_bit(scene, models, precision):
    recipe = Recipe(models[3], 128, precision, ("labels", "confidence"))
    one, two = (map_scene(scene, recipe, threads) for threads in (1, 2))
    for name in recipe.planes:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("classes", [2, 3])
def test_tile_sizes_agree_but_in_ties(scene, models, classes):
    logits, valid = whole_logits(scene, models[classes])
    maps = [map_scene(scene, Recipe(models[classes], core, "fp32"))["labels"] for core in (64, 100, 172)]
    close = margin(logits) < TIE
    for other in maps[1:]:
        differ = maps[0] != other
        print(f"{int((differ & close).sum())} of {int((close & valid).sum())} ties differ")
        assert not (differ & ~close).any()
    assert close.mean() < 1e-3


@pytest.mark.parametrize("classes", [2, 3])
def test_the_map_is_the_argmax_of_the_network_over_the_whole_scene(scene, models, classes):
    model = models[classes]
    logits, valid = whole_logits(scene, model)
    labels = map_scene(scene, Recipe(model, 64, "fp32"))["labels"]
    wanted = logits.argmax(-1) if classes > 2 else logits[..., 0] >= 0
    safe = valid & (margin(logits) > 1e-4)
    np.testing.assert_array_equal(labels[safe], wanted[safe])
    assert (labels[~valid] == 255).all()
    assert (labels[valid] < classes).all()
    assert safe.sum() > 0.99 * valid.sum()


def test_the_threshold_moves_the_cut_of_a_single_logit(scene, models):
    logits, valid = whole_logits(scene, models[2])
    for threshold in (0.2, 0.9):
        spec = msgspec.structs.replace(models[2].spec, threshold=threshold)
        recipe = Recipe(dataclasses.replace(models[2], spec=spec), 64, "fp32")
        assert recipe.cut == pytest.approx(np.log(threshold / (1 - threshold)))
        labels = map_scene(scene, recipe)["labels"]
        safe = valid & (np.abs(logits[..., 0] - recipe.cut) > 1e-4)
        np.testing.assert_array_equal(labels[safe], logits[..., 0][safe] >= recipe.cut)


def test_confidence_is_the_label_s_probability_or_that_of_a_class(scene, models):
    logits, valid = whole_logits(scene, models[3])
    chances = torch.softmax(torch.from_numpy(logits.copy()).double(), -1).numpy()
    own = map_scene(scene, Recipe(models[3], 64, "fp32", ("labels", "confidence")))
    second = map_scene(scene, Recipe(models[3], 64, "fp32", ("labels", "confidence"), of_class=1))
    wanted = np.take_along_axis(chances, np.where(valid, own["labels"], 0)[..., None], -1)[..., 0]
    for found, exact in ((own["confidence"], wanted), (second["confidence"], chances[..., 1])):
        assert (np.abs(found - 254 * exact)[valid] <= 0.5 + 0.05).all()
        assert (found[~valid] == 255).all()
    np.testing.assert_array_equal(own["labels"], second["labels"])


def test_a_network_fixed_to_a_batch_gets_it(models):
    seen = []

    class Fixed(torch.nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape))
            return models[3].network(x)

    model = dataclasses.replace(models[3], network=Fixed(), batch=3)
    tensor, _ = window_tensor(64, 3, "fp32")
    with torch.inference_mode():
        assert CpuEngine(Recipe(model, 8, "fp32"), [], 1).logits(tensor).shape == (1, 3, 64, 64)
    assert seen == [(3, 3, 64, 64)]


@pytest.mark.parametrize(("precision", "kind"), [("fp32", np.float32), ("bf16", np.uint16)])
def test_a_window_and_its_array_share_memory(precision, kind):
    tensor, array = window_tensor(6, 3, precision)
    assert array.shape == (6, 18)
    assert array.dtype == kind
    assert tensor.shape == (1, 3, 6, 6)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    array[2, 3 * 4 + 1] = np.float32(1.5) if precision == "fp32" else 0x3FC0
    assert tensor[0, 1, 2, 4] == 1.5


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("of_class", [-1, 1])
def test_a_device_labels_by_the_rules_of_the_kernels(models, classes, of_class):
    recipe = Recipe(models[classes], 8, "fp32", ("labels", "confidence"), of_class)
    logits = torch.randn((1, 1 if classes == 2 else classes, 20, 30), generator=torch.Generator().manual_seed(0))
    kernels = [np.empty((20, 30), np.uint8) for _ in recipe.planes]
    write_planes(recipe, scores_of(logits[0]), np.ones((20, 30), np.uint8), Window(0, 0, 20, 30), kernels)
    labels, chances = (plane[0].numpy() for plane in planes_on_device(recipe, logits))
    np.testing.assert_array_equal(labels, kernels[0])
    assert np.abs(chances.astype(int) - kernels[1]).max() <= 1


@pytest.mark.parametrize("kinds", [1, 2])
def test_a_detectors_planes_are_the_heat_of_each_kind(scene, make_model, tmp_path, kinds):
    model = load_model(str(make_model(tmp_path, classes=kinds, spec={"task": "points", "sigma": 2.0})))
    recipe = Recipe(model, 128, "fp32", heat_planes(kinds))
    logits, valid = whole_logits(scene, model)
    wanted = np.where(valid[..., None], 254 / (1 + np.exp(-logits)), 255)
    for kind, plane in enumerate(map_scene(scene, recipe).values()):
        assert (np.abs(plane - wanted[..., kind]) <= 0.5 + 1e-3).all()
    on_device = planes_on_device(recipe, torch.from_numpy(logits).permute(2, 0, 1)[None])
    for kind, plane in enumerate(on_device):
        assert (np.abs(plane[0].numpy() - wanted[..., kind])[valid] <= 0.5 + 1e-3).all()
