"""Components on their way from the ranks that found them to the one that writes them: sorted blocks in scratch files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpcseg.errors import StoreError
from hpcseg.kernels.components import COMPONENT

_PIXELS_IN_FLIGHT = 1 << 20


class Block(NamedTuple):
    """Components in a scratch file, from number `start` on, in raster order of their first pixels, which lie in rows first to last."""

    path: Path
    start: int
    length: int
    first: int
    last: int


@dataclass
class Spool:
    """Blocks of components. path: the scratch file that further ones are added to."""

    path: Path
    blocks: list[Block] = field(default_factory=list)

    def append(self, components: np.ndarray) -> None:
        """Add components, COMPONENT (n,), sorted by first pixel. Raises StoreError if they cannot be written."""
        if not len(components):
            return
        try:
            with self.path.open("ab") as file:
                start = file.tell() // COMPONENT.itemsize
                file.write(components.tobytes())
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error}") from error
        self.blocks.append(Block(self.path, start, len(components), int(components[0]["top"]), int(components[-1]["top"])))


def in_raster_order(blocks: Sequence[Block], width: int) -> Iterator[np.ndarray]:
    """All components of a scene in raster order of their first pixels, COMPONENT (n,) for a few rows of the scene at a time.

    width: of the scene in pixels; so many rows are taken at once that a million pixels lie in them.
    """
    waiting = sorted(blocks, key=lambda each: each.first, reverse=True)
    step, row, active = max(1, _PIXELS_IN_FLIGHT // width), 0, list[Block]()
    while waiting or active:
        row = row if active else waiting[-1].first
        while waiting and waiting[-1].first < row + step:
            active.append(waiting.pop())
        found = np.concatenate([_between(each, row, row + step) for each in active])
        row += step
        active = [each for each in active if each.last >= row]
        if len(found):
            # The blocks are sorted runs, which a stable sort merges.
            yield found[np.argsort(found["top"] * np.int64(width) + found["first"], kind="stable")]


def _between(block: Block, first: int, stop: int) -> np.ndarray:
    """The components of a block whose first pixels lie in rows first to stop."""
    # Mapped for a moment only: pages that stay mapped would count as memory of this process.
    components = np.memmap(block.path, COMPONENT, "r", block.start * COMPONENT.itemsize, block.length)
    low, high = np.searchsorted(components["top"], (first, stop))
    return np.array(components[low:high])
