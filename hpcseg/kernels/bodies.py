"""Small bodies seen from above, such as animals, holes and blocks of ice, laid over a picture."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def lay_bodies(bodies: np.ndarray, colours: np.ndarray, row: int, col: int, picture: np.ndarray) -> None:
    """Lay bodies over a picture, each over those before it; their edges are mixed over one pixel.

    bodies: f64 (n, 7), of each the row and column of its middle in the scene, cosine and sine of the direction of its length,
    half its length and half its width in pixels, and its taper: 0 = an ellipse, up to 1 = a drop, thick at its far end. colours: f32
    (n, 3). row, col: pixel of the scene that the picture begins with. picture: f32 (h, w, 3).
    """
    height, width = picture.shape[:2]
    for k in range(len(bodies)):
        y, x, cosine, sine, length, breadth, taper = bodies[k]
        y, x, reach = y - row, x - col, max(length, breadth * (1 + taper)) + 1
        for i in range(max(0, math.floor(y - reach)), min(height, math.ceil(y + reach))):
            for j in range(max(0, math.floor(x - reach)), min(width, math.ceil(x + reach))):
                down, right = i + 0.5 - y, j + 0.5 - x
                along, across = cosine * right + sine * down, abs(cosine * down - sine * right)
                at = min(1.0, max(-1.0, along / length))
                half = breadth * math.sqrt(1 - at * at) * (1 + taper * at)
                share = np.float32(min(1.0, max(0.0, half - across + 0.5)) * min(1.0, max(0.0, length - abs(along) + 0.5)))
                for band in range(3):
                    picture[i, j, band] += share * (colours[k, band] - picture[i, j, band])
