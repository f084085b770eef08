"""Structural Feature Set: both modes against plain loops over pixels and directions, and mode otb against Orfeo ToolBox itself."""

import math

import numpy as np
import pytest
from osgeo import gdal

from hpcseg.errors import UsageError
from hpcseg.kernels import sfs as module
from hpcseg.kernels.rays import Sfs
from hpcseg.kernels.sfs import FEATURES, sfs
from hpcseg.tiles import Window


def speckled(height, width, seed=0):
    """Patches of several backscatters under speckle of four looks."""
    rng = np.random.default_rng(seed)
    patches = np.kron(rng.uniform(20, 160, (-(-height // 16), -(-width // 16))), np.ones((16, 16)))[:height, :width]
    return np.clip(patches * rng.gamma(4, 1 / 4, (height, width)), 0, 255).astype(np.uint8)


def compute(values, settings, features=FEATURES, core=None, inside=None, valid=None):
    whole = Window(0, 0, *values.shape)
    core = core or whole
    out = np.full((len(features), core.height, core.width), np.nan, np.float32)
    sfs(values, np.ones_like(values) if valid is None else valid, core, inside or whole, settings, features, out)
    return out


@pytest.fixture(params=["jitted", "plain"])
def engine(request, monkeypatch):
    """Runs a test with the compiled kernels, and with their Python text alone."""
    if request.param == "plain":
        for name, kernel in list(vars(module).items()):
            if hasattr(kernel, "py_func"):
                monkeypatch.setattr(module, name, kernel.py_func)


def otb_walk(pixel, x_stop, y_stop, goes_on):
    """Pixels that Orfeo ToolBox visits towards a stop, and where it ends: thin rays, diagonal where x does not move."""
    step, y, x = (-1 if x_stop < 0 else 1), 0, (-1 if x_stop < 0 else 1)
    visited = []
    while True:
        y = math.floor(y_stop / x_stop * x + 0.5) if x_stop else y + (-1 if y_stop < 0 else 1)
        visited.append(pixel(x, y))
        if not goes_on(visited[-1]):
            return visited, (x, y), False
        x += step
        if (x_stop and abs(x) >= abs(x_stop)) or (y_stop and y * math.copysign(1, y_stop) >= abs(y_stop)):
            return visited, (x, y), True


def otb_pixel(values, i, j, settings):
    """Distances and W-Mean's terms of one pixel as facts of Orfeo ToolBox 8.1.1 say."""
    height, width = values.shape
    centre = int(values[i, j])

    def pixel(x, y):
        return int(values[min(max(i + y, 0), height - 1), min(max(j + x, 0), width - 1)])

    distances, terms = [], []
    for k in range(settings.directions):
        angle = math.pi / settings.directions * k
        x, y = (math.floor(settings.spatial * f(angle) + 0.5) for f in (math.cos, math.sin))
        _, ahead, _ = otb_walk(pixel, x, y, lambda v: abs(v - centre) <= settings.spectral)
        _, behind, _ = otb_walk(pixel, -x, -y, lambda v: abs(v - centre) <= settings.spectral)
        distance = math.dist(ahead, behind)
        line, _, whole = otb_walk(pixel, *ahead, lambda v: abs(v - centre) < settings.spectral)
        deviation = math.sqrt(sum((v - np.mean(line)) ** 2 for v in line)) if whole and len(set(line)) > 1 else 0
        distances.append(distance)
        terms.append(settings.alpha * (distance - 1) * distance / deviation if deviation else 0)
    return distances, terms


def paper_pixel(values, valid, i, j, settings):
    """The same by the paper's formulas: rays visit a pixel of each row or column, and end at the last that is like the first."""
    height, width = values.shape
    centre = int(values[i, j])
    distances, terms = [], []
    for k in range(settings.directions):
        angle = math.pi / settings.directions * k
        scale = max(abs(math.cos(angle)), abs(math.sin(angle)))
        line, ends = [centre], []
        for sign in (1, -1):
            end = (0, 0)
            for n in range(1, settings.spatial + 1):
                x, y = (sign * math.floor(n * f(angle) / scale + 0.5) for f in (math.cos, math.sin))
                row, col = i + y, j + x
                if math.hypot(x, y) > settings.spatial or not (0 <= row < height and 0 <= col < width and valid[row, col]):
                    break
                if abs(int(values[row, col]) - centre) > settings.spectral:
                    break
                line.append(int(values[row, col]))
                end = (x, y)
            ends.append(end)
        distance, deviation = math.dist(*ends), np.std(line)
        distances.append(distance)
        terms.append(settings.alpha * (len(line) - 1) * distance / deviation if deviation > 1e-9 else 0)
    return distances, terms


def reference(values, valid, settings, core=None):
    """All features, float64 (6, H, W), of the pixels of a core."""
    out = np.zeros((6, *values.shape))
    asked = np.zeros(values.shape, bool)
    asked[core.slices if core else ...] = True
    for i, j in np.argwhere(asked & (valid != 0)):
        paper = settings.mode == "paper"
        distances, terms = paper_pixel(values, valid, i, j, settings) if paper else otb_pixel(values, i, j, settings)
        ordered, weighted = sorted(distances), np.mean(terms)
        low, high = sum(ordered[: settings.extremes]), sum(ordered[-settings.extremes :])
        middle = np.mean(distances) if paper else weighted
        deviation = math.sqrt(sum((d - middle) ** 2 for d in distances)) / (settings.directions - 1)
        out[:, i, j] = ordered[-1], ordered[0], np.mean(distances), weighted, math.atan(low / high) if high else 1, deviation
    return out


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("mode", ["otb", "paper"])
@pytest.mark.parametrize("reach", [{"spatial": 9, "directions": 8}, {"spatial": 30, "directions": 5, "extremes": 2, "alpha": 0.5}])
def test_features_equal_plain_loops(engine, mode, reach):
    values = speckled(7, 71)
    settings = Sfs(mode=mode, **{"spectral": 40, **reach})
    np.testing.assert_allclose(compute(values, settings), reference(values, np.ones_like(values), settings), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["otb", "paper"])
@pytest.mark.parametrize("spectral", [2, 60, 254])
def test_the_longest_rays_sum_exactly(mode, spectral):
    """Columns of two values, all but as far apart as a ray may cross: the largest sums that can be."""
    values = np.full((40, 280), np.where(np.arange(280) % 2, spectral - 1, 0), np.uint8)
    settings, core = Sfs(spectral, 127, 4, extremes=2, mode=mode), Window(20, 139, 1, 2)
    wanted = reference(values, np.ones_like(values), settings, core)
    np.testing.assert_allclose(compute(values, settings, core=core), wanted[(slice(None), *core.slices)], rtol=2e-6)


@pytest.mark.parametrize("mode", ["otb", "paper"])
def test_features_do_not_depend_on_the_tile(mode):
    values = speckled(90, 200)
    settings = Sfs(mode=mode, spatial=20, directions=12)
    whole = compute(values, settings)
    padded = np.pad(values, 20, mode="reflect")
    for core in (Window(0, 0, 30, 70), Window(30, 70, 30, 70), Window(60, 130, 30, 70)):
        window = core.grow(20)
        tile = padded[window.row + 20 : window.row + 20 + window.height, window.col + 20 : window.col + 20 + window.width].copy()
        inside = Window(0, 0, *values.shape).intersect(window).relative_to(window)
        part = compute(tile, settings, core=core.relative_to(window), inside=inside)
        np.testing.assert_array_equal(part, whole[:, core.row : core.row + core.height, core.col : core.col + core.width])


def test_rays_stop_at_no_data_in_mode_paper():
    values = np.full((21, 21), 90, np.uint8)
    valid = np.ones_like(values)
    valid[:, 13] = 0
    settings = Sfs(spatial=10, directions=2, extremes=1)
    out = compute(values, settings, valid=valid)
    np.testing.assert_allclose(out, reference(values, valid, settings), rtol=1e-6)
    np.testing.assert_array_equal(
        out[:2, 10, 12], [20, 10], "down and across, where there are ten pixels to the left and none to the right"
    )
    assert (out[:, :, 13] == 0).all()


@pytest.mark.parametrize("mode", ["otb", "paper"])
@pytest.mark.parametrize("features", [("psi",), ("sd", "length"), ("ratio", "w-mean", "width")])
def test_features_asked_for_are_those_of_all(mode, features):
    values, settings = speckled(20, 66), Sfs(mode=mode, spatial=15)
    every = compute(values, settings)
    np.testing.assert_array_equal(compute(values, settings, features), every[[FEATURES.index(name) for name in features]])


@pytest.mark.parametrize("mode", ["otb", "paper"])
def test_a_constant_image_has_features(mode):
    out = compute(np.full((5, 5), 7, np.uint8), Sfs(mode=mode))
    assert np.isfinite(out).all()
    assert (out[FEATURES.index("w-mean")] == 0).all()


def test_a_pixel_like_no_other_is_alone_in_mode_paper():
    values = np.zeros((5, 5), np.uint8)
    values[2, 2] = 255
    np.testing.assert_array_equal(compute(values, Sfs())[:, 2, 2], [0, 0, 0, 0, 1, 0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"spectral": 255}, "1 to 254"), ({"spatial": 0}, "1 to 127"), ({"extremes": 9, "directions": 8}, "1 to 8"), ({"mode": "OTB"}, "otb")],
)
def test_settings_that_the_kernel_cannot_hold_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        compute(np.zeros((3, 3), np.uint8), Sfs(**wrong))


def test_mode_otb_equals_orfeo_toolbox(data):
    """Distances agree to the last bit of float32; what is summed differs in it, for OTB sums in float64. No pixel differs by more."""
    folder = data / "sfs_otb"
    values = gdal.Open(str(folder / "otb_in_kampala512.tif")).ReadAsArray()[0]
    wanted = gdal.Open(str(folder / "kampala512_sfs_c1_spe50_spa100_d20.tif")).ReadAsArray()
    out = compute(values, Sfs(mode="otb"))
    for name, ours, theirs in zip(FEATURES, out, wanted, strict=True):
        bound = 1e-3 if name in ("w-mean", "sd") else 1e-4
        close = np.isclose(ours, theirs, rtol=bound, atol=0)
        assert close.mean() >= 0.999, f"{name}: {100 * close.mean():.3f} %"
    np.testing.assert_array_equal(out[:2], wanted[:2])
    np.testing.assert_allclose(out[2:], wanted[2:], rtol=2e-6)


def test_features_may_be_a_part_of_a_larger_array():
    values, settings, whole = speckled(12, 70), Sfs(spatial=9), Window(0, 0, 12, 70)
    larger = np.full((2, 20, 80), 9, np.float32)
    sfs(values, np.ones_like(values), whole, whole, settings, ("length", "sd"), larger[:, 4:16, 5:75])
    np.testing.assert_array_equal(larger[:, 4:16, 5:75], compute(values, settings, ("length", "sd")))
    assert (larger[:, :4] == 9).all()
