"""Labels from rasters: numbers, colours and palettes by a map; each refusal in one line by name."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from osgeo import gdal
from truth.labelled import BY_COLOUR, CLASSES, COLOURS, HEIGHT, OF_COLOUR, TWO, WHOLE, WIDTH, numbers, opened, read, refusal

from hpcseg.config import LabelSpec, decode_toml
from hpcseg.errors import SceneError, UsageError
from hpcseg.raster import CellCache, describe
from hpcseg.tiles import Window
from hpcseg.truth import open_truth


def test_a_raster_of_class_numbers_needs_no_map(scene, make_labels):
    truth = opened(make_labels(numbers()), scene)
    np.testing.assert_array_equal(read(truth), numbers())


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_any_type_of_whole_numbers_will_do(dtype, scene, make_labels):
    pixels = numbers().astype(dtype)
    pixels[:50] = -9999 if dtype != "uint16" else 9999
    key = f"{pixels[0, 0]:.0f}"
    truth = opened(make_labels(pixels, dtype), scene, LabelSpec(map={"0": 0, "1": 1, "2.0": 2, key: "ignore"}))
    wanted = numbers()
    wanted[:50] = 255
    np.testing.assert_array_equal(read(truth), wanted)


def test_the_map_takes_names_and_numbers_and_ignore(scene, make_labels):
    values = np.array([10, 20, 30, 40, 255])
    pixels = values[np.random.default_rng(0).integers(0, 5, (HEIGHT, WIDTH))]
    spec = LabelSpec(map={"10": "road", "20": 0, "30": "ignore", "40": "roof"}, ignore=[255])
    wanted = np.array([2, 0, 255, 1, 255], np.uint8)[np.searchsorted(values, pixels)]
    np.testing.assert_array_equal(read(opened(make_labels(pixels), scene, spec)), wanted)


def test_the_map_is_read_from_a_configuration(tmp_path):
    class Settings(msgspec.Struct):
        labels: LabelSpec

    path = tmp_path / "train.toml"
    path.write_text('[labels]\nmap = {"0" = "ignore", "#ff0000" = "roof", "7" = 2}\nignore = [255]\nfield = "kind"\n')
    found = decode_toml(path, Settings).labels
    assert found == LabelSpec(map={"0": "ignore", "#ff0000": "roof", "7": 2}, ignore=[255], field="kind")
    path.write_text("[labels]\nmaps = {}\n")
    with pytest.raises(UsageError, match="maps"):
        decode_toml(path, Settings)


def test_the_files_own_nodata_is_not_labelled(scene, make_labels):
    pixels = numbers()
    pixels[:30] = 255
    np.testing.assert_array_equal(read(opened(make_labels(pixels, nodata=255), scene)), pixels)
    pixels = numbers()
    wanted = np.where(pixels == 0, 255, pixels)
    np.testing.assert_array_equal(read(opened(make_labels(pixels, nodata=0), scene)), wanted)


def test_255_is_ignored_only_if_the_file_or_the_user_says_so(scene, make_labels):
    pixels = numbers()
    pixels[100:110, 40:50] = 255
    path = make_labels(pixels)
    said = refusal(UsageError, path, scene)
    assert said.endswith(
        f"labels.tif, {WHOLE}: 255 is no class (0 to 2): say in [labels] map what it means, or add [labels] ignore = [255]"
    )
    np.testing.assert_array_equal(read(opened(path, scene, LabelSpec(ignore=[255]))), pixels)


def test_a_raster_of_0_and_255_is_refused_with_the_line_to_add(scene, make_labels):
    path = make_labels(numbers(2) * 255)
    said = refusal(UsageError, path, scene, classes=TWO)
    assert 'add [labels] map = {"0" = "background", "255" = "building"}' in said
    truth = opened(path, scene, LabelSpec(map={"0": "background", "255": "building"}), TWO)
    np.testing.assert_array_equal(read(truth), numbers(2))


def test_a_value_that_the_map_lacks_is_named_with_file_and_window(scene, make_labels):
    pixels = numbers().astype(float)
    pixels[200, 300] = 1.5
    path = make_labels(pixels, "float32")
    truth = opened(path, scene, LabelSpec(map={"0": 0, "1": 1, "2": 2}))
    np.testing.assert_array_equal(read(truth, Window(0, 0, 200, 420)), numbers()[:200])
    with pytest.raises(UsageError, match=r"labels.tif, rows 190:210, cols 290:310: 1.5 is not in \[labels\] map, which has 0, 1, 2"):
        read(truth, Window(190, 290, 20, 20))


def test_colours_are_looked_up_whole(scene, make_labels):
    index = numbers(4)
    path = make_labels(COLOURS[index].transpose(2, 0, 1))
    np.testing.assert_array_equal(read(opened(path, scene, BY_COLOUR)), OF_COLOUR[index])


def test_a_nodata_value_hides_only_pixels_that_have_it_in_all_bands(scene, make_labels):
    index = numbers(4)
    truth = opened(make_labels(COLOURS[index].transpose(2, 0, 1), nodata=0), scene, BY_COLOUR)
    np.testing.assert_array_equal(read(truth), np.array([255, 1, 2, 255], np.uint8)[index])


def test_where_alpha_is_0_nothing_is_labelled(scene, tmp_path):
    index, alpha = numbers(4), np.where(numbers(2, seed=1), 255, 0)
    raster = gdal.GetDriverByName("GTiff").Create(
        str(tmp_path / "a.tif"), WIDTH, HEIGHT, 4, gdal.GDT_Byte, ["PHOTOMETRIC=RGB", "ALPHA=YES"]
    )
    raster.WriteArray(np.concatenate([COLOURS[index].transpose(2, 0, 1), alpha[None].astype(np.uint8)]))
    raster = None
    np.testing.assert_array_equal(read(opened(tmp_path / "a.tif", scene, BY_COLOUR)), np.where(alpha, OF_COLOUR[index], 255))


def test_a_colour_that_the_map_lacks_is_not_guessed(scene, make_labels):
    pixels = COLOURS[numbers(4)].transpose(2, 0, 1).copy()
    pixels[:, 7, 9] = 254, 0, 1
    assert "#fe0001 is not in [labels] map" in refusal(UsageError, make_labels(pixels), scene, BY_COLOUR)


def test_a_palette_means_its_indices_or_its_colours(scene, palette):
    np.testing.assert_array_equal(read(opened(palette, scene, LabelSpec(ignore=[3]))), OF_COLOUR[numbers(4)])
    np.testing.assert_array_equal(read(opened(palette, scene, BY_COLOUR)), OF_COLOUR[numbers(4)])
    assert "#00ff00 is not in" in refusal(UsageError, palette, scene, LabelSpec(map={"#000000": 0, "#ff0000": 1, "#8040ff": 2}))


def test_another_band_may_hold_the_labels(scene, make_labels):
    path = make_labels(np.stack([numbers(3, seed=1), numbers()]))
    np.testing.assert_array_equal(read(opened(path, scene, LabelSpec(band=2))), numbers())
    assert "has bands 1 to 2, wanted 3" in refusal(SceneError, path, scene, LabelSpec(band=3))
    assert "has 2 bands: say what" in refusal(UsageError, path, scene)


def test_labels_in_a_band_of_the_scene_do_not_share_its_cells(make_scene, tmp_path):
    path = make_scene(tmp_path / "both.tif", HEIGHT, WIDTH, 2, pixels=np.stack([numbers(3, seed=1), numbers()]))
    scene, cache = describe(str(path), "both", (1,)), CellCache(1 << 26)
    for band, seed in ((2, 0), (1, 1), (2, 0)):
        spec = LabelSpec(band=band, map={str(k): k for k in range(3)})
        np.testing.assert_array_equal(read(open_truth(path, scene, spec, CLASSES, cache)), numbers(3, seed=seed))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (LabelSpec(map={"1": "tree"}), "maps '1' to 'tree', which is no class: wanted one of 0 ground, 1 roof, 2 road, or ignore"),
        (LabelSpec(map={"1": 3}), "maps '1' to 3, which is no class"),
        (LabelSpec(map={"1": -1}), "maps '1' to -1, which is no class"),
        (LabelSpec(map={"roof": 1}), "'roof' is neither a number nor a colour"),
        (LabelSpec(map={"#ff00": 1}), "'#ff00' is neither a number below"),
        (LabelSpec(map={"16777217": 1}), "'16777217' is neither a number below 16777216"),
        (LabelSpec(map={"nan": 1}), "'nan' is neither a number"),
        (LabelSpec(map={"#ff0000": 1, "0": 0}), "mixes colours and values: #ff0000, 0"),
        (LabelSpec(map={"1": 1}, ignore=[1]), "the value 1 in map and in ignore"),
    ],
)
def test_a_map_that_makes_no_sense_is_refused(spec, words, scene, make_labels):
    classes = 3 if any(key.startswith("#") for key in spec.map) else 1
    assert words in refusal(UsageError, make_labels(np.stack([numbers()] * classes)), scene, spec)


def test_a_map_of_colours_needs_colours(scene, make_labels):
    assert "has 1 bands of uint8, but a map of colours needs 3" in refusal(SceneError, make_labels(numbers()), scene, BY_COLOUR)
