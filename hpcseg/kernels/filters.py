"""The sea-ice filters in two steps: counts of a whole scene, from which it is fitted; then pictures without cloud and shadow.

What is fitted is JSON, so that files can hold it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from hpcseg.kernels import ice, veil
from hpcseg.kernels.ice import Rule
from hpcseg.tiles import Window

BANDS = 3
Fit = dict[str, Any]


class Filter(Protocol):
    """A filter of pictures of red, green and blue. halo: pixels that it needs around a core wherever the scene has them.

    values: u8 (H, W * 3), pixel-interleaved. valid: u8 (H, W). core, inside: Windows within them, what to do and what lies in the scene.
    """

    halo: int

    def start(self) -> np.ndarray:
        """Empty counts of a scene, int64; those of parts of it are added up."""

    def count(self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, counts: np.ndarray) -> None:
        """Add a core to the counts."""

    def fit(self, counts: np.ndarray) -> Fit:
        """What the filter needs of the whole scene; "note", if there is one, is a word on it for the report."""

    def clear(self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, fit: Fit, out: np.ndarray) -> None:
        """Write the filtered picture of a core, u8 (h, w * 3), 255 where there is no data."""


class ByColour:
    """The default filter: the picture as it were without cloud and shadow."""

    halo = veil.HALO

    def __init__(self, rule: Rule = ice.RULE) -> None:
        self._rule = rule

    def start(self) -> np.ndarray:
        return np.zeros((256, 256), np.int64)

    def count(self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, counts: np.ndarray) -> None:
        veil.count_colours(values, valid, core, counts)

    def fit(self, counts: np.ndarray) -> Fit:
        found = veil.fit_colours(counts, self._rule)
        snow, water = (None if each is None else [int(n) for n in each] for each in (found.snow, found.water))
        kept = {"table": _pack(found.table), "snow": snow, "water": water}
        return kept if found.snow else kept | {"note": "cloud cannot be told here: the colour rule stands"}

    def label(
        self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, fit: Fit, labels: np.ndarray, mask: np.ndarray
    ) -> None:
        """Write the classes of a core and what was taken for cloud or shadow, u8 (h, w) each; see `veil.confirm`."""
        veil.see_through(values, valid, core, inside, _unpack(fit["table"]), labels, mask)

    def clear(self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, fit: Fit, out: np.ndarray) -> None:
        labels, mask = np.empty((2, core.height, core.width), np.uint8)
        self.label(values, valid, core, inside, fit, labels, mask)
        self.paint(values, core, labels, mask, fit, out)

    def paint(self, values: np.ndarray, core: Window, labels: np.ndarray, mask: np.ndarray, fit: Fit, out: np.ndarray) -> None:
        """Write the filtered picture where labels and mask are known."""
        snow, water = (each[0] if each else 0 for each in (fit["snow"], fit["water"]))
        veil.clear_picture(values, core, labels, mask, snow, water, out)


class ByBackground:
    """The published filter: its gray picture, water black, in three equal bands."""

    halo = ice.HALO

    def __init__(self, rule: Rule = ice.RULE) -> None:
        self._rule = rule

    def start(self) -> np.ndarray:
        return np.zeros((2, 256), np.int64)

    def count(self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, counts: np.ndarray) -> None:
        self.code(values, valid, core, inside, counts, np.empty((core.height, core.width), np.uint8))

    def code(
        self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, counts: np.ndarray, codes: np.ndarray
    ) -> None:
        """Count a core, and write what its labels, mask and picture are looked up by, u8 (h, w)."""
        ice.take_background(values, valid, core, inside, self._rule, counts, codes)

    def fit(self, counts: np.ndarray) -> Fit:
        found = ice.fit_background(counts, self._rule)
        tables = {"labels": found.labels.tolist(), "mask": found.mask.tolist(), "filtered": found.filtered.tolist()}
        return tables if found.level is not None else tables | {"note": "no cloud told from ice: all differences are equal"}

    def clear(self, values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, fit: Fit, out: np.ndarray) -> None:
        codes, gray = np.empty((2, core.height, core.width), np.uint8)
        self.code(values, valid, core, inside, self.start(), codes)
        self.look_up(codes, fit, "filtered", gray)
        out.reshape(core.height, core.width, BANDS)[...] = gray[..., None]

    def look_up(self, codes: np.ndarray, fit: Fit, name: str, out: np.ndarray) -> None:
        """Write labels, mask or the filtered gray picture, u8 (h, w)."""
        ice.look_up(codes, np.array(fit[name], np.uint8), out)


FILTERS: dict[str, Filter] = {"ice": ByColour(), "ice-published": ByBackground()}


class Prefilter(NamedTuple):
    """A filter that a scene passes before anything else. name: in FILTERS. fit: to that scene."""

    name: str
    fit: Fit

    @property
    def digest(self) -> str:
        """Names what was fitted."""
        return hashlib.sha256(json.dumps(self.fit, sort_keys=True).encode()).hexdigest()[:16]


def _pack(table: np.ndarray) -> str:
    """A u8 table of 256 x 256 as short text: attributes of HDF5 hold 64 kB."""
    return base64.b85encode(zlib.compress(table.tobytes(), 9)).decode()


@lru_cache(16)
def _unpack(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), np.uint8).reshape(256, 256)
