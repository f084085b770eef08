"""Samples: windows of scenes with labels, dealt out by blocks to train, validation and test, and ordered by seed for each epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np

from hpcseg.errors import UsageError
from hpcseg.tiles import Grid, Window

PARTS = ("train", "validation", "test")


class Block(NamedTuple):
    """What is dealt out: a square of a scene, or a whole scene (row and col 0). part: where it went."""

    scene: str
    row: int
    col: int
    part: str


@dataclass(frozen=True)
class Samples:
    """All samples of a run, the same on every rank. grids: of each scene, core = the sample's edge, halo 0.

    scene, tile: int (n,) where each sample lies. block: int (n,) which block. counts: int64 (n, classes) labelled pixels, or objects.
    part: int8 (n,) index into PARTS. edge: of a block in pixels, 0 = whole scenes. cell: edge of the squares that samples do not move
    out of, 0 = their blocks alone.
    """

    grids: list[Grid]
    scene: np.ndarray
    tile: np.ndarray
    block: np.ndarray
    counts: np.ndarray
    part: np.ndarray
    blocks: list[Block]
    edge: int
    cell: int = 0

    def of(self, part: str) -> np.ndarray:
        """Numbers of a part's samples, rising."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def limits(self, sample: int) -> Window:
        """The pixels that a sample may move in: its block, and its cell, within the scene."""
        grid = self.grids[self.scene[sample]]
        core = grid.full_core(int(self.tile[sample]))
        room = grid.extent
        for edge in (self.edge, self.cell):
            if edge:
                room = room.intersect(Window(core.row // edge * edge, core.col // edge * edge, edge, edge))
        return room

    def only(self, keep: np.ndarray, cell: int) -> Samples:
        """Some of the samples, each in the part that it was dealt to, and in its square of `cell` pixels. keep: bool (n,)."""
        kept = {name: getattr(self, name)[keep] for name in ("scene", "tile", "block", "counts", "part")}
        return replace(self, **kept, cell=cell)

    def class_counts(self, part: str) -> np.ndarray:
        """Labelled pixels, or objects, of each class in a part, int64 (classes,)."""
        return self.counts[self.of(part)].sum(0)

    def digest(self) -> str:
        """What changes with the samples, their labels' counts, their parts, and the cells that they move in."""
        digest = hashlib.sha256(str(self.cell).encode())
        for each in (self.scene, self.tile, self.counts, self.part):
            digest.update(each.astype(np.int64).tobytes())
        return digest.hexdigest()[:16]


class Shares(msgspec.Struct, frozen=True):
    """How blocks are dealt out. edge: of a block, 0 = whole scenes. fixed: part by scene where a manifest says so."""

    edge: int
    validation: float
    test: float
    seed: int
    fixed: dict[str, str] = {}


def deal(
    names: Sequence[str], grids: list[Grid], counts: Sequence[np.ndarray], shares: Shares, seen: Sequence[np.ndarray] | None = None
) -> Samples:
    """Deal samples out to the parts. counts: per scene int64 (tiles, classes). seen: per scene bool (tiles,), which tiles are samples;
    None = those that have labels.

    Blocks, in an order drawn by the seed, go to test, then to validation, until each has its share of the labelled pixels; the rest
    is train. Raises UsageError where a part that was asked for stays empty.
    """
    rows: list[tuple[int, int, int]] = []
    blocks: dict[tuple[int, int, int], int] = {}
    for s, (grid, chosen) in enumerate(zip(grids, seen or [table.sum(1) > 0 for table in counts], strict=True)):
        for t in np.flatnonzero(chosen):
            core = grid.core_window(int(t))
            key = (s, core.row // shares.edge, core.col // shares.edge) if shares.edge else (s, 0, 0)
            rows.append((s, int(t), blocks.setdefault(key, len(blocks))))
    if not any(table.any() for table in counts):
        raise UsageError(
            "no sample has a labelled pixel or an object: do the labels lie on the scenes, and does [labels] map or ignore leave any?"
        )
    scene, tile, block = np.array(rows).T
    table = np.stack([counts[s][t] for s, t, _ in rows])
    parts = _parts(list(blocks), names, np.bincount(block, weights=table.sum(1)), shares)
    named = [Block(names[s], y * shares.edge, x * shares.edge, PARTS[p]) for (s, y, x), p in zip(blocks, parts, strict=True)]
    samples = Samples(grids, scene, tile, block, table, np.array(parts, np.int8)[block], named, shares.edge)
    wanted = {"train": 1.0, "validation": shares.validation, "test": shares.test}
    empty = [part for part in PARTS if wanted[part] and not len(samples.of(part))]
    if empty:
        what = f"blocks of {shares.edge} pixels" if shares.edge else "scenes"
        raise UsageError(
            f"the split leaves {' and '.join(empty)} empty: only {len(blocks)} {what} have labels; "
            "make block smaller, give more scenes, or set that share to 0"
        )
    return samples


def _parts(keys: list[tuple[int, int, int]], names: Sequence[str], weight: np.ndarray, shares: Shares) -> list[int]:
    """The part of each block: the manifest's word first, then by a seeded order until the shares are reached."""
    parts = [PARTS.index(shares.fixed[names[s]]) if names[s] in shares.fixed else 0 for s, _, _ in keys]
    free = [k for k, (s, _, _) in enumerate(keys) if names[s] not in shares.fixed]
    order = np.random.default_rng([shares.seed, len(keys)]).permutation(free)
    total, place = weight[free].sum() if free else 0.0, 0
    for part, share in ((2, shares.test), (1, shares.validation)):
        taken = 0.0
        # At least one block, and never the last: train needs it.
        while share and place < len(order) - 1 and (not taken or taken + weight[order[place]] / 2 <= share * total):
            taken += weight[order[place]]
            parts[order[place]] = part
            place += 1
    return parts


def epoch_order(samples: Samples, epoch: int, seed: int, balanced: bool, empty: float = 0.0) -> np.ndarray:
    """The train samples of an epoch, in order: a permutation drawn by seed and epoch, the same for any number of ranks.

    balanced: as many are drawn with replacement instead, a sample the likelier the rarer its classes are. Of samples without labels
    so many are drawn that they are at most the share `empty` of all.
    """
    train = samples.of("train")
    rng = np.random.default_rng([seed, epoch])
    if not balanced:
        bare = ~samples.counts[train].any(1)
        full = train[~bare]
        return rng.permutation(np.concatenate([full, rng.permutation(train[bare])[: round(len(full) * empty / (1 - empty))]]))
    counts = samples.counts[train].astype(float)
    rarity = 1.0 / np.maximum(counts.sum(0), 1.0)
    chance = (counts / np.maximum(counts.sum(1, keepdims=True), 1.0)) @ rarity
    return rng.choice(train, len(train), p=chance / chance.sum())


def share_of(batch: np.ndarray, rank: int, size: int) -> np.ndarray:
    """The part of a batch that a rank takes: contiguous, sizes differ by at most one, together the batch."""
    return np.array_split(batch, size)[rank]


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Loss weights float32 (classes,): inverse shares of the labelled pixels, with mean 1 over the classes that occur; 0 for others."""
    present = counts > 0
    weights = np.where(present, counts.sum() / np.maximum(counts, 1), 0.0)
    return (weights / weights[present].mean()).astype(np.float32)
