"""Filters as two steps: counts add up, what is fitted goes through JSON, and no place of a core can show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hpcseg.kernels.filters import FILTERS, Prefilter
from hpcseg.tiles import Window

HEIGHT, WIDTH = 180, 210
WHOLE = Window(0, 0, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def scene():
    """Snow, young ice and water in squares, a third of it under a veil; u8 (h, w * 3), and its validity."""
    rng = np.random.default_rng(0)
    kinds = np.array([[215, 218, 220], [90, 115, 140], [8, 15, 22], [40, 70, 100]])
    place = np.kron(rng.integers(0, 4, (9, 7)), np.ones((20, 30), int))
    veil = np.zeros((HEIGHT, WIDTH, 1))
    veil[:60] = 0.4
    pixels = kinds[place] * (1 - veil) + 220 * veil + rng.normal(0, 1.5, (HEIGHT, WIDTH, 1))
    valid = np.ones((HEIGHT, WIDTH), np.uint8)
    valid[30:50, 40:80] = 0
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8).reshape(HEIGHT, -1), valid


def picture_of(chosen, scene, fit, core):
    """The picture of a core from a window that ends as far from it as the filter reaches."""
    values, valid = scene
    around = core.grow(chosen.halo).intersect(WHOLE)
    out = np.empty((core.height, core.width * 3), np.uint8)
    part = values.reshape(HEIGHT, WIDTH, 3)[around.slices].reshape(around.height, -1)
    inside = Window(0, 0, around.height, around.width)
    chosen.clear(np.ascontiguousarray(part), np.ascontiguousarray(valid[around.slices]), core.relative_to(around), inside, fit, out)
    return out.reshape(core.height, core.width, 3)


@pytest.mark.parametrize("name", FILTERS)
def test_pictures_and_counts_do_not_depend_on_cores(name, scene):
    chosen, (values, valid) = FILTERS[name], scene
    whole, parts = chosen.start(), chosen.start()
    chosen.count(values, valid, WHOLE, WHOLE, whole)
    cores = [Window(0, 0, 70, WIDTH), Window(70, 0, 110, 90), Window(70, 90, 110, 120)]
    for core in cores:
        chosen.count(values, valid, core, WHOLE, parts)
    np.testing.assert_array_equal(parts, whole)
    fit = json.loads(json.dumps(chosen.fit(whole)))
    assert Prefilter(name, fit).digest == Prefilter(name, chosen.fit(parts)).digest
    picture = picture_of(chosen, scene, fit, WHOLE)
    for core in cores:
        np.testing.assert_array_equal(picture_of(chosen, scene, fit, core), picture[core.slices])
    assert (picture[valid == 0] == 255).all()
    assert (picture != values.reshape(picture.shape))[valid == 1].any(1).mean() > 0.1


@pytest.mark.parametrize("name", FILTERS)
def test_another_scene_has_another_digest(name, scene):
    chosen, (values, valid) = FILTERS[name], scene
    counts = [chosen.start() for _ in range(2)]
    chosen.count(values, valid, WHOLE, WHOLE, counts[0])
    first, nothing = (Prefilter(name, chosen.fit(each)).digest for each in counts)
    assert first != nothing


@pytest.mark.parametrize("name", FILTERS)
def test_a_scene_without_data_is_fitted_with_a_word(name):
    assert "told" in FILTERS[name].fit(FILTERS[name].start())["note"]
