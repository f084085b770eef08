"""Features and codes: the same wherever a cell lies, reflection beyond the scene, buckets by the nearest centroid."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
import torch
from gallery.archive import CELL
from safetensors.numpy import load_file

from hpcseg import device
from hpcseg.config import encode_toml
from hpcseg.errors import UsageError
from hpcseg.gallery.embed import Embedder, Encoder, digest_of, encode
from hpcseg.gallery.spec import HASH, MONO_BUCKET, Bucket
from hpcseg.models import load_model
from hpcseg.models.model import Model
from hpcseg.models.registry import NETWORKS, build


@pytest.fixture
def embedder(built):
    device.settle_threads()
    return Embedder(built[0])


def window(seed=0, edge=CELL):
    return np.random.default_rng(seed).random((edge, edge * 3), np.float32)


def test_a_cell_has_the_same_features_wherever_it_lies_in_a_window_and_in_any_thread(embedder):
    cell = window()
    around = window(1, 3 * CELL + 7)
    around[5 : 5 + CELL, 33 : 33 + 3 * CELL] = cell
    wanted = embedder.features(cell)
    np.testing.assert_array_equal(embedder.features(around[5 : 5 + CELL, 33 : 33 + 3 * CELL]), wanted)
    with ThreadPoolExecutor(3, initializer=device.settle_threads) as pool:
        for found in pool.map(embedder.features, [cell] * 6):
            np.testing.assert_array_equal(found, wanted)


def test_what_lies_beyond_the_scene_is_filled_by_reflection_alone(embedder):
    inside = CELL - 9, CELL - 20
    pixels = window().reshape(CELL, CELL, 3)
    whole = np.pad(pixels[: inside[0], : inside[1]], ((0, 9), (0, 20), (0, 0)), mode="reflect").reshape(CELL, -1)
    wanted = embedder.features(whole)
    np.testing.assert_array_equal(embedder.features(window(), inside), wanted)
    assert not np.array_equal(embedder.features(window()), wanted)


def test_a_window_that_was_read_is_left_as_it_is(embedder):
    cell = window()
    embedder.features(cell, (3, 5))
    np.testing.assert_array_equal(cell, window())


def test_cells_are_averaged_over_squares_before_the_encoder_sees_them(encoder):
    small = Encoder(load_model(str(encoder)), CELL, 4).shrink(window())
    wanted = window().reshape(CELL // 4, 4, CELL // 4, 4, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(small[0].numpy(), wanted, rtol=1e-6)


def test_features_are_the_mean_of_the_deepest_level_with_length_1(encoder):
    model = load_model(str(encoder))
    found = Encoder(model, CELL).features(torch.from_numpy(window().reshape(1, CELL, CELL, 3)).permute(0, 3, 1, 2))
    with torch.no_grad():
        deep = encode(model.network, torch.from_numpy(window().reshape(1, CELL, CELL, 3)).permute(0, 3, 1, 2))[0].numpy()
    assert deep.shape == (16, CELL // 4, CELL // 4)
    mean = deep.mean((1, 2))
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), rtol=1e-4, atol=1e-5)


def test_a_code_is_the_signs_of_the_hashing_networks_outputs(embedder, built):
    features = embedder.features(window())
    layers = load_file(built[0] / HASH)
    hidden = np.maximum(layers["0.weight"] @ features + layers["0.bias"], 0)
    outputs = layers["2.weight"] @ hidden + layers["2.bias"]
    assert int(embedder.code(features)) == sum(1 << k for k, value in enumerate(outputs) if value > 0)


def test_buckets_are_the_nearest_centroids_and_mono_beyond_the_largest_distance(embedder):
    centroids, farthest = embedder.spec.centroids, embedder.spec.max_distance
    codes = np.random.default_rng(0).integers(0, 2**32, 200, np.uint64)
    codes = np.concatenate([codes, centroids, centroids ^ np.uint64(1)])
    distances = np.bitwise_count(codes[:, None] ^ centroids[None])
    wanted = np.where(distances.min(1) > farthest, MONO_BUCKET, distances.argmin(1))
    buckets, found = embedder.buckets(codes)
    assert {MONO_BUCKET, 0} <= set(wanted)
    np.testing.assert_array_equal(buckets, wanted)
    np.testing.assert_array_equal(found, distances.min(1))
    assert embedder.bucket(codes[0]) == (wanted[0], distances[0].min())


def test_of_two_centroids_as_near_the_lower_number_wins(embedder, built, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "gallery")
    spec = msgspec.structs.replace(embedder.spec, buckets=[Bucket(code=f"{code:016x}", tiles=1) for code in (6, 3)], max_distance=64)
    digest = digest_of(spec, load_model(str(folder / "encoder")).digest, folder / HASH)
    (folder / "gallery.toml").write_bytes(encode_toml(msgspec.structs.replace(spec, digest=digest)))
    assert Embedder(folder).bucket(np.uint64(7)) == (0, 1)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"segnet", "one-convolution"}))
def test_encoders_of_our_networks_give_features(name):
    small = {"unet": {"down": [4, 8], "up": [4]}, "unet-light": {"down": [4, 8], "up": [4]},
             "unet-ice": {"widths": [4, 8], "dropout": [0, 0]}, "vgg16-deconv": {"widths": [4, 8], "depths": [1, 1], "up": [8, 4]},
             "resnet50-fcn": {"width": 4, "blocks": [1, 1, 1, 1]},
             "deeplab": {"width": 4, "blocks": [1, 1, 1, 1], "rates": [1]}}  # fmt: skip
    network = build(name, 3, 2, small[name])
    with torch.no_grad():
        assert encode(network, torch.zeros(1, 3, 64, 64)).ndim == 4


@pytest.mark.parametrize("name", ["segnet", "one-convolution"])
def test_a_network_without_an_encoder_that_works_alone_is_refused(name, make_model, tmp_path):
    small = {"segnet": {"widths": [4, 8], "depths": [1, 1]}}.get(name, {})
    network = build(name, 3, 2, small)
    spec = load_model(str(make_model(tmp_path / "any"))).spec
    model = Model(name, msgspec.structs.replace(spec, network=name), network, 0, network.stride, "")
    with pytest.raises(UsageError, match=f"network {name} has no encoder to take features from; unet-light has"):
        Encoder(model, CELL)


def test_a_cell_that_the_encoder_cannot_take_is_refused(encoder):
    with pytest.raises(UsageError, match="a cell of 30 pixels, reduced 2 times: wanted a multiple of 8"):
        Encoder(load_model(str(encoder)), 30, 2)


def test_a_foreign_encoder_or_hashing_network_is_refused(built, make_model, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "gallery")
    make_model(folder / "encoder", seed=5, down=[8, 16, 16], up=[16, 8])
    with pytest.raises(UsageError, match=r"is not the one that gallery.toml was made with"):
        Embedder(folder)


def test_a_hashing_network_that_is_none_is_refused(built, tmp_path):
    folder = shutil.copytree(built[0], tmp_path / "gallery")
    (folder / HASH).write_bytes(b"nothing")
    with pytest.raises(UsageError, match="is not the one"):
        Embedder(folder)


def test_a_folder_that_is_no_gallery_is_said_so(tmp_path):
    with pytest.raises(UsageError, match=r"holds no gallery \(gallery.toml\)"):
        Embedder(tmp_path)
