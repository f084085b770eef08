"""Connected components of a window against SciPy's, compiled and not."""

import numpy as np
import pytest
from scipy import ndimage

from hpcseg.kernels import components as kernels
from hpcseg.kernels.components import BLOCK, COMPONENT, RUN, Place, join, label_window, make_space

NONE = np.empty((0, 0), np.uint8)
NO_SEAMS = (-1, -1, -1, -1)
CLASSES = np.arange(256) < 3


@pytest.fixture(params=["jitted", "plain"])
def label(request, monkeypatch):
    """label(labels, reach, origin, ...) gives the components without and with a seam, and the runs, as records."""
    if request.param == "plain":
        for name in ("find", "unite", "fold", "_scan", "_find_stops", "_draw", "_trace", "label_window"):
            monkeypatch.setattr(kernels, name, getattr(getattr(kernels, name), "py_func", getattr(kernels, name)))

    def call(labels, reach=0, origin=(0, 0), lines=NO_SEAMS, scores=NONE, ground=None, chosen=CLASSES):
        space = make_space(max(labels.shape))
        if ground is None:
            ground = np.zeros((labels.shape[0] // BLOCK + 2, labels.shape[1] + 1), np.int64)
        place = Place(*origin, *labels.shape, lines)
        inner, border, runs = kernels.label_window(labels, scores, chosen, reach, ground, place, space)
        return space.components[:inner], space.border[:border], space.seams[:runs]

    return call


def reference(labels, reach, scores=None):
    """The same records by SciPy, for a window at the scene's origin."""
    found = []
    structure = np.ones((3, 3)) if reach else None
    for value in range(3):
        numbers, count = ndimage.label(labels == value, structure)
        for k in range(1, count + 1):
            rows, cols = np.nonzero(numbers == k)
            score = scores[rows, cols].sum() if scores is not None else 0
            box = rows.min(), cols.min(), rows.max() + 1, cols.max() + 1
            found.append((len(rows), rows.sum(), cols.sum(), 0, score, *box, cols[0], value))
    return np.sort(np.array(found, COMPONENT), order=("top", "first"))


def spiral(edge):
    """A spiral of 1 pixel, its turns 1 pixel apart."""
    out = np.zeros((edge, edge), np.uint8)
    for k in range(0, edge // 2, 2):
        out[k, max(0, k - 1) : edge - k] = 1
        out[k : edge - k, edge - 1 - k] = 1
        out[edge - 1 - k, k : edge - k] = 1
        out[k + 2 : edge - k, k] = 1
    return out


def comb(edge):
    """Teeth that meet in the last row alone, so that their numbers join late."""
    out = np.zeros((edge, edge), np.uint8)
    out[:, ::2] = out[-1] = 1
    return out


def noise(seed, shape=(41, 53)):
    """Three classes and no data."""
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), shape, p=(0.4, 0.3, 0.2, 0.1))


IMAGES = {
    "spiral": spiral(40),
    "comb": comb(31),
    "checkerboard": (np.indices((20, 21)).sum(0) % 2).astype(np.uint8),
    "noise": noise(0),
    "full": np.ones((9, 14), np.uint8),
    "nothing": np.full((9, 14), 255, np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
}


@pytest.mark.parametrize("reach", [0, 1])
@pytest.mark.parametrize("name", IMAGES)
def test_components_and_all_they_measure_are_scipy_s(label, name, reach):
    scores = np.random.default_rng(1).integers(0, 255, IMAGES[name].shape, np.uint8)
    found, border, runs = label(IMAGES[name], reach, scores=scores)
    np.testing.assert_array_equal(found, reference(IMAGES[name], reach, scores))
    assert len(border) == len(runs) == 0


@pytest.mark.parametrize("seed", range(40))
def test_random_windows_of_any_shape(seed):
    rng = np.random.default_rng(seed)
    labels, space = noise(seed, tuple(rng.integers(1, 40, 2))), make_space(40)
    ground = np.zeros((2, labels.shape[1] + 1), np.int64)
    for reach in (0, 1):
        count, *_ = label_window(labels, NONE, CLASSES, reach, ground, Place(0, 0, *labels.shape, NO_SEAMS), space)
        np.testing.assert_array_equal(space.components[:count], reference(labels, reach))


def test_classes_that_are_not_chosen_are_background(label):
    found, *_ = label(noise(3), 0, chosen=np.arange(256) == 1)
    wanted = reference(noise(3), 0)
    np.testing.assert_array_equal(found, wanted[wanted["label"] == 1])


def test_places_count_from_the_scene_s_origin(label):
    found, *_ = label(noise(0), 1, (700, 90))
    wanted = reference(noise(0), 1)
    for name in ("top", "bottom"):
        wanted[name] += 700
    for name in ("left", "right", "first"):
        wanted[name] += 90
    wanted["rows"] += 700 * wanted["area"]
    wanted["cols"] += 90 * wanted["area"]
    np.testing.assert_array_equal(found, wanted)


def test_ground_areas_follow_the_scene_s_blocks(label):
    labels = np.ones((30, 4), np.uint8)
    labels[:, 2] = 255
    cells = np.array([[1, 10, 100, 1000], [2, 20, 200, 2000]])
    ground = np.concatenate([np.zeros((2, 1), int), cells.cumsum(1)], axis=1)
    found, *_ = label(labels, 0, (BLOCK - 10, 0), ground=ground)
    assert found["ground"].tolist() == [10 * 11 + 20 * 22, 10 * 1000 + 20 * 2000]


def test_components_on_seams_are_kept_apart_with_the_pixels_they_cover(label):
    labels = np.full((5, 6), 255, np.uint8)
    labels[0, 1:3] = labels[1, 2] = 1
    labels[0, 3] = 2
    labels[2, 4:] = labels[3, 5] = 1
    labels[4, 0] = 0
    labels[3, 2] = 1
    inner, border, runs = label(labels, 0, (100, 200), (7, 8, -1, 12))
    assert [(int(each["top"]), int(each["first"])) for each in inner] == [(103, 202)]
    assert border["label"].tolist() == [1, 2, 1, 0]
    assert runs.tolist() == [(7, 201, 203, 0), (7, 203, 204, 1), (8, 200, 201, 3), (12, 102, 104, 2)]


@pytest.mark.parametrize("kernel", [join, getattr(join, "py_func", join)], ids=["jitted", "plain"])
@pytest.mark.parametrize(("reach", "wanted"), [(0, [0, 1, 2, 0, 4, 5]), (1, [0, 1, 1, 0, 4, 5])])
def test_runs_join_where_they_touch_and_are_of_one_class(kernel, reach, wanted):
    before = np.array([(3, 0, 4, 0), (3, 6, 9, 1), (5, 0, 9, 2)], RUN)
    after = np.array([(3, 2, 5, 3), (3, 6, 8, 4), (3, 9, 12, 2), (4, 0, 9, 5)], RUN)
    labels, parent = np.array([1, 1, 1, 1, 2, 1], np.uint8), np.arange(6, dtype=np.int32)
    kernel(before, after, labels, reach, parent)
    assert parent.tolist() == wanted
