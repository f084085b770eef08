"""The prediction file: what is written is read, by us and by others, and what is broken is noticed."""

from __future__ import annotations

import os
import shutil
import zlib

import h5py
import numpy as np
import pytest
import xarray
from osgeo import gdal, osr

from hpcseg import mpi, store
from hpcseg.errors import StoreError
from hpcseg.georeference import Georeference, GroundPoint
from hpcseg.store import DONE, EMPTY, FAILED, MISSING, NODATA, Access, Layout, Prediction
from hpcseg.tiles import Grid, Window

IDENTITY = {"core": 64, "halo": 8, "scene": {"digest": "abc"}}
LAYOUT = Layout(Grid(150, 200, 64, 8), 32, ("labels", "confidence"))


def wkt(code):
    system = osr.SpatialReference()
    system.ImportFromEPSG(code)
    return system.ExportToWkt()


UTM = Georeference(wkt=wkt(32633), transform=(5e5, 10.0, 0.0, 5e6, 0.0, -10.0), axes="projected")
DEGREES = Georeference(wkt=wkt(4326), transform=(-30.0, 1e-4, 0.0, 75.0, 0.0, -1e-4), axes="geographic")
ROTATED = Georeference(wkt=wkt(32633), transform=(5e5, 9.0, 3.0, 5e6, 3.0, -9.0), axes="projected")
POINTS = Georeference(gcps=[GroundPoint(k, 2 * k, 1e5 + k / 3, 5e6 - k, id=str(k)) for k in range(3000)], gcp_wkt=wkt(32633))
NOWHERE = Georeference()


def tile_of(layout, tile, seed=0):
    """Planes of a tile's core: labels 0 to 2, confidences 0 to 254."""
    core, rng = layout.grid.core_window(tile), np.random.default_rng((seed, tile))
    return [rng.integers(0, top, (core.height, core.width), np.uint8) for top in (3, 255)][: len(layout.planes)]


def write_all(path, comm, layout=LAYOUT, place=UTM):
    """A finished file: tile 1 empty, tile 2 failed, the others done."""
    store.create(path, layout, IDENTITY, {"model": "test"}, place)
    file = Prediction(path, layout, comm)
    file.clear(range(layout.grid.size))
    for tile in range(layout.grid.size):
        if tile == 1:
            file.write_empty(tile)
        elif tile == 2:
            file.write_failed(tile)
        else:
            file.write(tile, tile_of(layout, tile))
    file.sync()
    file.close()
    return store.read(path)


@pytest.fixture
def finished(tmp_path, alone):
    return write_all(tmp_path / "scene.h5", alone)


def test_what_is_written_is_read(finished):
    for tile in range(LAYOUT.grid.size):
        core = LAYOUT.grid.core_window(tile)
        for plane, wanted in zip(LAYOUT.planes, tile_of(LAYOUT, tile), strict=True):
            found = store.read_window(finished, core, plane)
            np.testing.assert_array_equal(found, np.full_like(found, NODATA) if tile in (1, 2) else wanted)


def test_a_file_tells_how_it_was_made(finished):
    assert finished.layout == LAYOUT
    assert finished.identity == IDENTITY
    assert finished.attributes["model"] == "test"
    assert finished.place == UTM


def test_status_and_crc_of_each_tile_are_kept(finished):
    status = np.full(LAYOUT.grid.size, DONE)
    status[1], status[2] = EMPTY, FAILED
    np.testing.assert_array_equal(finished.status.ravel(), status)
    assert finished.counts() == {"missing": 0, "done": 10, "nothing to do": 1, "failed": 1}
    planes = tile_of(LAYOUT, 0)
    assert finished.crc[0, 0] == zlib.crc32(planes[0].tobytes() + planes[1].tobytes())


def test_done_and_empty_tiles_hold_missing_and_failed_ones_do_not(finished):
    right = store.check(finished, np.arange(LAYOUT.grid.size))
    np.testing.assert_array_equal(right, np.arange(LAYOUT.grid.size) != 2)
    np.testing.assert_array_equal(store.check(finished, np.array([2, 5])), [False, True])


@pytest.mark.parametrize("plane", ["labels", "confidence"])
@pytest.mark.parametrize("tile", [0, 1, 6, 11])
def test_one_flipped_bit_is_noticed_in_its_tile_alone(finished, plane, tile):
    core = LAYOUT.grid.core_window(tile)
    with h5py.File(finished.path) as file:
        dataset = file[plane]
        corner = (core.row, core.col)
        offset = next(dataset.id.get_chunk_info(k) for k in range(dataset.id.get_num_chunks())
                      if dataset.id.get_chunk_info(k).chunk_offset == corner).byte_offset  # fmt: skip
    with finished.path.open("r+b") as file:
        file.seek(offset + 33)
        byte = file.read(1)[0]
        file.seek(offset + 33)
        file.write(bytes([byte ^ 1]))
    right = store.check(store.read(finished.path), np.arange(LAYOUT.grid.size))
    assert np.flatnonzero(~right).tolist() == sorted({2, tile})


def test_a_new_file_has_all_its_bytes_and_no_tiles(tmp_path):
    path = tmp_path / "scene.h5"
    store.create(path, LAYOUT, IDENTITY, {}, UTM)
    assert LAYOUT.nbytes <= path.stat().st_size <= LAYOUT.nbytes + 100_000
    assert store.read(path).counts()["missing"] == LAYOUT.grid.size
    assert not store.check(store.read(path), np.arange(LAYOUT.grid.size)).any()


def test_cleared_tiles_read_as_no_data(tmp_path, alone):
    path = tmp_path / "scene.h5"
    store.create(path, LAYOUT, IDENTITY, {}, UTM)
    size = path.stat().st_size
    file = Prediction(path, LAYOUT, alone)
    file.clear(range(LAYOUT.grid.size))
    file.close()
    assert (store.read_window(store.read(path), LAYOUT.grid.extent) == NODATA).all()
    assert path.stat().st_size == size


def test_what_was_written_is_there_before_the_file_is_closed(tmp_path, alone):
    path, copy = tmp_path / "scene.h5", tmp_path / "copy.h5"
    store.create(path, LAYOUT, IDENTITY, {}, UTM)
    file = Prediction(path, LAYOUT, alone)
    file.write(5, tile_of(LAYOUT, 5))
    shutil.copy(path, copy)
    file.close()
    seen = store.read(copy)
    assert seen.status.ravel()[5] == DONE
    assert np.flatnonzero(store.check(seen, np.arange(LAYOUT.grid.size))).tolist() == [5]


def test_a_file_is_resumed_without_losing_tiles(tmp_path, alone):
    path = tmp_path / "scene.h5"
    store.create(path, LAYOUT, IDENTITY, {}, UTM)
    for tiles in ([0, 7], [3, 11]):
        file = Prediction(path, LAYOUT, alone)
        file.clear(tiles)
        for tile in tiles:
            file.write(tile, tile_of(LAYOUT, tile))
        file.close()
    assert np.flatnonzero(store.check(store.read(path), np.arange(LAYOUT.grid.size))).tolist() == [0, 3, 7, 11]


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (2, 300), (65, 3)])
def test_scenes_smaller_than_a_chunk(tmp_path, alone, shape):
    layout = Layout(Grid(*shape, 64, 8), 64)
    file_of = tmp_path / "scene.h5"
    store.create(file_of, layout, IDENTITY, {}, UTM)
    file = Prediction(file_of, layout, alone)
    for tile in range(layout.grid.size):
        file.write(tile, tile_of(layout, tile))
    file.close()
    seen = store.read(file_of)
    assert store.check(seen, np.arange(layout.grid.size)).all()
    assert store.read_window(seen, layout.grid.extent).shape == shape


def test_chunks_cover_a_core_whole_also_over_the_edge():
    chunks = list(LAYOUT.chunks(11))
    assert [c[:2] for c in chunks] == [(128, 192)]
    assert all(c[2:] == (32, 32) for c in LAYOUT.chunks(0))
    assert len(list(LAYOUT.chunks(0))) == 4


def offsets(path, plane="labels"):
    """Where the chunks of a plane begin in the file."""
    with h5py.File(path) as file:
        dataset = file[plane].id
        return np.array([dataset.get_chunk_info(k).byte_offset for k in range(dataset.get_num_chunks())])


@pytest.mark.parametrize("through_mpi", [False, True])
@pytest.mark.parametrize(("stripe", "step"), [(1 << 20, 4096), (4096, 4096), (1024, 1024)])
def test_chunks_begin_where_stripes_do(tmp_path, alone, stripe, step, through_mpi):
    layout = Layout(Grid(700, 1000, 64, 0), 64, ("labels", "confidence"))
    info = mpi.file_hints({"striping_factor": "4", "unheard_of": "1"}) if through_mpi else None
    access = Access(stripe, info, alone if through_mpi else None)
    store.create(tmp_path / "a.h5", layout, {"core": 64, "halo": 0}, {}, Georeference(), access)
    for plane in layout.planes:
        found = offsets(tmp_path / "a.h5", plane)
        assert len(found) == 11 * 16
        assert not (found % step).any()
    assert (tmp_path / "a.h5").stat().st_size < 1.05 * layout.nbytes
    store.create(tmp_path / "b.h5", layout, {"core": 64, "halo": 0}, {}, Georeference())
    assert (offsets(tmp_path / "b.h5") % step).any()


@pytest.mark.parametrize(("chunk", "dtype", "stripe", "fits"), [
    (1024, "uint8", 1 << 20, True), (1024, "uint8", 16 << 20, True), (512, "uint8", 1 << 20, True), (1024, "uint32", 1 << 20, True),
    (544, "uint8", 1 << 20, False), (544, "uint8", 0, True),
])  # fmt: skip
def test_stripes_that_chunks_do_not_fill_are_told(chunk, dtype, stripe, fits):
    assert Layout(Grid(100, 100, chunk, 0), chunk, ("labels",), dtype).fits(stripe) == fits


def test_a_chunk_that_does_not_divide_the_core_is_refused():
    with pytest.raises(StoreError, match="chunk 48 does not divide core 64"):
        Layout(Grid(100, 100, 64, 8), 48)


@pytest.mark.parametrize("place", [UTM, DEGREES], ids=["projected", "geographic"])
def test_xarray_opens_a_file_with_its_coordinates(tmp_path, alone, place):
    path = write_all(tmp_path / "scene.h5", alone, place=place).path
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        y, x = place.coordinates(150, 200)
        np.testing.assert_allclose(dataset.y, y)
        np.testing.assert_allclose(dataset.x, x)
        assert dataset.labels.dims == ("y", "x")
        assert dataset.labels.attrs["grid_mapping"] == "spatial_ref"
        assert np.isnan(dataset.labels[:64, 64:128]).all()
        assert dataset.spatial_ref.attrs["crs_wkt"] == place.wkt
        words = {"projected": "projection_x_coordinate", "geographic": "longitude"}
        assert dataset.x.attrs["standard_name"] == words[place.axes]


@pytest.mark.parametrize("place", [UTM, DEGREES], ids=["projected", "geographic"])
def test_gdal_opens_a_file_and_knows_where_it_lies(tmp_path, alone, place):
    path = write_all(tmp_path / "scene.h5", alone, place=place).path
    dataset = gdal.Open(f'NETCDF:"{path}":labels')
    assert dataset.GetGeoTransform() == pytest.approx(place.transform)
    wanted = osr.SpatialReference(place.wkt)
    for system in (wanted, found := dataset.GetSpatialRef()):
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    assert found.IsSame(wanted)
    assert dataset.GetRasterBand(1).GetNoDataValue() == NODATA
    np.testing.assert_array_equal(dataset.ReadAsArray(), store.read_window(store.read(path), LAYOUT.grid.extent))


@pytest.mark.parametrize("place", [ROTATED, POINTS, NOWHERE], ids=["rotated", "gcps", "none"])
def test_a_georeference_without_coordinates_is_kept_as_attributes(tmp_path, alone, place):
    stored = write_all(tmp_path / "scene.h5", alone, place=place)
    assert stored.place == place
    with xarray.open_dataset(stored.path, engine="h5netcdf") as dataset:
        assert "x" not in dataset.coords
        assert dataset.labels.dims == ("y", "x")
        transform = dataset.spatial_ref.attrs.get("GeoTransform")
    assert (transform is None) == (place.transform is None)
    assert transform is None or tuple(map(float, transform.split())) == place.transform


def test_a_file_that_cannot_be_created_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "scene.h5"
    with pytest.raises(StoreError, match=r"absent/scene\.h5: cannot be created"):
        store.create(tmp_path / "absent" / "scene.h5", LAYOUT, IDENTITY, {}, UTM)

    def full(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left"):
        store.create(path, LAYOUT, IDENTITY, {}, UTM)
    assert list(tmp_path.iterdir()) == []


def test_a_part_file_left_by_a_killed_run_is_no_prediction_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *names: None)
    store.create(tmp_path / "scene.h5", LAYOUT, IDENTITY, {}, UTM)
    assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.glob("*.h5")) == []
    with pytest.raises(StoreError, match=r"scene\.h5"):
        store.read(tmp_path / "scene.h5")


def test_a_file_that_cannot_be_opened_for_writing_is_refused_by_name(tmp_path, alone):
    (tmp_path / "scene.h5").write_text("no HDF5")
    with pytest.raises(StoreError, match=r"scene\.h5: cannot be opened for writing"):
        Prediction(tmp_path / "scene.h5", LAYOUT, alone)


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def edit(change):
    """Something to do to an open HDF5 file, done to a path."""

    def apply(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def replace_labels(file):
    del file["labels"]
    file["labels"] = np.zeros((150, 200), np.uint8)


DAMAGES = {
    "absent": lambda path: path.unlink(),
    "text": lambda path: path.write_text("no HDF5"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncate,
    "without identity": edit(lambda file: file.attrs.__delitem__("identity")),
    "identity is no JSON": edit(lambda file: file.attrs.__setitem__("identity", "{")),
    "identity is no table": edit(lambda file: file.attrs.__setitem__("identity", "[]")),
    "identity without core": edit(lambda file: file.attrs.__setitem__("identity", "{}")),
    "georeference is no JSON": edit(lambda file: file.attrs.__setitem__("georeference", "{")),
    "georeference of another kind": edit(lambda file: file.attrs.__setitem__("georeference", '{"wkt": 3}')),
    "without labels": edit(lambda file: file.__delitem__("labels")),
    "labels without chunks": edit(replace_labels),
    "without tiles": edit(lambda file: file.__delitem__("tiles")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_file_that_is_none_of_ours_is_refused_by_name(finished, damage):
    damage(finished.path)
    with pytest.raises(StoreError, match=r"scene\.h5 is not a prediction file of hpcseg"):
        store.read(finished.path)


def test_codes_and_names_of_states_agree():
    assert [store.STATUS_NAMES[code] for code in (MISSING, DONE, EMPTY, FAILED)] == ["missing", "done", "nothing to do", "failed"]


def test_a_window_is_read_from_where_it_lies(finished):
    whole = store.read_window(finished, LAYOUT.grid.extent)
    window = Window(20, 100, 90, 70)
    np.testing.assert_array_equal(store.read_window(finished, window), whole[window.slices])


def test_a_plane_that_stays_open_gives_the_windows_of_a_file(tmp_path):
    labels = np.random.default_rng(0).integers(0, 9, (90, 70)).astype(np.uint8)
    layout = Layout(Grid(90, 70, 32, 0), 32)
    store.create(tmp_path / "a.h5", layout, {"core": 32, "halo": 0}, {}, Georeference())
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["labels"][:] = labels
    reader = store.PlaneReader(store.read(tmp_path / "a.h5"))
    for window in (Window(0, 0, 90, 70), Window(31, 5, 2, 60), Window(89, 69, 1, 1)):
        out = np.full((100, 100), 77, np.uint8)
        reader.read(window, out[: window.height, : window.width])
        np.testing.assert_array_equal(out[: window.height, : window.width], labels[window.slices])
    reader.close()


def test_a_plane_of_a_file_that_is_gone_is_an_error_that_names_it(tmp_path):
    store.create(tmp_path / "a.h5", Layout(Grid(8, 8, 8, 0), 8), {"core": 8, "halo": 0}, {}, Georeference())
    stored = store.read(tmp_path / "a.h5")
    stored.path.unlink()
    with pytest.raises(StoreError, match=r"a\.h5"):
        store.PlaneReader(stored)


def test_further_planes_are_found_by_their_names(tmp_path, alone):
    layout = store.Layout(Grid(50, 40, 32, 0), 32, ("labels", "certainty", "mask"))
    store.create(tmp_path / "a.h5", layout, IDENTITY | {"core": 32, "halo": 0}, {}, UTM)
    assert store.read(tmp_path / "a.h5").layout == layout
    with pytest.raises(StoreError, match="wanted labels first"):
        store.Layout(Grid(50, 40, 32, 0), 32, ("mask", "labels"))


def test_a_scratch_file_keeps_16_bits(tmp_path, alone):
    layout = store.Layout(Grid(50, 40, 32, 0), 32, (store.SCRATCH,), "uint16")
    store.create(tmp_path / "s.h5", layout, {"core": 32, "halo": 0}, {}, NOWHERE)
    file = Prediction(tmp_path / "s.h5", layout, alone)
    wanted = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 60
    file.clear(range(layout.grid.size))
    file.write(0, [wanted])
    file.close()
    stored = store.read(tmp_path / "s.h5")
    assert stored.layout == layout
    np.testing.assert_array_equal(store.read_window(stored, layout.grid.core_window(0), store.SCRATCH), wanted)
    assert store.check(stored, np.arange(1)).all()


CELLS = Layout(Grid(150, 200, 64, 8), 32, ("labels",), cell=32)


def test_a_file_tells_the_bucket_of_each_cell(tmp_path, alone):
    path, rng = tmp_path / "a.h5", np.random.default_rng(0)
    assert CELLS.cells == (5, 7)
    assert CELLS.cells_of(3) == Window(0, 6, 2, 1), "of tile 3 eight columns lie in the scene"
    store.create(path, CELLS, IDENTITY, {}, UTM)
    wanted = rng.integers(0, 6, CELLS.cells, np.uint8)
    file = Prediction(path, CELLS, alone)
    file.clear(range(CELLS.grid.size))
    for tile in range(1, CELLS.grid.size):
        file.write(tile, tile_of(CELLS, tile), wanted[CELLS.cells_of(tile).slices])
    file.write_empty(0)
    file.close()
    wanted[:2, :2] = NODATA
    stored = store.read(path)
    assert stored.layout == CELLS
    np.testing.assert_array_equal(stored.buckets, wanted)
    assert store.check(stored, np.arange(CELLS.grid.size)).all()


def test_a_bucket_with_wrong_bytes_is_noticed_and_a_tile_begun_again_has_none(tmp_path, alone):
    path = tmp_path / "a.h5"
    store.create(path, CELLS, IDENTITY, {}, UTM)
    file = Prediction(path, CELLS, alone)
    for tile in range(CELLS.grid.size):
        file.write(tile, tile_of(CELLS, tile), np.full(CELLS.cells_of(tile)[2:], 3, np.uint8))
    file.close()
    with h5py.File(path, "r+") as raw:
        raw["tiles/bucket"][2, 2] = 4
    assert np.flatnonzero(~store.check(store.read(path), np.arange(CELLS.grid.size))).tolist() == [5]
    file = Prediction(path, CELLS, alone)
    file.clear([5])
    file.close()
    assert (store.read(path).buckets[CELLS.cells_of(5).slices] == NODATA).all()


def test_a_file_without_cells_has_no_buckets(finished):
    assert finished.buckets.shape == LAYOUT.cells == (0, 0)


def test_a_cell_that_does_not_divide_the_core_is_refused():
    with pytest.raises(StoreError, match="cell 48 does not divide core 64"):
        Layout(Grid(100, 100, 64, 8), 32, cell=48)


@pytest.mark.parametrize("kinds", [1, 2, 12])
def test_a_file_of_heat_has_no_labels(tmp_path, alone, kinds):
    layout = Layout(Grid(20, 30, 16, 0), 16, store.heat_planes(kinds))
    store.create(tmp_path / "a.h5", layout, {"core": 16, "halo": 0}, {}, Georeference())
    file = Prediction(tmp_path / "a.h5", layout, alone)
    for tile in range(layout.grid.size):
        core = layout.grid.core_window(tile)
        file.write(tile, [np.full((core.height, core.width), k, np.uint8) for k in range(kinds)])
    file.close()
    stored = store.read(tmp_path / "a.h5")
    assert stored.layout == layout
    assert [store.read_window(stored, layout.grid.extent, name).max() for name in layout.planes] == list(range(kinds))
    assert store.check(stored, np.arange(layout.grid.size)).all()
