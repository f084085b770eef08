"""Poorer cameras: what they and the air do to a picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Haze from dull to bright (R, G, B).
HAZE = (150.0, 185.0, 205.0), (215.0, 225.0, 235.0)


class Camera(NamedTuple):
    """What a camera and the air do to a picture, the same over a scene.

    radius: of the blur in pixels. response: f32 (3, 256), recorded grey value by that of the ground. grain: deviation of the noise.
    """

    radius: int
    response: np.ndarray
    grain: float


def draw_camera(seed: int, index: int) -> Camera:
    """A camera in use: blur or none, gamma 0.75..1.3, exposure 0.74..1.06, colour cast of 5 %, haze of up to 28 % or none, noise."""
    rng = np.random.default_rng([seed, index])
    radius = int(rng.integers(2))
    level = 255 * (np.arange(256) / 255) ** rng.uniform(0.75, 1.3) * rng.uniform(0.74, 1.06)
    cast = rng.uniform(0.95, 1.05, (3, 1))
    haze, air = rng.uniform(0, 0.28) * rng.integers(2), rng.uniform(*HAZE)[:, None]
    return Camera(radius, (level * cast * (1 - haze) + haze * air).astype(np.float32), rng.uniform(0, 3))
