"""Bodies against plain NumPy, jitted and not."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.kernels.bodies import lay_bodies


def plainly_laid(bodies, colours, row, col, picture):
    """The same over the whole picture at once for each body."""
    y, x = np.indices(picture.shape[:2]) + 0.5
    for (middle_y, middle_x, cosine, sine, length, breadth, taper), colour in zip(bodies, colours, strict=True):
        down, right = y - (middle_y - row), x - (middle_x - col)
        along, across = cosine * right + sine * down, np.abs(cosine * down - sine * right)
        at = np.clip(along / length, -1, 1)
        edge = np.clip(breadth * np.sqrt(1 - at**2) * (1 + taper * at) - across + 0.5, 0, 1)
        share = edge * np.clip(length - np.abs(along) + 0.5, 0, 1)
        picture += share[..., None].astype(np.float32) * (colour - picture)


@pytest.mark.parametrize("lay", [lay_bodies, lay_bodies.py_func], ids=["jitted", "plain"])
def test_bodies_lie_over_each_other_and_the_picture(lay):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 7, 12)
    place = rng.uniform((97, 197), (138, 238), (12, 2))
    bodies = np.column_stack([place, np.cos(angle), np.sin(angle), rng.uniform(1, 7, 12), rng.uniform(0.3, 4, 12), rng.uniform(0, 1, 12)])
    colours, picture = rng.uniform(0, 255, (12, 3)).astype(np.float32), np.full((30, 36, 3), 200, np.float32)
    wanted = picture.copy()
    plainly_laid(bodies, colours, 100, 200, wanted)
    lay(bodies, colours, 100, 200, picture)
    np.testing.assert_allclose(picture, wanted, atol=1e-3)
    assert (wanted != 200).mean() > 0.2
