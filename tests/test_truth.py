"""Labels from rasters, colours, prediction files and polygons: the same classes in any window; each refusal in one line by name."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from osgeo import gdal, ogr, osr

from hpcseg import store
from hpcseg.config import LabelSpec, decode_toml
from hpcseg.errors import HpcsegError, ReadError, SceneError, StoreError, UsageError
from hpcseg.georeference import Georeference
from hpcseg.raster import CellCache, Entry, describe, open_label, open_name, read_array
from hpcseg.store import Layout, Prediction
from hpcseg.tiles import Grid, Window
from hpcseg.truth import count_tile, open_truth

CLASSES = ("ground", "roof", "road")
TWO = ("background", "building")
HEIGHT, WIDTH = 300, 420
WHOLE = Window(0, 0, HEIGHT, WIDTH)
NORTH_UP = (500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0)


def numbers(top=3, seed=0):
    """Class numbers in patches, u8 (HEIGHT, WIDTH)."""
    coarse = np.random.default_rng(seed).integers(0, top, (-(-HEIGHT // 20), -(-WIDTH // 20)), np.uint8)
    return coarse.repeat(20, 0).repeat(20, 1)[:HEIGHT, :WIDTH]


@pytest.fixture(scope="module")
def scene(make_scene, tmp_path_factory):
    return describe(str(make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", HEIGHT, WIDTH)), "scene")


@pytest.fixture
def make_labels(make_scene, tmp_path):
    """make_labels(pixels (h, w) or (b, h, w), ...) writes a label raster and returns its path."""

    def make(pixels, dtype="uint8", **options):
        pixels = pixels if pixels.ndim == 3 else pixels[None]
        return make_scene(tmp_path / "labels.tif", *pixels.shape[1:], len(pixels), dtype, pixels=pixels, **options)

    return make


def opened(path, scene, spec=None, classes=CLASSES):
    return open_truth(path, scene, spec or LabelSpec(), classes, CellCache(1 << 26))


def read(truth, window=WHOLE):
    out = np.full((window.height, window.width), 77, np.uint8)
    truth.read(window, out)
    return out


def refusal(kind, path, scene, spec=None, classes=CLASSES):
    """The line with which labels are refused, when they are opened or read."""
    with pytest.raises(HpcsegError) as error:
        read(opened(path, scene, spec, classes))
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


def cut(pixels, window):
    """A window of whole labels, 255 beyond the edge."""
    margin = 200
    return np.pad(pixels, margin, constant_values=255)[window._replace(row=window.row + margin, col=window.col + margin).slices]


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


COLOURS = np.array([(0, 0, 0), (255, 0, 0), (128, 64, 255), (0, 255, 0)], np.uint8)
BY_COLOUR = LabelSpec(map={"#000000": "ground", "#FF0000": "roof", "#8040ff": "road", "#00ff00": "ignore"})
OF_COLOUR = np.array([0, 1, 2, 255], np.uint8)


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


@pytest.fixture
def palette(tmp_path):
    """A raster with a palette of COLOURS, and its indices."""
    raster = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "palette.tif"), WIDTH, HEIGHT, 1, gdal.GDT_Byte)
    table = gdal.ColorTable()
    for k, colour in enumerate(COLOURS.tolist()):
        table.SetColorEntry(k, (*colour, 255))
    raster.GetRasterBand(1).SetColorTable(table)
    raster.WriteArray(numbers(4))
    raster = None
    return tmp_path / "palette.tif"


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


WINDOWS = st.tuples(st.integers(-150, 350), st.integers(-150, 500), st.integers(1, 180), st.integers(1, 180)).map(lambda w: Window(*w))


@pytest.fixture(scope="module")
def kinds(scene, make_scene, tmp_path_factory, alone):
    """The same labels as a raster, a prediction file and polygons."""
    folder = tmp_path_factory.mktemp("kinds")
    pixels = numbers()
    paths = [make_scene(folder / "labels.tif", HEIGHT, WIDTH, 1, pixels=pixels[None], block=64, compress="DEFLATE")]
    paths += [write_prediction(folder / "labels.h5", pixels, alone, CLASSES), write_patches(folder / "labels.gpkg", pixels)]
    return [opened(path, scene, LabelSpec(field="kind")) for path in paths]


def write_prediction(path, pixels, comm, classes, place=None):
    """A prediction file of these labels."""
    layout = Layout(Grid(*pixels.shape, 128, 0), 64)
    place = place or Georeference(wkt=utm(), transform=NORTH_UP, axes="projected")
    legend = json.dumps([{"name": name, "color": "#000000"} for name in classes])
    store.create(path, layout, {"core": 128, "halo": 0}, {"classes": legend}, place)
    file = Prediction(path, layout, comm)
    for tile in range(layout.grid.size):
        file.write(tile, [pixels[layout.grid.core_window(tile).slices]])
    file.close()
    return path


def utm(epsg=32633):
    system = osr.SpatialReference()
    system.ImportFromEPSG(epsg)
    return system.ExportToWkt()


def write_patches(path, pixels):
    """Polygons around equal pixels, their value in the field kind."""
    raster = gdal.GetDriverByName("MEM").Create("", WIDTH, HEIGHT, 1, gdal.GDT_Byte)
    raster.SetGeoTransform(NORTH_UP)
    raster.SetProjection(utm())
    raster.WriteArray(pixels)
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    layer = source.CreateLayer("patches", osr.SpatialReference(utm()), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("kind", ogr.OFTInteger))
    gdal.Polygonize(raster.GetRasterBand(1), None, layer, 0)
    del layer, source
    return path


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["raster", "prediction", "polygons"])
@given(window=WINDOWS)
def test_any_window_of_any_kind_is_a_cut_of_the_whole(kind, window, kinds):
    np.testing.assert_array_equal(read(kinds[kind], window), cut(numbers(), window))


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["raster", "prediction", "polygons"])
def test_threads_read_at_once(kind, kinds):
    windows = [Window(row, col, 90, 110) for row in range(-40, 300, 37) for col in range(-40, 420, 41)]
    with ThreadPoolExecutor(4) as pool:
        for window, found in zip(windows, pool.map(lambda w: read(kinds[kind], w), windows), strict=True):
            np.testing.assert_array_equal(found, cut(numbers(), window))


def files_open(folder):
    """How many files of a folder this process has open."""
    names = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    return sum(os.readlink(name).startswith(str(folder)) for name in names if os.path.islink(name))


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".gpkg"])
def test_of_many_truths_only_the_last_are_open(suffix, scene, make_labels, tmp_path, alone, monkeypatch):
    monkeypatch.setattr("hpcseg.raster.cells._FILES", 2)
    monkeypatch.setattr("hpcseg.raster.cells._DATASETS", 3)
    write = {".tif": make_labels, ".h5": lambda p: write_prediction(tmp_path / "labels.h5", p, alone, CLASSES),
             ".gpkg": lambda p: write_patches(tmp_path / "labels.gpkg", p)}[suffix]  # fmt: skip
    first = write(numbers())
    paths = [shutil.copy(first, tmp_path / f"{k}{suffix}") for k in range(6)]
    cache, spec = CellCache(1), LabelSpec(field="kind" if suffix == ".gpkg" else "")
    truths = [open_truth(path, scene, spec, CLASSES, cache) for path in paths]
    assert files_open(tmp_path) == 0
    for truth in truths * 2:
        np.testing.assert_array_equal(read(truth), numbers())
        assert files_open(tmp_path) <= 3
        assert cache.opened.weight <= 2
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(read, truths * 4):
            np.testing.assert_array_equal(found, numbers())
    os.remove(paths[0])
    with pytest.raises(ReadError, match=f"/0{suffix}"):
        read(truths[0])


def test_polygons_that_are_read_again_find_their_cells_in_the_cache(scene, tmp_path):
    path, cache = write_patches(tmp_path / "a.gpkg", numbers()), CellCache(1 << 26)
    truth = open_truth(path, scene, LabelSpec(field="kind"), CLASSES, cache)
    read(truth)
    before = cache.loads
    for k in range(cache.opened.capacity):
        cache.opened.get(k, object)
    np.testing.assert_array_equal(read(truth), numbers())
    assert cache.loads == before
    assert cache.opened.loads == 64 + 2


def test_classes_are_counted_tile_by_tile(kinds):
    grid = Grid(HEIGHT, WIDTH, 128, 0)
    counts = np.stack([count_tile(kinds[0], grid.core_window(tile)) for tile in range(grid.size)])
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts.sum(0), np.bincount(numbers().ravel()))
    np.testing.assert_array_equal(count_tile(kinds[0], Window(-9, -9, 9, 9)), np.zeros(3))


def test_what_a_map_has_not_mapped_is_not_labelled(scene, tmp_path, alone):
    pixels = numbers()
    pixels[128:256, 128:256] = 255
    truth = opened(write_prediction(tmp_path / "a.h5", pixels, alone, CLASSES), scene)
    np.testing.assert_array_equal(read(truth), pixels)


def test_prediction_files_with_other_classes_or_grids_are_refused(scene, tmp_path, alone):
    path = write_prediction(tmp_path / "a.h5", numbers(), alone, CLASSES[::-1])
    assert "has the classes road, roof, ground, wanted ground, roof, road" in refusal(SceneError, path, scene)
    path = write_prediction(tmp_path / "b.h5", numbers()[:-1], alone, CLASSES)
    assert "is 299x420 pixels, the scene 300x420" in refusal(SceneError, path, scene)
    (tmp_path / "c.h5").write_bytes(b"none")
    assert "not a prediction file" in refusal(StoreError, tmp_path / "c.h5", scene)


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (LabelSpec(map={"0": "road", "1": "ignore", "2": 0}), [2, 255, 0]),
        (LabelSpec(map={"sea": "road", "floe": 1, "2": "ignore"}), [2, 1, 255]),
        (LabelSpec(map={"sea": 0, "floe": 1}, ignore=[2]), [0, 1, 255]),
        (LabelSpec(map={"sea": 0, "floe": 1, "2": 1, "cloud": 2}), [0, 1, 2]),
    ],
    ids=["numbers", "names", "ignore", "names before numbers"],
)
def test_the_classes_of_a_prediction_file_are_looked_up(spec, wanted, scene, tmp_path, alone):
    pixels = numbers()
    pixels[:50] = 255
    truth = opened(write_prediction(tmp_path / "a.h5", pixels, alone, ("sea", "floe", "cloud")), scene, spec)
    np.testing.assert_array_equal(read(truth), np.array([*wanted, *[255] * 253], np.uint8)[pixels])


def test_ignored_classes_of_a_prediction_file_need_no_map(scene, tmp_path, alone):
    truth = opened(write_prediction(tmp_path / "a.h5", numbers(), alone, CLASSES), scene, LabelSpec(ignore=[1]))
    np.testing.assert_array_equal(read(truth), np.array([0, 255, 2], np.uint8)[numbers()])


def test_a_prediction_file_whose_classes_the_map_lacks_is_refused(scene, tmp_path, alone):
    path = write_prediction(tmp_path / "a.h5", numbers(), alone, ("sea", "floe", "cloud"))
    said = refusal(UsageError, path, scene, LabelSpec(map={"sea": 0, "1": 1}))
    assert said == f'{path}: its class cloud is not in [labels] map, which has sea, 1: add it, or "ignore"'
    path = write_prediction(tmp_path / "b.h5", numbers(4), alone, CLASSES)
    assert "label 3 is none of the file's own classes" in refusal(UsageError, path, scene)


def test_polygons_without_a_field_are_class_1(scene, tmp_path):
    path = write_patches(tmp_path / "a.gpkg", numbers())
    assert (read(opened(path, scene)) == 1).all()
    assert "needs [labels] field" in refusal(UsageError, path, scene, LabelSpec(map={"1": 1}))


def test_the_field_of_polygons_is_looked_up(scene, tmp_path):
    path = write_patches(tmp_path / "a.gpkg", numbers())
    spec = LabelSpec(field="kind", map={"0": "road", "1": "ignore", "2": 0})
    np.testing.assert_array_equal(read(opened(path, scene, spec)), np.array([2, 255, 0], np.uint8)[numbers()])
    spec = LabelSpec(field="kind", ignore=[2])
    np.testing.assert_array_equal(read(opened(path, scene, spec)), np.array([0, 1, 255], np.uint8)[numbers()])
    said = refusal(UsageError, path, scene, LabelSpec(field="kind", map={"0": 0, "1": 1}))
    assert "a.gpkg: kind is '2', wanted 0, 1: add it to [labels] map" in said


def test_pixels_outside_all_polygons_may_be_left_out(scene, tmp_path):
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(tmp_path / "a.gpkg"))
    layer = source.CreateLayer("a", osr.SpatialReference(utm()), ogr.wkbPolygon)
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometry(ogr.CreateGeometryFromWkt("POLYGON((500000 5000000,500100 5000000,500100 4999900,500000 4999900,500000 5000000))"))
    layer.CreateFeature(feature)
    del feature, layer, source
    for background, number in ((0, 0), ("road", 2), ("ignore", 255)):
        wanted = np.full((HEIGHT, WIDTH), number, np.uint8)
        wanted[:10, :10] = 1
        np.testing.assert_array_equal(read(opened(tmp_path / "a.gpkg", scene, LabelSpec(background=background))), wanted)


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


SHIFTED = (500000.02, 10.0, 0.0, 5000000.0, 0.0, -10.0)
CLOSE = (500000.009, 10.0, 0.0, 5000000.0, 0.0, -10.0)
STRETCHED = (500000.0, 10.0001, 0.0, 5000000.0, 0.0, -10.0)


def test_labels_on_another_grid_are_refused_saying_both(scene, make_labels):
    said = refusal(SceneError, make_labels(numbers()[:, :-1]), scene)
    assert "labels.tif: labels on another grid than scene: it is 300x419 pixels, the scene 300x420" in said
    for transform in (SHIFTED, STRETCHED):
        said = refusal(SceneError, make_labels(numbers(), transform=transform), scene)
        assert f"has the geotransform {transform}, the scene {NORTH_UP}" in said
    said = refusal(SceneError, make_labels(numbers(), epsg=32632), scene)
    assert "is in WGS 84 / UTM zone 32N, the scene in WGS 84 / UTM zone 33N" in said


@pytest.mark.parametrize("options", [{"transform": CLOSE}, {"transform": None, "epsg": None}, {"epsg": None}])
def test_a_thousandth_of_a_pixel_and_labels_without_a_place_are_taken(options, scene, make_labels):
    np.testing.assert_array_equal(read(opened(make_labels(numbers(), **options), scene)), numbers())


def test_ground_control_points_must_be_the_same(data, make_labels):
    points = describe(str(data / "rasters" / "cog_gcps.tif"), "points")
    pixels = np.zeros((points.height, points.width), np.uint8)
    assert "the scene" in refusal(SceneError, make_labels(pixels), points)
    window = Window(0, 0, 50, 50)
    assert (read(opened(make_labels(pixels, transform=None, epsg=None), points), window) == 0).all()


def test_files_that_cannot_be_read_are_named(scene, tmp_path, data):
    assert f"{tmp_path / 'absent.tif'}: cannot be opened" in refusal(SceneError, tmp_path / "absent.tif", scene)
    broken = describe(str(data / "odd_inputs" / "corrupt.tif"), "broken")
    truth = opened(broken.path, broken, LabelSpec(band=1, map={str(k): k % 2 for k in range(256)}))
    with pytest.raises(ReadError, match=r"corrupt\.tif"):
        read(truth, Window(0, 0, broken.height, broken.width))


@pytest.mark.parametrize(
    ("image", "polygons", "mask"),
    [
        ("kampala/z21_rgb_3072x2048.tif", "kampala/labels_z21.geojson", "kampala/z21_mask_3072x2048.tif"),
        ("vegas/RGB-PanSharpen_AOI_2_Vegas_img205.tif", "vegas/buildings_AOI_2_Vegas_img205.geojson", "vegas/vegas_img205_mask.tif"),
    ],
    ids=["kampala", "vegas"],
)
def test_footprints_burn_to_the_mask_that_came_with_them(image, polygons, mask, data):
    folder = data / "buildings"
    scene = describe(str(folder / image), "scene")
    window = Window(0, 0, scene.height, scene.width)
    burned, given = (read(opened(folder / path, scene, classes=TWO), window) for path in (polygons, mask))
    np.testing.assert_array_equal(given, read_array(folder / mask, window).reshape(given.shape))
    agreement = (burned == given).mean()
    print(f"{image}: {burned.mean():.4f} burned, {given.mean():.4f} in the mask, agreement {agreement:.6f}")
    assert 0.2 < given.mean() < 0.3
    assert agreement >= 0.9999


# Labels of a scene that is read through a warp.


def warped(scene_path, label, spec=None, classes=CLASSES, **warp):
    """A scene and its truth, both through that warp."""
    entry = Entry("scene", (str(scene_path),))
    scene = describe(open_name(entry, **warp), "scene")
    source = open_label(str(label), entry, **warp)
    return scene, open_truth(label, scene, spec or LabelSpec(), classes, CellCache(1 << 26), source)


def whole(scene):
    return Window(0, 0, scene.height, scene.width)


FINER = {"plain": {}, "no place": {"transform": None, "epsg": None}, "nodata out of range": {"nodata": -9999}}


@pytest.mark.parametrize("options", FINER.values(), ids=FINER)
def test_labels_on_the_scenes_own_grid_follow_its_resolution(options, scene, make_labels):
    found, truth = warped(scene.path, make_labels(numbers(), **options), resolution=5.0)
    np.testing.assert_array_equal(read(truth, whole(found)), numbers().repeat(2, 0).repeat(2, 1))


def test_a_warp_keeps_nodata_colours_and_palettes(scene, make_labels, palette):
    index = numbers(4)
    finer = index.repeat(2, 0).repeat(2, 1)
    for nodata, of_colour in ((None, OF_COLOUR), (0, [255, 1, 2, 255]), (255, OF_COLOUR)):
        path = make_labels(COLOURS[index].transpose(2, 0, 1), nodata=nodata)
        found, truth = warped(scene.path, path, BY_COLOUR, resolution=5.0)
        np.testing.assert_array_equal(read(truth, whole(found)), np.array(of_colour, np.uint8)[finer])
    for spec in (LabelSpec(ignore=[3]), BY_COLOUR):
        found, truth = warped(scene.path, palette, spec, resolution=5.0)
        np.testing.assert_array_equal(read(truth, whole(found)), OF_COLOUR[finer])
    pixels = numbers()
    wanted = np.where(pixels == 1, 255, pixels)
    found, truth = warped(scene.path, make_labels(pixels, nodata=1), resolution=5.0)
    np.testing.assert_array_equal(read(truth, whole(found)), wanted.repeat(2, 0).repeat(2, 1))


def test_overviews_do_not_mix_the_labels_of_a_coarser_scene(scene, make_labels):
    path = make_labels(numbers(2) * 2)
    gdal.Open(str(path)).BuildOverviews("AVERAGE", [2, 4])
    found, truth = warped(scene.path, path, resolution=40.0)
    assert set(np.unique(read(truth, whole(found)))) == {0, 2}


def test_nothing_is_labelled_in_the_margin_of_another_system(scene, make_labels):
    found, truth = warped(scene.path, make_labels(numbers(2) + 1), crs="EPSG:32632")
    labels = read(truth, whole(found))
    dataset = gdal.Open(found.path)
    valid = dataset.GetRasterBand(1).GetMaskBand().ReadAsArray() != 0
    assert 0.05 < (labels == 255).mean() < 0.95
    assert ((labels != 255) == valid).mean() > 0.98
    assert set(np.unique(labels)) == {1, 2, 255}


def test_labels_on_the_warped_grid_are_taken_as_they_are_and_others_refused(scene, make_scene, make_labels, tmp_path):
    finer = numbers().repeat(2, 0).repeat(2, 1)
    path = make_labels(finer, transform=(500000.0, 5.0, 0.0, 5000000.0, 0.0, -5.0))
    found, truth = warped(scene.path, path, resolution=5.0)
    np.testing.assert_array_equal(read(truth, whole(found)), finer)
    with pytest.raises(SceneError, match=r"labels.tif: labels on another grid than scene: it is 300x419 pixels, the scene 600x840"):
        warped(scene.path, make_labels(numbers()[:, :-1]), resolution=5.0)
    with pytest.raises(SceneError, match=r"^/.*absent.tif: cannot be opened"):
        warped(scene.path, tmp_path / "absent.tif", resolution=5.0)


def test_a_warped_mask_nearly_equals_the_footprints_it_came_with(data):
    folder = data / "buildings" / "kampala"
    paths = [folder / name for name in ("labels_z21.geojson", "z21_mask_3072x2048.tif")]
    both = [warped(folder / "z21_rgb_3072x2048.tif", path, classes=TWO, resolution=0.15) for path in paths]
    burned, given = (read(truth, whole(found)) for found, truth in both)
    agreement = (burned == given).mean()
    print(f"{burned.shape}: {burned.mean():.4f} burned, {given.mean():.4f} in the mask, agreement {agreement:.6f}")
    assert 0.2 < (given == 1).mean() < 0.3
    assert agreement > 0.98
