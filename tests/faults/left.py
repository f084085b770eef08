"""What a job has left on the disk, alive or dead: tiles that are done, and their bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hpcseg import store
from hpcseg.errors import StoreError

INJECT = Path(__file__).with_name("inject")


def done_tiles(out: Path) -> int:
    """Tiles that a running or dead job has finished."""
    total = 0
    for path in out.glob("*.h5"):
        try:
            total += int(np.isin(store.read(path).status, (store.DONE, store.EMPTY)).sum())
        except StoreError:
            continue
    return total


def check_files(out: Path) -> int:
    """Assert that all prediction files can be read and that what is marked done has the right bytes; the number of such tiles."""
    count = 0
    for path in out.glob("*.h5"):
        stored = store.read(path)
        tiles = np.flatnonzero(np.isin(stored.status, (store.DONE, store.EMPTY)).ravel())
        assert store.check(stored, tiles).all(), f"{path}: a tile marked done has other bytes than its CRC says"
        count += len(tiles)
    return count


def planes_of(out: Path) -> dict[tuple[str, str], np.ndarray]:
    """Labels and confidence of all files of a folder."""
    files = [store.read(path) for path in sorted(out.glob("*.h5"))]
    return {(f.path.name, p): store.read_window(f, f.layout.grid.extent, p) for f in files for p in ("labels", "confidence")}
