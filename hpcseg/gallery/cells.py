"""Which cells of a tile go through a network together: rectangles that hold cells of one network and of no other."""

from __future__ import annotations

import numpy as np

from hpcseg.tiles import Window

NO_NETWORK = -1


def rectangles(networks: np.ndarray) -> list[tuple[int, Window]]:
    """Cover the cells of a tile: (network, rectangle counted in cells), each cell that has a network in just one.

    networks: int (n, m), the number of each cell's network, NO_NETWORK = it has no data, and any rectangle may reach over it. Greedy:
    of those left, the rectangle with the most cells goes first, of such the smallest, of these the first by row and column.
    """
    left, found = networks.copy(), []
    for number in np.unique(networks[networks != NO_NETWORK]).tolist():
        while (left == number).any():
            best = _largest(left == number, (left != number) & (networks != NO_NETWORK))
            part = left[best.slices]
            part[part == number] = NO_NETWORK
            found.append((number, best))
    return found


def _largest(own: np.ndarray, foreign: np.ndarray) -> Window:
    """The rectangle with most of `own`, bool (n, m), and none of `foreign`."""
    owns, others = _counts(own), _counts(foreign)
    top, left, bottom, right = np.indices(owns.shape)
    area = (bottom - top) * (right - left)
    score = np.where((others == 0) & (bottom > top) & (right > left), owns * (own.size + 1) - area, -own.size - 1)
    r0, c0, r1, c1 = (int(k) for k in np.unravel_index(score.argmax(), score.shape))
    return Window(r0, c0, r1 - r0, c1 - c0)


def _counts(cells: np.ndarray) -> np.ndarray:
    """Number of cells in all rectangles, int (n + 1, m + 1, n + 1, m + 1): by first row, first column, and those after the last."""
    total = np.pad(cells.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    after, before = total[None, None], total[:, :, None, None]
    return after - total[:, None, None, :] - total.T[None, :, :, None] + before
