"""Maps of patches of all sizes, and their connected components by SciPy, on the whole image at once."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from hpcseg.store import NODATA


def random_labels(seed: int = 0, shape: tuple[int, int] = (300, 280), classes: int = 2) -> np.ndarray:
    """Patches of one pixel to hundreds, u8, and holes without data."""
    rng = np.random.default_rng(seed)
    labels = ndimage.gaussian_filter(rng.random((classes, *shape)), (0, 1.5, 1.5)).argmax(0).astype(np.uint8)
    labels[ndimage.gaussian_filter(rng.random(shape), 2) > 0.55] = NODATA
    return labels


def by_scipy(labels: np.ndarray, connectivity: int, value: int) -> np.ndarray:
    """(area, centroid row, centroid col, box row, box col, height, width) of a class's components, in the order of SciPy's numbers."""
    numbers, count = ndimage.label(labels == value, np.ones((3, 3)) if connectivity == 8 else None)
    rows, cols = np.array(ndimage.center_of_mass(numbers > 0, numbers, np.arange(1, count + 1))).reshape(-1, 2).T + 0.5
    boxes = [(r.start, c.start, r.stop - r.start, c.stop - c.start) for r, c in ndimage.find_objects(numbers)]
    return np.column_stack([np.bincount(numbers.ravel())[1:], rows, cols, np.array(boxes).reshape(-1, 4)])
