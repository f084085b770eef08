"""Sea ice seen through thin cloud and its shadow, told by colour: the default filter.

What it rests on, with V = max(R, G, B) and chroma = V - min(R, G, B) of a pixel:

- A thin cloud adds its white light to all bands: dark water moves along the straight line from water to white.
- A shadow takes the same share of all bands: snow grows darker and stays as colourless as it was.
- Young ice in the clear is the more coloured the darker it is (Grenfell and Maykut, J. Glaciol. 18, 1977), and neither veil nor shadow
  can make it more coloured than that.

So one joint histogram of V and chroma shows a scene's lines of snow, water and young ice. What the colour rule takes for young ice, but
is nearer to one of the other two lines, may be veiled water or shadowed snow; it is told so if that is likelier than young ice under
both, given how much of each surface the scene shows in the clear. And as a cloud is wider than an edge, a pixel is told otherwise than by
the rule only where enough of its surroundings look like it. Where a scene shows no snow or no young ice, or is gray, nothing can be
told and the colour rule stands. Young ice as colourless as snow, beside young ice that is not, is mistaken for veiled water or shadow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from hpcseg.kernels.ice import NODATA, THICK, THIN, WATER, Rule
from hpcseg.thresholds import percentile_levels
from hpcseg.tiles import Window

# Entries of a table beside WATER, THIN and THICK.
VEILED, SHADOWED = 3, 4
# The surroundings are 15 x 15 pixels.
HALO = 7
# One pixel in so many of the surroundings that must look alike.
_FEW = 4
# A thin cloud's shadow takes at most so much of the light.
_SHADOW = 0.4
# Veils and shadows to reckon with, and how strong they are on average.
_OPACITIES, _SHADOWS = np.arange(0, 0.8, 0.02), np.arange(0, _SHADOW, 0.02)
_OPACITY_MEAN, _SHADOW_MEAN = 0.2, 0.1
# Levels of V in one bin of such a reckoning.
_BIN = 4
# Least share of a scene that shows a surface, and share and number of pixels that show young ice of one V.
_SHOWS, _SHOWS_V, _PIXELS = 0.005, 1e-5, 50
# Grey values by which two lines must part to be told apart.
_APART = 4.0
# Levels of V taken together, on each side.
_ALIKE = 3


@njit(nogil=True, cache=True)
def count_colours(values, valid, core, counts):
    """Count the valid pixels of a core by V and chroma.

    values: u8 (H, W * 3), pixel-interleaved. valid: u8 (H, W). core: Window within them. counts: int64 (256, 256), added to.
    """
    place = np.empty(core.width, np.int32)
    table = np.zeros((2, 65536), np.int32)
    missing = 0
    for i in range(core.height):
        row = values[core.row + i, 3 * core.col : 3 * (core.col + core.width)]
        marks = valid[core.row + i, core.col : core.col + core.width]
        for j in range(place.size):
            r, g, b = row[3 * j], row[3 * j + 1], row[3 * j + 2]
            top, low = max(max(r, g), b), min(min(r, g), b)
            place[j] = np.int32(256) * np.int32(top) + np.int32(top - low) if marks[j] else np.int32(0)
            missing += marks[j] == 0
        for j in range(place.size):
            table[j & 1, place[j]] += 1
    # What is no data was counted as black.
    table[0, 0] -= missing
    flat = counts.reshape(65536)
    flat += table[0]
    flat += table[1]


class Colours(NamedTuple):
    """A scene's colours. table: u8 (256, 256), by V and chroma: WATER, THIN, THICK, VEILED or SHADOWED.

    snow, water: V and chroma of thick ice and of open water in the clear, None where the scene shows too little of it, or no young
    ice to tell it from; then nothing is taken for shadow, or for veiled water.
    """

    table: np.ndarray
    snow: tuple[int, int] | None
    water: tuple[int, int] | None


def fit_colours(counts: np.ndarray, rule: Rule) -> Colours:
    """The colours of a scene from its counts, int64 (256, 256), by V and chroma."""
    levels = np.arange(256)
    table = np.repeat(((levels > rule.water) + (levels >= rule.thick).astype(np.uint8)).astype(np.uint8)[:, None], 256, axis=1)
    least = _SHOWS * counts.sum()
    snow = _middle(counts, rule.thick, 256, least)
    if snow is None:
        return Colours(table, None, None)
    pale = snow[1] * levels / snow[0]
    young = _young_ice(counts, rule, pale, pale + _spread(counts[rule.thick :], pale[rule.thick :]))
    if young is None:
        return Colours(table, None, None)
    water = _middle(counts, 0, rule.water + 1, least)
    darkest = max(rule.water + 1, int((1 - _SHADOW) * rule.thick))
    for v in range(darkest, rule.thick):
        if young[v] - pale[v] >= 2:
            table[v, : int((pale[v] + young[v]) / 2) + 1] = SHADOWED
    if water is not None:
        _tell_veiled(table, water, snow, pale, young, range(rule.water + 1, rule.thick), darkest)
    _weigh(table, counts, rule, snow[0])
    return Colours(table, snow, water)


def _middle(counts: np.ndarray, low: int, high: int, least: float) -> tuple[int, int] | None:
    """Median V and median chroma where low <= V < high; None where fewer than `least` pixels, or none, lie there."""
    part = counts[low:high]
    if part.sum() < max(least, 1):
        return None
    return low + percentile_levels(part.sum(1), [50])[0], percentile_levels(part.sum(0), [50])[0]


def _spread(counts: np.ndarray, line: np.ndarray) -> int:
    """How far chroma reaches above a line, 95 % of it: at least 2 for the rounding. counts: (n, 256). line: chroma by row."""
    excess = np.clip(np.arange(256) - np.floor(line)[:, None], 0, 255).astype(np.int64)
    return max(2, percentile_levels(np.bincount(excess.ravel(), counts.ravel(), 256), [95])[0])


def _young_ice(counts: np.ndarray, rule: Rule, pale: np.ndarray, palest: np.ndarray) -> np.ndarray | None:
    """Chroma of young ice in the clear by V, float64 (256,): 80 % of what is more coloured than snow reaches no higher. None if unseen."""
    least = max(_PIXELS, _SHOWS_V * counts.sum())
    seen = {}
    for v in range(rule.water + 1, rule.thick):
        part = counts[max(rule.water + 1, v - _ALIKE) : min(rule.thick, v + _ALIKE + 1)].sum(0)
        part[: int(palest[v]) + 1] = 0
        if part.sum() >= least:
            seen[v] = percentile_levels(part, [80])[0]
    return np.interp(np.arange(256), list(seen), list(seen.values())) if len(seen) > 1 else None


def _tell_veiled(
    table: np.ndarray, water: tuple[int, int], snow: tuple[int, int], pale: np.ndarray, young: np.ndarray, levels: range, darkest: int
) -> None:
    """Enter VEILED where a colour is nearer to the line from water to white than to young ice and to shadowed snow."""
    for v in levels:
        opacity = min(max((v - water[0]) / (snow[0] - water[0]), 0.0), 1.0)
        line = water[1] + (snow[1] - water[1]) * opacity
        if young[v] - line < _APART or (v >= darkest and line - pale[v] < _APART):
            continue
        first = int((pale[v] + line) / 2) + 1 if v >= darkest else 0
        table[v, first : int((line + young[v]) / 2) + 1] = VEILED


def _weigh(table: np.ndarray, counts: np.ndarray, rule: Rule, white: int) -> None:
    """Leave VEILED and SHADOWED only where that is likelier than young ice under both, given how much of each the scene shows clear."""
    clear = np.zeros((3, 256, 256), np.int64)
    clear[WATER, : rule.water + 1], clear[THICK, rule.thick :] = counts[: rule.water + 1], counts[rule.thick :]
    clear[THIN] = np.where(table == THIN, counts, 0)
    water, thin, thick = (_seen_dimly(part, white) for part in clear)
    table[(table == VEILED) & (thin >= water)] = THIN
    table[(table == SHADOWED) & (thin >= thick)] = THIN


def _seen_dimly(counts: np.ndarray, white: int) -> np.ndarray:
    """How many of the pixels counted would look how under some veil and shadow, float64 (256, 256), by V and chroma.

    The fainter a veil or a shadow the commoner. counts: int64 (256, 256). white: V of the veil.
    """
    opacity, shadow = (part.ravel()[:, None] for part in np.meshgrid(_OPACITIES, _SHADOWS))
    chance = np.exp(-opacity / _OPACITY_MEAN - shadow / _SHADOW_MEAN)
    coarse = counts.reshape(256 // _BIN, _BIN, 256).sum(1)
    row, chroma = np.nonzero(coarse)
    light = (1 - opacity) * (1 - shadow)
    place = np.minimum((light * (_BIN * row + _BIN / 2) + opacity * white) // _BIN, 256 // _BIN - 1) * 256 + np.round(light * chroma)
    seen = np.bincount(place.astype(np.int64).ravel(), (chance * coarse[row, chroma]).ravel(), 65536 // _BIN).reshape(-1, 256)
    wide = np.pad(seen, ((0, 0), (1, 1)))
    return np.repeat(wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:], _BIN, axis=0)


@njit(nogil=True, cache=True)
def label_through_veil(values, valid, part, table, out):
    """What a scene's table says of each pixel of a window, 255 where valid is 0.

    values: u8 (H, W * 3). valid: u8 (H, W). part: Window within them. table: u8 (256, 256). out: u8 (h, w), of the part's size.
    """
    place = np.empty(part.width, np.int32)
    flat = table.reshape(65536)
    for i in range(part.height):
        row = values[part.row + i, 3 * part.col : 3 * (part.col + part.width)]
        marks, result = valid[part.row + i, part.col : part.col + part.width], out[i]
        for j in range(place.size):
            r, g, b = row[3 * j], row[3 * j + 1], row[3 * j + 2]
            top, low = max(max(r, g), b), min(min(r, g), b)
            place[j] = np.int32(256) * np.int32(top) + np.int32(top - low)
        for j in range(place.size):
            result[j] = flat[place[j]] if marks[j] else np.uint8(NODATA)


@njit(nogil=True, cache=True)
def _add_row(row, sign, sums):
    """Add a row of `label_through_veil` to column sums: known pixels times 2**20, shadowed ones times 2**10, veiled ones."""
    for j in range(row.size):
        known, shadowed, veiled = np.int32(row[j] != NODATA), np.int32(row[j] == SHADOWED), np.int32(row[j] == VEILED)
        sums[j + HALO] += sign * ((known << np.int32(20)) + (shadowed << np.int32(10)) + veiled)


@njit(nogil=True, cache=True)
def confirm(seen, core, labels, mask):
    """Labels and mask of a core: WATER where a veiled pixel, THICK where a shadowed one has its like around it, else THIN.

    Of the known pixels in the 15 x 15 around it a quarter must be alike; integers, so that the core's place cannot show.
    seen: u8 (H, W), of `label_through_veil`, ending where the scene does or at least HALO beyond the core. core: Window within it.
    labels, mask: u8 (h, w), of the core's size, set: the class, and 1 where it is not the colour rule's, both 255 where there is no data.
    """
    height, width = seen.shape
    sums = np.zeros(width + 2 * HALO, np.int32)
    for i in range(max(core.row - HALO, 0), min(core.row + HALO, height)):
        _add_row(seen[i], np.int32(1), sums)
    for i in range(core.height):
        enter, leave = core.row + i + HALO, core.row + i - HALO - 1
        if enter < height:
            _add_row(seen[enter], np.int32(1), sums)
        # The first row had nothing to leave.
        if leave >= 0 and i > 0:
            _add_row(seen[leave], np.int32(-1), sums)
        row, classes, marks = seen[core.row + i, core.col : core.col + core.width], labels[i], mask[i]
        around = np.int32(0)
        for j in range(core.col, core.col + 2 * HALO):
            around += sums[j]
        for j in range(row.size):
            around += sums[core.col + j + 2 * HALO]
            kind, known = row[j], around >> 20
            cloudy = (kind == VEILED) & (_FEW * (around & 1023) >= known)
            dim = (kind == SHADOWED) & (_FEW * ((around >> 10) & 1023) >= known)
            plain = np.uint8(THIN) if (kind == VEILED) | (kind == SHADOWED) else kind
            classes[j] = np.uint8(WATER) if cloudy else (np.uint8(THICK) if dim else plain)
            marks[j] = np.uint8(NODATA) if kind == NODATA else np.uint8(cloudy | dim)
            around -= sums[core.col + j]


def see_through(
    values: np.ndarray, valid: np.ndarray, core: Window, inside: Window, table: np.ndarray, labels: np.ndarray, mask: np.ndarray
) -> None:
    """Labels of a core by a scene's table, and what they took for cloud or shadow.

    values: u8 (H, W * 3). valid: u8 (H, W). core, inside: Windows within them, what to label and what lies in the scene; the window
    reaches HALO beyond the core wherever the scene does. table: of Colours. labels, mask: u8 of the core's size, see `confirm`.
    """
    part = core.grow(HALO).intersect(inside)
    seen = np.empty((part.height, part.width), np.uint8)
    label_through_veil(values, valid, part, table, seen)
    confirm(seen, core.relative_to(part), labels, mask)


@njit(nogil=True, cache=True)
def _brighten(value, top, snow):
    """A band of a pixel in shadow, brightened so that its V = `top`, above 0, becomes that of snow."""
    value, top = np.int64(value), np.int64(top)
    return np.uint8((2 * value * snow + top) // (2 * top))


@njit(nogil=True, cache=True)
def _unveil(value, top, snow, water):
    """A band of a veiled pixel less white as bright as snow, so that its V = `top`, below snow's, becomes that of water."""
    value, top = np.int64(value), np.int64(top)
    return np.uint8(max((value * (snow - water) - (top - water) * snow) // (snow - top), 0))


@njit(nogil=True, cache=True)
def clear_picture(values, core, labels, mask, snow, water, out):
    """The picture of a core as it were without cloud and shadow, where `see_through` found them; elsewhere as it is.

    In shadow all bands are brightened alike, so that V is that of snow; under a veil white of the brightness of snow is taken off, so
    that V is that of water. values: u8 (H, W * 3). core: Window within them. labels, mask: u8 (h, w), of `see_through`. snow, water: V of
    Colours, 0 for None. out: u8 (h, w * 3), set, 255 where there is no data.
    """
    for i in range(core.height):
        row, result = values[core.row + i, 3 * core.col : 3 * (core.col + core.width)], out[i]
        result[:] = row
        for j in range(core.width):
            if mask[i, j] == 0:
                continue
            top = max(max(row[3 * j], row[3 * j + 1]), row[3 * j + 2])
            for k in range(3 * j, 3 * j + 3):
                if mask[i, j] == NODATA:
                    result[k] = NODATA
                elif labels[i, j] == THICK:
                    result[k] = _brighten(row[k], top, snow)
                elif labels[i, j] == WATER:
                    result[k] = _unveil(row[k], top, snow, water)
