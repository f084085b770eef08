"""Which labels belong to which scene, and who is left over."""

from __future__ import annotations

import pytest

from hpcseg.errors import UsageError
from hpcseg.raster import Entry, pair_labels


@pytest.fixture
def files(tmp_path):
    """files("t/a.tif", ...) makes empty files and gives their paths."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return [str(tmp_path / name) for name in names]

    return make


def scenes(*names, **columns):
    return [Entry(name, (f"scenes/{name}.tif",), columns) for name in names]


def labels_by_name(entries, labels=()):
    pairs, unpaired = pair_labels(entries, labels)
    return {pair.entry.name: pair.label for pair in pairs}, unpaired


def test_labels_pair_by_stem_in_the_order_of_the_scenes(files, tmp_path):
    a, b = files("t/a.tif", "t/b.tif")
    for labels in ([b, a], [str(tmp_path / "t")], [str(tmp_path / "t" / "*.tif")]):
        pairs, unpaired = pair_labels(scenes("b", "a"), labels)
        assert [(pair.entry.name, pair.label) for pair in pairs] == [("b", b), ("a", a)]
        assert unpaired == []


def test_the_column_label_wins(files):
    told, _ = files("truth of a.tif", "a.tif")
    assert labels_by_name(scenes("a", label=told), files("a.tif"))[0] == {"a": told}


def test_an_id_wins_over_a_stem(files):
    north, _ = files("t/north.tif", "t/a.tif")
    pairs, unpaired = labels_by_name([Entry("north", ("x/a.tif",))], files("t/north.tif", "t/a.tif"))
    assert pairs == {"north": north}
    assert unpaired == [f"labels {files('t/a.tif')[0]}: no scene"]


def test_without_a_label_of_its_id_a_scene_takes_that_of_its_stem(files):
    (a,) = files("t/a.tif")
    assert labels_by_name([Entry("north", ("x/a.tif", "x/b.tif"))], [a])[0] == {"north": a}


@pytest.mark.parametrize("name", ["a.h5", "a.gpkg", "a.geojson", "a.shp", "a.fgb", "a.png", "a.tif", "a.TIF"])
def test_labels_are_rasters_predictions_or_vectors(files, tmp_path, name):
    (label,) = files(f"t/{name}")
    files("t/a.dbf", "t/a.tif.aux.xml", "t/notes.md")
    assert labels_by_name(scenes("a", "b"), [str(tmp_path / "t")]) == ({"a": label}, ["scene b: no labels"])


@pytest.mark.parametrize("ending", ["_mask", "_label", "_labels", "-truth", ".gt", "_MASK"])
def test_common_endings_pair_too(files, tmp_path, ending):
    label, _ = files(f"t/a{ending}.tif", "t/ab_mask.tif")
    assert labels_by_name(scenes("a"), [str(tmp_path / "t")])[0] == {"a": label}


def test_the_very_stem_wins_over_one_with_an_ending(files):
    a, other = files("t/a.tif", "t/a_mask.tif")
    assert labels_by_name(scenes("a"), [a, other]) == ({"a": a}, [f"labels {other}: no scene"])


@pytest.mark.parametrize("names", [("t/a_mask.tif", "t/a_labels.tif"), ("t/a.tif", "t/a.h5")])
def test_several_labels_of_a_scene_are_refused_with_both(files, names):
    with pytest.raises(UsageError, match=r"scene a has 2 labels, .*a\S* and .*a\S*: choose"):
        pair_labels(scenes("a"), files(*names))


def test_a_label_that_fits_two_scenes_is_refused_with_both(files):
    entries = [Entry("first", ("x/a.tif",)), Entry("second", ("y/a.tif",))]
    with pytest.raises(UsageError, match=r"a\.tif fits 2 scenes, first, second: name labels by the scenes' ids"):
        pair_labels(entries, files("t/a.tif"))


def test_a_manifest_may_give_one_label_to_several_scenes(files):
    (roofs,) = files("roofs.gpkg")
    assert labels_by_name(scenes("a", "b", label=roofs))[0] == {"a": roofs, "b": roofs}


def test_a_single_vector_file_labels_every_scene(files):
    (roofs,) = files("roofs.geojson")
    assert labels_by_name(scenes("a", "b"), [roofs]) == ({"a": roofs, "b": roofs}, [])


def test_a_single_vector_file_named_as_one_scene_labels_that_alone(files):
    (roofs,) = files("t/a.geojson")
    assert labels_by_name(scenes("a", "b"), [roofs]) == ({"a": roofs}, ["scene b: no labels"])


def test_a_single_raster_labels_a_single_scene_whatever_its_name(files):
    (flood,) = files("floodmask.tif")
    assert labels_by_name(scenes("after"), [flood])[0] == {"after": flood}
    with pytest.raises(UsageError, match=r"no scene has labels: scene a: no labels; scene b: no labels; labels .*floodmask\.tif: no scene"):
        pair_labels(scenes("a", "b"), [flood])


def test_real_footprints_and_mask_pair_with_their_scene(data):
    kampala = data / "buildings" / "kampala"
    entry = Entry("z21_rgb_3072x2048", (str(kampala / "z21_rgb_3072x2048.tif"),))
    for name in ("labels_z21.geojson", "z21_mask_3072x2048.tif"):
        assert labels_by_name([entry], [str(kampala / name)])[0] == {entry.name: str(kampala / name)}


def test_the_scenes_themselves_are_no_labels(files, tmp_path):
    a, mask = files("a.tif", "a_mask.tif")
    assert labels_by_name([Entry("a", (a,))], [str(tmp_path)]) == ({"a": mask}, [])


@pytest.mark.parametrize("report", ["run.json", "run.3of10.json", ".progress.json"])
def test_the_report_beside_maps_is_no_label(files, tmp_path, report):
    a, _ = files("maps/a.h5", f"maps/{report}")
    assert labels_by_name(scenes("a"), [str(tmp_path / "maps")]) == ({"a": a}, [])


def test_labels_that_a_manifest_names_but_that_do_not_exist_are_named(files, tmp_path):
    (a,) = files("a.tif")
    entries = [Entry("a", ("x/a.tif",), {"label": a}), Entry("b", ("x/b.tif",), {"label": str(tmp_path / "gone.tif")})]
    assert labels_by_name(entries) == ({"a": a}, [f"scene b: its labels {tmp_path / 'gone.tif'} do not exist"])


def test_nothing_paired_names_the_first_and_counts_the_rest():
    with pytest.raises(UsageError, match=r"scene s4: no labels and 5 more; give files of the scenes' stems"):
        pair_labels(scenes(*(f"s{k}" for k in range(10))))


@pytest.mark.parametrize("name", ["absent.tif", "empty", "*.xyz"])
def test_labels_that_are_not_there_are_refused_by_name(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no labels at .*wanted files, globs, or folders of "):
        pair_labels(scenes("a"), [str(tmp_path / name)])


def test_many_scenes_are_paired_in_a_moment(files):
    names = [f"s{k:04d}" for k in range(2000)]
    labels = files(*(f"t/{name}_mask.tif" for name in names))
    assert list(labels_by_name(scenes(*names), labels)[0].values()) == labels
