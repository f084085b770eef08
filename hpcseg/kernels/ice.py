"""Sea ice by its colour, and the published filter that sees through thin cloud and shadow.

The colour rule and the filter are those of arXiv 2303.12719 and 2403.13135, cut into a step per window, a fit of the scene's counts
and a step per pixel, so that no statistic is a tile's: `take_background`, `fit_background`, `look_up`.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numba import njit

from hpcseg.kernels.median import median
from hpcseg.thresholds import otsu
from hpcseg.tiles import Window

WATER, THIN, THICK, NODATA = 0, 1, 2, 255
# Reach of the dilation and of the median; the halo that they need together.
DILATE, MEDIAN = 3, 77
HALO = DILATE + MEDIAN
# The brightest that the filter leaves as it is.
TRUNCATE = 235
# What a scratch plane holds: no data, water, or a difference of 2..255.
_NO_DATA, _WATER, _LEAST = 0, 1, 2

# Tiles run side by side, each on a thread of its own.
cv2.setNumThreads(1)


class Rule(NamedTuple):
    """Classes by V = max(R, G, B): water where V <= `water`, thick or snow-covered ice where V >= `thick`, else thin or young ice."""

    water: int = 30
    thick: int = 205


RULE = Rule()


@njit(nogil=True, cache=True)
def label_by_colour(values, valid, core, rule, out):
    """Label a core by the colour rule: WATER, THIN, THICK, 255 where valid is 0.

    values: u8 (H, W * 3), pixel-interleaved. valid: u8 (H, W). core: Window within them. rule: Rule. out: u8 (h, w), of the core's size.
    """
    for i in range(core.height):
        row = values[core.row + i, 3 * core.col : 3 * (core.col + core.width)]
        marks, labels = valid[core.row + i, core.col : core.col + core.width], out[i]
        for j in range(labels.size):
            top = max(max(row[3 * j], row[3 * j + 1]), row[3 * j + 2])
            label = np.uint8(top > rule.water) + np.uint8(top >= rule.thick)
            labels[j] = label if marks[j] else np.uint8(NODATA)


@njit(nogil=True, cache=True)
def whiten(values, valid, part, rule, gray, kind):
    """Gray values as OpenCV's RGB2GRAY makes them, but white where there is water or no data.

    values: u8 (H, W * 3). valid: u8 (H, W). part: Window within them. rule: Rule. gray, kind: u8 (h, w), of the part's size, set;
    kind is 0 for no data, 1 for water, 2 for ice.
    """
    for i in range(part.height):
        row = values[part.row + i, 3 * part.col : 3 * (part.col + part.width)]
        marks, shades, kinds = valid[part.row + i, part.col : part.col + part.width], gray[i], kind[i]
        for j in range(shades.size):
            r, g, b = row[3 * j], row[3 * j + 1], row[3 * j + 2]
            ice, known = max(max(r, g), b) > rule.water, marks[j] != 0
            light = np.int32(9798) * np.int32(r) + np.int32(19235) * np.int32(g) + np.int32(3735) * np.int32(b)
            shades[j] = np.uint8((light + np.int32(16384)) >> np.int32(15)) if ice & known else np.uint8(255)
            kinds[j] = (np.uint8(1) + np.uint8(ice)) * np.uint8(known)


@njit(nogil=True, cache=True)
def code_differences(gray, background, kind, core, counts, out):
    """Write 255 - |gray - background| of ice, at least 2, and 1 for water, 0 for no data; count the differences.

    gray, kind: u8 (H, W), of `whiten`. core: Window within them. background, out: u8 (h, w), of the core's size. counts: int64 (2, 256),
    added to: differences of water and of ice. Only rules that take V < 15 for ice let differences below 2 occur there.
    """
    place = np.empty(core.width, np.int16)
    # Neighbours are mostly alike: four tables in turn, so that no count waits for the one before.
    tables = np.zeros((4, 768), np.int32)
    for i in range(core.height):
        inner = slice(core.col, core.col + core.width)
        shades, behind, kinds, codes = gray[core.row + i, inner], background[i], kind[core.row + i, inner], out[i]
        for j in range(codes.size):
            level = np.uint8(255) - (max(shades[j], behind[j]) - min(shades[j], behind[j]))
            level = max(level, np.uint8(_LEAST)) if kinds[j] == 2 else level
            codes[j] = level if kinds[j] == 2 else kinds[j]
            place[j] = np.int16(kinds[j]) * np.int16(256) + np.int16(level)
        for j in range(place.size):
            tables[j & 3, place[j]] += 1
    for k in range(4):
        counts[0] += tables[k, 256:512]
        counts[1] += tables[k, 512:]


def take_background(
    values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, rule: Rule, counts: np.ndarray, out: np.ndarray
) -> None:
    """First step of the published filter: how much each pixel of a core differs from what lies around it.

    Background = median of 155 x 155 of the 7 x 7 maximum of gray values, water and no data white; the scene's edge pixels go on
    beyond it, as OpenCV does with a whole image. values: u8 (H, W * 3). valid: u8 (H, W). core, inside: Windows within them, what to do
    and what lies in the scene; the window reaches HALO beyond the core wherever the scene does. counts: int64 (2, 256), added to. out: u8
    of the core's size, the scratch plane: see `code_differences`.
    """
    part = core.grow(HALO).intersect(inside)
    gray, kind = np.empty((2, part.height, part.width), np.uint8)
    whiten(values, valid, part, rule, gray, kind)
    bright = cv2.dilate(gray, np.ones((2 * DILATE + 1, 2 * DILATE + 1), np.uint8))
    background = np.empty((core.height, core.width), np.uint8)
    median(_extend(bright, core.relative_to(part), MEDIAN), MEDIAN, background)
    code_differences(gray, background, kind, core.relative_to(part), counts, out)


def _extend(plane: np.ndarray, core: Window, reach: int) -> np.ndarray:
    """A core and `reach` pixels around it; the plane's edge pixels go on where it ends."""
    around, whole = core.grow(reach), Window(0, 0, *plane.shape)
    there = around.intersect(whole)
    top, left = there.row - around.row, there.col - around.col
    bottom, right = around.stop[0] - there.stop[0], around.stop[1] - there.stop[1]
    return cv2.copyMakeBorder(plane[there.slices], top, bottom, left, right, cv2.BORDER_REPLICATE)


class Background(NamedTuple):
    """The published filter's fit of one scene. level: Otsu's, None where all differences are equal.

    labels, mask, filtered: u8 (256,), by what the scratch plane holds: the class (255 no data), whether it is cloud or shadow (0, 1, 255),
    and the gray value of the filtered picture: the stretched difference, water black, no data 255. cloud, valid: pixels of cloud or
    shadow, and in all.
    """

    level: int | None
    labels: np.ndarray
    mask: np.ndarray
    filtered: np.ndarray
    cloud: int
    valid: int


def fit_background(counts: np.ndarray, rule: Rule) -> Background:
    """Second step of the published filter, for the counts of a whole scene, int64 (2, 256): Otsu, min-max, truncation, min-max.

    As in the published code a difference up to Otsu's level is cloud or shadow, and what the stretched difference of at least
    `rule.thick` shows is thick ice.
    """
    both = counts.sum(0)
    level = otsu(both)
    cut = 0 if level is None else level
    levels = np.flatnonzero(both)
    shown = _stretch(np.minimum(_stretch(np.where(levels > cut, levels, 0).astype(np.uint8)), TRUNCATE))
    labels, mask, filtered = np.full(256, THIN, np.uint8), (np.arange(256) <= cut).astype(np.uint8), np.zeros(256, np.uint8)
    labels[levels], filtered[levels] = np.where(shown >= rule.thick, THICK, THIN), shown
    labels[[_NO_DATA, _WATER]], mask[[_NO_DATA, _WATER]], filtered[[_NO_DATA, _WATER]] = (NODATA, WATER), (NODATA, 0), (NODATA, 0)
    return Background(level, labels, mask, filtered, int(counts[1, : cut + 1].sum()), int(both.sum()))


def _stretch(levels: np.ndarray) -> np.ndarray:
    """From min..max to 0..255 as OpenCV rounds it; all 0 where there is but one level. levels: u8 (n,)."""
    return cv2.normalize(levels, np.empty(0, np.uint8), 0, 255, cv2.NORM_MINMAX, cv2.CV_8U).ravel() if levels.size else levels


@njit(nogil=True, cache=True)
def look_up(codes, table, out):
    """Last step of the published filter: out = table[codes]. codes, out: u8 (h, w). table: u8 (256,)."""
    for i in range(out.shape[0]):
        row, result = codes[i], out[i]
        for j in range(result.size):
            result[j] = table[row[j]]
