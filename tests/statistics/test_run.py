"""Statistics of scenes, against NumPy over the whole scene."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.errors import StoppedError
from hpcseg.mpi import Pulse
from hpcseg.raster import describe
from hpcseg.statistics import Counts, Histogram, Limits, count_scenes, statistics, summarise, tabulate

PERCENTILES = (0.0, 2.0, 50.0, 98.0, 100.0)


@pytest.fixture
def run(alone):
    """run(paths, rule, threads) gives the statistics of scenes and what could not be read."""

    def measure(*paths, rule="all", threads=2):
        scenes = [describe(str(path), path.stem) for path in paths]
        with Pulse(alone, 60.0, threading.Event()) as pulse:
            return statistics(alone, pulse, scenes, rule, PERCENTILES, threads, 1 << 26)

    return measure


def lowest_not_exceeded(values, percentiles):
    """The lowest value that at least p % of the values do not exceed."""
    ordered = np.sort(values)
    return [ordered[max(1, int(np.ceil(len(ordered) * p / 100))) - 1] for p in percentiles]


def compare(band, values, step):
    """A band's statistics against its valid values, within a step."""
    values = values.astype(np.float64)
    assert band.count == values.size
    assert band.mean == pytest.approx(values.mean(), rel=1e-12, abs=step / 2)
    assert band.deviation == pytest.approx(values.std(), rel=1e-9, abs=step)
    assert band.minimum == pytest.approx(values.min(), abs=step / 2 + 1e-12)
    assert band.maximum == pytest.approx(values.max(), abs=step / 2 + 1e-12)
    np.testing.assert_allclose(band.percentiles, lowest_not_exceeded(values, PERCENTILES), rtol=0, atol=step + 1e-12)


def test_what_a_signal_cut_short_is_no_result(make_scene, tmp_path, alone):
    stop = threading.Event()
    stop.set()
    scenes = [describe(str(make_scene(tmp_path / "a.tif", 64, 64)), "a")]
    with Pulse(alone, 60.0, stop) as pulse, pytest.raises(StoppedError, match="stopped before all scenes were counted"):
        statistics(alone, pulse, scenes, "all", PERCENTILES, 1, 1 << 26)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_are_exact(make_scene, tmp_path, run, dtype):
    path = make_scene(tmp_path / "a.tif", 1100, 700, 2, dtype, nodata=40, block=256)
    (bands,), failures = run(path, rule="any")
    raw = gdal.Open(str(path)).ReadAsArray()
    valid = (raw != 40).all(0)
    for band, values in zip(bands, raw, strict=True):
        compare(band, values[valid], 0)
    assert failures == []


def test_floats_are_within_a_step(make_scene, tmp_path, run):
    pixels = np.random.default_rng(0).normal(-12, 5, (1, 300, 1100))
    pixels[0, 5:60, 7:90], pixels[0, 200] = -9999, np.nan
    path = make_scene(tmp_path / "a.tif", 300, 1100, 1, "float32", pixels=pixels, nodata=-9999)
    (bands,), _ = run(path)
    values = pixels.astype(np.float32)[np.isfinite(pixels) & (pixels != -9999)]
    compare(bands[0], values, float(np.ptp(values)) / 65535)


def test_real_backscatter_with_most_of_it_no_data(data, run):
    path = data / "water" / "garonne" / "after_VV.tif"
    (bands,), _ = run(path)
    raw = gdal.Open(str(path)).ReadAsArray()
    values = raw[raw != -9999]
    compare(bands[0], values, float(np.ptp(values)) / 65535)


@pytest.fixture
def tabled(alone):
    """tabled(paths, threshold) gives the rows of scenes, and of all of them pooled."""

    def measure(*paths, threshold=None, bins=0):
        scenes = [describe(str(path), path.stem) for path in paths]
        with Pulse(alone, 60.0, threading.Event()) as pulse:
            counts, failures = count_scenes(alone, pulse, scenes, "all", threshold, 2, 1 << 26)
        assert failures == []
        return list(tabulate(scenes, counts, PERCENTILES, bins))

    return measure


@pytest.mark.parametrize("threshold", [120.0, 120.5, -5.0, 300.0])
def test_five_scenes_before_and_after_a_threshold(make_scene, tmp_path, tabled, threshold):
    """The survey's case, its chunk smaller: mean of five scenes, then with what does not exceed a threshold set to 0."""
    paths = [make_scene(tmp_path / f"{k}.tif", 400, 400, 1, "uint8", seed=k) for k in range(5)]
    rows = tabled(*paths, threshold=threshold, bins=10)
    raw = np.stack([gdal.Open(str(path)).ReadAsArray().astype(float) for path in paths])
    assert [(row.scene, row.scenes) for row in rows] == [("0", 1), ("1", 1), ("2", 1), ("3", 1), ("4", 1), ("pooled", 5)]
    for row, values in zip(rows, [*raw, raw], strict=True):
        compare(row.statistics, values.ravel(), 0)
        chosen = values > threshold
        assert row.above.count == chosen.sum()
        assert row.above.share == chosen.mean()
        assert row.above.mean_rest_0 == pytest.approx(np.where(chosen, values, 0).mean(), rel=1e-12)
        assert row.above.mean is None if not chosen.any() else row.above.mean == pytest.approx(values[chosen].mean(), rel=1e-12)
        assert sum(row.histogram.counts) == values.size


def test_floats_above_a_threshold_are_told_by_their_values(data, tabled):
    paths = [data / "water" / "garonne" / name for name in ("after_VV.tif", "before_VV.tif")]
    *alone, pooled = tabled(*paths, threshold=100.3)
    raw = [gdal.Open(str(path)).ReadAsArray() for path in paths]
    scenes = [each[each != -9999].astype(float) for each in raw]
    for row, values in zip([*alone, pooled], [*scenes, np.concatenate(scenes)], strict=True):
        step = np.ptp(values) / 65535
        assert row.above.count == (values > 100.3).sum()
        assert row.above.mean == pytest.approx(values[values > 100.3].mean(), abs=step)
        compare(row.statistics, values, step)


def test_bands_are_pooled_by_their_number(make_scene, tmp_path, tabled):
    paths = [make_scene(tmp_path / f"{bands}.tif", 50, 60, bands, "uint8", seed=bands) for bands in (1, 3)]
    rows = tabled(*paths)
    assert [(row.band, row.scenes) for row in rows if row.scene == "pooled"] == [(1, 2), (2, 1), (3, 1)]
    assert rows[0].above is None


def test_one_scene_is_not_pooled(make_scene, tmp_path, tabled):
    assert [row.scene for row in tabled(make_scene(tmp_path / "a.tif", 20, 30, 2))] == ["a", "a"]


def test_scale_and_offset_of_the_file_count(data, run):
    path = data / "odd_inputs" / "cog_scale.tif"
    (bands,), _ = run(path, rule="any")
    raw = gdal.Open(str(path)).ReadAsArray().astype(np.float64)
    valid = (raw != 0).all(0)
    for band, plane, scale, offset in zip(bands, raw, (0.0001, 0.001), (1000, 2000), strict=True):
        values = plane[valid] * scale + offset
        compare(band, values, max(np.ptp(values) / 65535, 1e-4 * values.max() / 1000))


def test_a_band_that_is_missing_where_others_are_valid_does_not_count_there(make_scene, tmp_path, run):
    pixels = np.random.default_rng(1).integers(100, 200, (2, 80, 90)).astype(np.float32)
    pixels[0, :40] = -9999
    path = make_scene(tmp_path / "a.tif", 80, 90, 2, "float32", pixels=pixels, nodata=-9999)
    (bands,), _ = run(path, rule="all")
    assert bands[0].minimum >= 100
    compare(bands[0], pixels[0, 40:].ravel(), 100 / 65535)
    compare(bands[1], pixels[1].ravel(), 100 / 65535)


def test_several_scenes_of_several_types_at_once(make_scene, tmp_path, run):
    paths = [make_scene(tmp_path / f"{k}.tif", 90, 1050, k, dtype, seed=k) for k, dtype in ((1, "uint8"), (3, "float32"), (2, "uint16"))]
    results, _ = run(*paths)
    for path, bands in zip(paths, results, strict=True):
        raw = gdal.Open(str(path)).ReadAsArray().reshape(len(bands), 90, 1050)
        for band, values in zip(bands, raw, strict=True):
            compare(band, values.ravel(), 250 / 65535)


def test_threads_do_not_change_a_bit(data, run):
    path = data / "sea_ice" / "s2_melt_lakes" / "S2_22WEV_20190723_B02_blue.tif"
    assert run(path, threads=1) == run(path, threads=3)


def test_a_scene_without_valid_pixels_counts_nothing(data, make_scene, tmp_path, run):
    empty = make_scene(tmp_path / "nan.tif", 20, 20, 1, "float32", pixels=np.full((1, 20, 20), np.nan))
    (first, second), failures = run(data / "odd_inputs" / "all-nodata.tif", empty)
    assert [band.count for band in (*first, *second)] == [0] * 5
    assert failures == []


def test_a_constant_scene_has_no_deviation(make_scene, tmp_path, run):
    path = make_scene(tmp_path / "a.tif", 20, 20, 1, "float32", pixels=np.full((1, 20, 20), 3.25))
    (bands,), _ = run(path)
    assert (bands[0].mean, bands[0].deviation, bands[0].minimum, bands[0].maximum) == (3.25, 0, 3.25, 3.25)


def test_what_cannot_be_read_is_said_and_the_rest_counts(data, run):
    (bands,), failures = run(data / "odd_inputs" / "corrupt.tif")
    assert bands[0].count == 0
    assert len(failures) == 1
    assert "corrupt.tif, rows 512:1024, cols 512:1024" in failures[0]


def test_merging_in_any_order_gives_the_same():
    rng = np.random.default_rng(2)
    parts = [Histogram(np.zeros(1), np.ones(1), rng.integers(0, 9, (1, 16))) for _ in range(3)]
    a, b, c = parts
    for other in (a.merge(b).merge(c), c.merge(a.merge(b)), b.merge(c).merge(a)):
        np.testing.assert_array_equal(other.counts, sum(part.counts for part in parts))
    counts = [Counts(part, Histogram(part.low, part.step, part.counts // 2), 4.0) for part in parts]
    merged = counts[0].merge(counts[1])
    np.testing.assert_array_equal(merged.every.counts, parts[0].counts + parts[1].counts)
    np.testing.assert_array_equal(merged.above.counts, parts[0].counts // 2 + parts[1].counts // 2)
    limits = [Limits(np.array([float(k)]), np.array([k + 2.0]), k) for k in range(3)]
    merged = limits[2].merge(limits[0]).merge(limits[1])
    assert (merged.low[0], merged.high[0], merged.count) == (0, 4, 3)


def test_counts_beyond_the_precision_of_floats_stay_exact():
    counts = np.zeros((1, 3), np.int64)
    counts[0] = 2**53 + 1, 0, 2**53 + 1
    (band,) = summarise(Histogram(np.zeros(1), np.ones(1), counts), (50.0, 51.0))
    assert (band.count, band.mean, band.deviation, band.percentiles) == (2**54 + 2, 1.0, 1.0, [0.0, 2.0])
