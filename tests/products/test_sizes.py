"""How many objects of each size."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from hpcseg.config import Class
from hpcseg.products.sizes import SizeCounts, write_sizes

CLASSES = [Class(name="floe", color="#f4f4f0"), Class(name="pond", color="#4a6fa5"), Class(name="lead", color="#20303c")]


def test_objects_of_at_least_each_size_are_counted():
    sizes, rng = SizeCounts(2), np.random.default_rng(0)
    labels, areas = rng.integers(0, 2, 5000), rng.lognormal(5, 2, 5000)
    for part in (slice(0, 1000), slice(1000, None)):
        sizes.add(labels[part], areas[part])
    for label in (0, 1):
        edges, counts = sizes.at_least(label)
        wanted = [(areas[labels == label] >= edge).sum() for edge in edges]
        assert counts.tolist() == wanted
        assert counts[0] == (labels == label).sum()


@pytest.mark.parametrize("size", [1, 10, 1000, 10**9])
def test_a_size_that_is_an_edge_counts_from_that_edge_on(size):
    sizes = SizeCounts(1)
    sizes.add(np.zeros(3, int), np.full(3, size))
    edges, counts = sizes.at_least(0)
    assert edges == pytest.approx([size])
    assert counts.tolist() == [3]


def test_unknown_sizes_are_objects_all_the_same():
    sizes = SizeCounts(1)
    sizes.add(np.zeros(2, int), np.array([np.nan, 5.0]))
    assert sizes.counts.sum() == 2


def test_each_class_has_its_colour_and_none_gives_a_picture_too(tmp_path):
    sizes = SizeCounts(3)
    write_sizes(tmp_path / "none.png", "scene", "objects", CLASSES, sizes, "px")
    sizes.add(np.arange(600) % 2, np.geomspace(1, 1e6, 600))
    write_sizes(tmp_path / "some.png", "scene", "objects", CLASSES, sizes, "m²")
    none, some = (np.rint(255 * imread(tmp_path / f"{name}.png")[..., :3]).astype(int) for name in ("none", "some"))
    for image, colours in ((none, [False, False, False]), (some, [True, True, False])):
        seen = [(image == [int(each.color[k : k + 2], 16) for k in (1, 3, 5)]).all(-1).sum() > 100 for each in CLASSES]
        assert seen == colours
