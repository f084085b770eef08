"""A model gallery whose networks are missing or belong elsewhere is refused in one line that names them."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest
import torch
from gallery.made import SCENE, patchwork, write_gallery, write_models

from hpcseg.config import Normalisation, encode_toml
from hpcseg.errors import UsageError
from hpcseg.gallery.members import is_gallery, open_gallery
from hpcseg.gallery.networks import Networks, need_of
from hpcseg.gallery.spec import GALLERY, MODELS, GallerySpec, ModelsSpec
from hpcseg.inference.engine import Recipe

FIXED = {"normalisation": Normalisation(mean=[0.0] * 3, std=[1.0] * 3)}
OTHER = {"normalisation": Normalisation(kind="scene", percentiles=(1.0, 99.0))}


@pytest.fixture(scope="module")
def made(make_model, make_scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    scene = make_scene(folder / "a.tif", 256, 256, pixels=patchwork(4, 4, 256, 256))
    write_models(write_gallery(folder / "g", make_model, scene), make_model, fallback=(2,))
    return folder / "g"


@pytest.fixture
def gallery(made, tmp_path):
    """A copy of a gallery whose bucket 2 has no network of its own."""
    shutil.copytree(made, tmp_path / "g")
    return tmp_path / "g"


def change(path, kind, **keys):
    record = msgspec.toml.decode(path.read_bytes(), type=kind)
    path.write_bytes(encode_toml(msgspec.structs.replace(record, **keys)))


def test_a_gallery_says_which_network_maps_which_bucket(made):
    found = open_gallery(made / "roofs")
    assert is_gallery(str(made / "roofs"))
    assert is_gallery(str(made))
    assert not is_gallery(str(made / "roofs/mono"))
    assert [each.folder.name for each in found.members] == ["mono", "bucket_0", "bucket_1"]
    assert found.of_bucket[[0, 1, 2, 254, 255]].tolist() == [1, 2, 0, 0, -1]
    assert found.halo == 28


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"bands": 1}, "bucket_1, the network of bucket 1: takes 1 bands, the gallery has 3"),
        ({"classes": 4}, "bucket_1, .* has the classes class 0 .*, class 3 .*, the mono model has class 0"),
        ({"spec": FIXED}, r"its normalisation is fixed .*, that of the gallery is scene \(2.0, 98.0\)"),
        ({"spec": OTHER}, r"its normalisation is scene \(1.0, 99.0\), that of the gallery is scene \(2.0, 98.0\)"),
        ({"spec": {"normalisation": SCENE, "prefilter": "ice"}}, "its scenes pass the filter ice"),
    ],
    ids=["bands", "classes", "fixed", "percentiles", "prefilter"],
)
def test_a_foreign_network_is_named(gallery, make_model, spec, message):
    make_model(gallery / "roofs/bucket_1", **({"spec": {"normalisation": SCENE}} | spec))
    with pytest.raises(UsageError, match=message):
        open_gallery(gallery / "roofs")


def test_a_missing_network_is_named(gallery):
    shutil.rmtree(gallery / "roofs/bucket_0")
    with pytest.raises(UsageError, match=r"bucket_0: the network of bucket 0 is missing: put it back, or train"):
        open_gallery(gallery / "roofs")


def test_weights_that_do_not_fit_are_named_with_their_bucket(gallery, make_model, tmp_path):
    wide = make_model(tmp_path / "wide", down=[8, 16, 32], spec={"normalisation": SCENE})
    shutil.copy(wide / "weights.safetensors", gallery / "roofs/bucket_1")
    with pytest.raises(UsageError, match=r"the network of bucket 1: .*does not fit"):
        open_gallery(gallery / "roofs")


def test_networks_of_another_image_gallery_are_refused(gallery):
    change(gallery / GALLERY, GallerySpec, digest="0" * 16)
    with pytest.raises(UsageError, match=r"belong to the image gallery .*, .. is 0000000000000000: train them again"):
        open_gallery(gallery / "roofs")


def test_a_bucket_too_few_and_another_centroid_are_refused(gallery):
    path = gallery / "roofs" / MODELS
    models = msgspec.toml.decode(path.read_bytes(), type=ModelsSpec).models
    change(path, ModelsSpec, models=models[:2])
    with pytest.raises(UsageError, match=r"names networks of the buckets \[0, 1\], the image gallery has 0 to 2"):
        open_gallery(gallery / "roofs")
    change(path, ModelsSpec, models=[*models[:2], msgspec.structs.replace(models[2], code="f" * 16)])
    with pytest.raises(UsageError, match="bucket 2 has the centroid ffffffffffffffff, the image gallery says"):
        open_gallery(gallery / "roofs")


def test_a_folder_without_its_image_gallery_is_refused(gallery):
    (gallery / GALLERY).unlink()
    with pytest.raises(UsageError, match=r"holds no gallery \(gallery.toml\)"):
        open_gallery(gallery / "roofs")


def test_networks_are_dropped_in_the_order_of_their_last_use_and_never_while_they_run(made):
    found = open_gallery(made / "roofs")
    recipe = Recipe(found.members[0].load(), 128, "fp32")
    networks = Networks(found.members, recipe, torch.device("cpu"), need_of(found.members) + 2 * found.members[0].nbytes)
    assert not networks.fit_together
    for number in (0, 1, 2):
        with networks.use(number):
            assert networks.loads == number + 1
    assert networks.peak <= need_of(found.members) + 2 * found.members[0].nbytes
    swaps = networks.swaps
    with networks.use(2), networks.use(2):
        assert networks.swaps == swaps, "the last one is there still"
    with networks.use(0) as first:
        loads = networks.loads
        with networks.use(1):
            pass
        with networks.use(0) as same:
            assert same is first
        assert networks.loads <= loads + 1


def test_networks_compute_what_their_model_computes(made):
    found = open_gallery(made / "roofs")
    networks = Networks(found.members, Recipe(found.members[0].load(), 128, "fp32"), torch.device("cpu"), 1 << 30)
    x = torch.rand(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), networks.use(2) as network:
        np.testing.assert_allclose(network.run(x), found.members[2].load().network(x), rtol=1e-4, atol=1e-4)


def test_a_gallery_of_images_is_refused_with_the_names_of_its_networks(gallery):
    with pytest.raises(UsageError, match=r"g is a gallery of images; wanted one of its model galleries: .*g/roofs$"):
        open_gallery(gallery)
    shutil.rmtree(gallery / "roofs")
    with pytest.raises(UsageError, match="none yet: hpcseg gallery train makes them"):
        open_gallery(gallery)
