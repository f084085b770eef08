"""What follows from what a user says: core, chunks, planes, and the identity of a map."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from hpcseg.errors import UsageError
from hpcseg.inference.options import Options, choose_core, fixed_values, identity_of
from hpcseg.mapping.options import differences, layout_of
from hpcseg.models import load_model
from hpcseg.raster import describe


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    return load_model(str(make_model(tmp_path_factory.mktemp("models") / "m", spec={"threshold": 0.4})))


@pytest.fixture(scope="module")
def scene(make_scene, tmp_path_factory):
    return describe(str(make_scene(tmp_path_factory.mktemp("scenes") / "a.tif", 100, 150, nodata=0)), "a")


def options(**changes):
    return Options(scenes=("a.tif",), model="m", out=Path("out"), **changes)


def test_the_core_is_1024_unless_asked(model):
    assert choose_core(options(), model) == 1024
    assert choose_core(options(core=512), model) == 512


def test_the_core_grows_to_four_halos(model):
    deep = dataclasses.replace(model, halo=700, stride=4)
    assert choose_core(options(), deep) >= 4 * 700
    assert choose_core(options(), deep) % 64 == 0


def test_a_core_off_the_network_s_stride_is_refused_with_both(model):
    with pytest.raises(UsageError, match="--core 510 is no multiple of the network's stride 4"):
        choose_core(options(core=510), model)


def test_a_fixed_window_leaves_one_core(model):
    fixed = dataclasses.replace(model, window=192, halo=32, stride=32)
    assert choose_core(options(), fixed) == choose_core(options(core=128), fixed) == 128
    with pytest.raises(UsageError, match="takes windows of 192 only, which leaves a core of 128"):
        choose_core(options(core=64), fixed)


@pytest.mark.parametrize(("core", "chunk"), [(64, 64), (1024, 1024), (1536, 768), (2048, 1024), (2816, 704)])
def test_the_chunk_is_the_largest_divisor_of_the_core_up_to_1024(scene, core, chunk):
    layout = layout_of(scene, core, 16, ("labels",))
    assert layout.chunk == chunk
    assert (layout.grid.height, layout.grid.width, layout.grid.core, layout.grid.halo) == (100, 150, core, 16)


def test_confidence_is_a_second_plane(model):
    spec = model.spec
    assert options().planes(spec) == ("labels",)
    assert options(confidence=True).planes(spec) == options(probability="class 1").planes(spec) == ("labels", "confidence")


def test_a_detector_has_a_plane_of_heat_for_each_class_and_no_confidence(model):
    spec = msgspec.structs.replace(model.spec, task="points", sigma=2.0)
    assert options().planes(spec) == ("heat_0", "heat_1", "heat_2")
    assert options().planes(msgspec.structs.replace(spec, classes=spec.classes[:1])) == ("heat",)
    with pytest.raises(UsageError, match="finds points, its map is their heat already"):
        options(confidence=True).planes(spec)


def test_a_class_is_chosen_by_name(model):
    assert options().of_class(model.spec) == -1
    assert options(probability="class 2").of_class(model.spec) == 2
    with pytest.raises(UsageError, match="--probability ice: wanted one of class 0, class 1, class 2"):
        options(probability="ice").of_class(model.spec)


def identity(scene, model, core=64, halo=28, precision="fp32", **changes):
    chosen = options(**changes)
    return identity_of(scene, model, layout_of(scene, core, halo, chosen.planes(model.spec)), chosen, precision)


def test_a_map_is_the_same_whoever_makes_it_and_wherever(scene, model):
    moved = msgspec.structs.replace(scene, path="/elsewhere/b.tif", name="b")
    first = identity(scene, model)
    assert identity(moved, model) == first
    assert identity(scene, dataclasses.replace(model, name="copy")) == first
    for changes in ({"threads": 8}, {"readers": 4}, {"batch": 2}, {"cache": 1}, {"stall": 5.0}, {"strict": True}, {"overwrite": True}):
        assert identity(scene, model, **changes) == first


def test_whatever_changes_a_byte_changes_the_identity(scene, model):
    first = identity(scene, model)
    changed = [
        identity(msgspec.structs.replace(scene, digest="other"), model),
        identity(msgspec.structs.replace(scene, height=101), model),
        identity(msgspec.structs.replace(scene, bands=(3, 2, 1)), model),
        identity(msgspec.structs.replace(scene, nodata=(9, 9, 9)), model),
        identity(msgspec.structs.replace(scene, aoi="POLYGON EMPTY"), model),
        identity(msgspec.structs.replace(scene, mask_path="m.tif", mask_digest="abc"), model),
        identity(scene, dataclasses.replace(model, digest="other")),
        identity(scene, dataclasses.replace(model, spec=msgspec.structs.replace(model.spec, normalisation=other_normalisation(model)))),
        identity(scene, model, core=128),
        identity(scene, model, halo=32),
        identity(scene, model, precision="bf16"),
        identity(scene, model, nodata_rule="any"),
        identity(scene, model, confidence=True),
        identity(scene, model, probability="class 1"),
    ]
    texts = [msgspec.json.encode(each) for each in (first, *changed)]
    assert len(set(texts)) == len(texts)


def other_normalisation(model):
    return msgspec.structs.replace(model.spec.normalisation, mean=[1.0, 2.0, 3.0])


def test_an_identity_survives_its_file(scene, model):
    first = identity(scene, model)
    assert msgspec.json.decode(msgspec.json.encode(first)) == first


def test_differences_name_key_and_both_values(scene, model):
    first, second = identity(scene, model), identity(scene, model, core=128, precision="bf16")
    assert differences(first, first) == []
    assert differences(first, second) == ["chunk is 128, wanted 64", "core is 128, wanted 64", "precision is bf16, wanted fp32"]
    assert differences({"core": 64}, {}) == ["core is None, wanted 64"]


def test_fixed_normalisation_is_value_less_mean_over_deviation(model):
    values = fixed_values(model.spec.normalisation, "any")
    assert values.rule == "any"
    for scale, offset in zip(values.scale, values.offset, strict=True):
        assert 120 * scale + offset == pytest.approx(0, abs=1e-12)
        assert 180 * scale + offset == pytest.approx(1)
