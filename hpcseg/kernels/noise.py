"""Random fields on the pixel grid that depend on nothing but a key and the pixel's position: lattice noise, cells, ice colours.

Every value is a pure function of (key, row, col), so that a scene can be made window by window, in any order and any
number of processes, and comes out the same. All kernels release the GIL.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

WATER, THIN, THICK, NODATA = 0, 1, 2, 255

# Scales a cubic B-spline of independent uniform [-1, 1) lattice values to unit variance: the integral of the squared
# weights is 151/315 in each direction, the variance of the lattice 1/3.
GAIN = math.sqrt(3.0) * 315.0 / 151.0
FAR, TINY = np.float32(99.0), np.float32(1e-9)
FLAT, ROUGH, RIDGE = np.float32(0.0), np.float32(1.0), np.float32(20.0)


@njit(nogil=True, cache=True)
def mix(key: int | np.uint64, i: int, j: int) -> np.uint64:
    """64 well mixed bits of a key and two integers (the finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014)."""
    a, b = np.uint64(np.int64(i)) * np.uint64(0x9E3779B97F4A7C15), np.uint64(np.int64(j)) * np.uint64(0xD1B54A32D192ED03)
    h = (np.uint64(key) ^ a) + b
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(nogil=True, cache=True)
def lattice(key: int | np.uint64, row: int, col: int, height: int, width: int) -> np.ndarray:
    """Two independent uniform values in [0, 1) per lattice point (row + i, col + j): f32 (2, height, width)."""
    out = np.empty((2, height, width), np.float32)
    for i in range(height):
        for j in range(width):
            bits = mix(key, row + i, col + j)
            out[0, i, j] = np.float32(bits >> np.uint64(40)) / np.float32(1 << 24)
            out[1, i, j] = np.float32((bits >> np.uint64(16)) & np.uint64(0xFFFFFF)) / np.float32(1 << 24)
    return out


@njit(nogil=True, cache=True)
def spline(start: int, count: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-spline weights of the positions start .. start + count on a lattice of edge `size`.

    Returns the first of the four lattice points, i64 (count,), and their weights, f32 (4, count).
    """
    first, weights = np.empty(count, np.int64), np.empty((4, count), np.float32)
    for k in range(count):
        at = (start + k) / size
        cell = math.floor(at)
        t = at - cell
        first[k] = int(cell) - 1
        weights[0, k] = (1 - t) ** 3 / 6
        weights[1, k] = (4 - 6 * t**2 + 3 * t**3) / 6
        weights[2, k] = (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6
        weights[3, k] = t**3 / 6
    return first, weights


@njit(nogil=True, cache=True)
def add_octave(out: np.ndarray, key: np.uint64, row: int, col: int, size: float, strength: float) -> None:
    """Add lattice noise of edge `size` pixels, mean 0 and deviation `strength`, to out, f32 (h, w) from (row, col) on."""
    height, width = out.shape
    (rows, down), (cols, across) = spline(row, height, size), spline(col, width, size)
    top, left = rows[0], cols[0]
    points = lattice(key, top, left, rows[-1] - top + 4, cols[-1] - left + 4)[0] * np.float32(2) - np.float32(1)
    points *= np.float32(GAIN * strength)
    cols -= left
    for i in range(height):
        k = rows[i] - top
        line = (down[0, i] * points[k] + down[1, i] * points[k + 1]) + (down[2, i] * points[k + 2] + down[3, i] * points[k + 3])
        for j in range(width):
            c = cols[j]
            near = across[0, j] * line[c] + across[1, j] * line[c + 1]
            out[i, j] += near + (across[2, j] * line[c + 2] + across[3, j] * line[c + 3])


@njit(nogil=True, cache=True)
def fractal_noise(key: int | np.uint64, row: int, col: int, height: int, width: int, size: float, octaves: int) -> np.ndarray:
    """Sum of octaves, each half as wide and half as strong as the one before; mean 0 and variance 1.

    size: lattice edge of the first octave in pixels. Returns f32 (height, width) of the pixels from (row, col) on.
    """
    out = np.zeros((height, width), np.float32)
    power = (1 - 0.25**octaves) / 0.75
    for octave in range(octaves):
        add_octave(out, mix(key, octave, 0), row, col, size / 2.0**octave, 0.5**octave / math.sqrt(power))
    return out


@njit(nogil=True, cache=True)
def rank_centre(centre: tuple, offsets: tuple, ranked: tuple) -> None:
    """Sort one cell's centre (y, x, index) into the three least squared distances of some pixels.

    offsets: y and x of the pixels, f32 (n,) each. ranked: the three distances, f32 (n,), and the nearest index, i32 (n,).
    """
    y, x, cell = centre
    v, u = offsets
    first, second, third, index = ranked
    for j in range(v.size):
        dy, dx = y - v[j], x - u[j]
        distance = dy * dy + dx * dx
        a, b, c = first[j], second[j], third[j]
        index[j] = cell if distance < a else index[j]
        first[j] = min(a, distance)
        second[j] = min(b, max(a, distance))
        third[j] = min(c, max(b, distance))


@njit(nogil=True, cache=True)
def rank_row(points: np.ndarray, row: np.ndarray, col: np.ndarray, offsets: tuple, ranked: tuple) -> None:
    """For a row of pixels in the cells (row, col) of `points`, rank the nine centres around each: see rank_centre."""
    v, u = offsets
    first, second, third, index = ranked
    start = 0
    for stop in range(1, row.size + 1):
        # Pixels side by side mostly look at the same nine centres.
        if stop == row.size or row[stop] != row[start] or col[stop] != col[start]:
            run = slice(start, stop)
            for n in range(9):
                down, right = n // 3 - 1, n % 3 - 1
                k, m = row[start] + down, col[start] + right
                centre = np.float32(down) + points[0, k, m], np.float32(right) + points[1, k, m]
                cell = np.int32(k * points.shape[2] + m)
                rank_centre((*centre, cell), (v[run], u[run]), (first[run], second[run], third[run], index[run]))
            start = stop


@njit(nogil=True, cache=True)
def nearest_cells(points: np.ndarray, table: tuple, window: tuple, bend: np.ndarray, size: float) -> tuple:
    """Which cell of a jittered grid each pixel lies in, and how far from its border (Worley, SIGGRAPH 1996).

    points: f32 (2, ny, nx), offset of each cell's centre from its upper left corner, 0..1 in y and x, for the cells of `table`.
    table, window: (row, col, height, width) in cells and in pixels. bend: f32 (2, h, w), what is added to each pixel's y and x
    before it is looked up, at least one cell inside the table. size: edge of a cell in pixels. Looks at 3 x 3 cells.
    Returns the distance d in pixels, f32 (h, w), and the index of the nearest cell in the flattened table, i32 (h, w):
    1 / 2d = 1 / (F2 - F1) + 1 / (F3 - F1) with F the distances to the centres, so that lines of equal d have round corners.
    """
    height, width = bend.shape[1:]
    edge, index = np.empty((height, width), np.float32), np.empty((height, width), np.int32)
    row, col = np.empty(width, np.int32), np.empty(width, np.int32)
    v, u = np.empty(width, np.float32), np.empty(width, np.float32)
    first, second, third = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(height):
        for j in range(width):
            y, x = (window[0] + i + bend[0, i, j]) / size, (window[1] + j + bend[1, i, j]) / size
            cell_y, cell_x = math.floor(y), math.floor(x)
            row[j], col[j] = cell_y - table[0], cell_x - table[1]
            v[j], u[j] = y - cell_y, x - cell_x
        first[:], second[:], third[:] = FAR, FAR, FAR
        rank_row(points, row, col, (v, u), (first, second, third, index[i]))
        for j in range(width):
            near = math.sqrt(first[j])
            to_second, to_third = math.sqrt(second[j]) - near, math.sqrt(third[j]) - near
            edge[i, j] = np.float32(0.5 * size) * (to_second * to_third / (to_second + to_third + TINY))
    return edge, index


@njit(nogil=True, cache=True)
def border_distance(points: np.ndarray, table: tuple, window: tuple, bend: np.ndarray, size: float) -> np.ndarray:
    """Distance of each pixel to the straight border of its cell, in pixels, f32 (h, w).

    Arguments as for nearest_cells, with at least two cells more in the table than the window's pixels lie in. The border between the
    nearest centre a and another b lies (|b|^2 - |a|^2) / 2|b - a| away, both counted from the pixel. Looks at 5 x 5 cells.
    """
    height, width = bend.shape[1:]
    out = np.empty((height, width), np.float32)
    y, x = np.empty(25, np.float32), np.empty(25, np.float32)
    for i in range(height):
        for j in range(width):
            at_y, at_x = (window[0] + i + bend[0, i, j]) / size, (window[1] + j + bend[1, i, j]) / size
            cell_y, cell_x = math.floor(at_y), math.floor(at_x)
            near, best = 0, FAR
            for n in range(25):
                k, m = cell_y - table[0] + n // 5 - 2, cell_x - table[1] + n % 5 - 2
                y[n] = points[0, k, m] + np.float32(cell_y + n // 5 - 2 - at_y)
                x[n] = points[1, k, m] + np.float32(cell_x + n % 5 - 2 - at_x)
                distance = y[n] * y[n] + x[n] * x[n]
                if distance < best:
                    near, best = n, distance
            least = FAR
            for n in range(25):
                dy, dx = y[n] - y[near], x[n] - x[near]
                if n != near:
                    least = min(least, (y[n] * y[n] + x[n] * x[n] - best) / (np.float32(2) * np.float32(math.sqrt(dy * dy + dx * dx))))
            out[i, j] = np.float32(size) * least
    return out


@njit(nogil=True, cache=True)
def lay_floes(edge: np.ndarray, index: np.ndarray, gap: np.ndarray, look: np.ndarray, scene: np.ndarray) -> np.ndarray:
    """Lay one generation of floes over smaller ones.

    edge, index: of nearest_cells. gap: f32 (cells,), water around each floe in pixels, inf where there is none.
    look: f32 (cells,), brightness of each floe 0..1. scene: f32 (5, h, w): thick ice 0 or 1, brightness, distance to the next
    ridge in pixels, and the brightness and edge of the generation below, which show through as the welded pieces of a floe.
    Returns the new scene.
    """
    height, width = edge.shape
    out = np.empty_like(scene)
    for i in range(height):
        for j in range(width):
            cell = index[i, j]
            floe = edge[i, j] > gap[cell]
            out[0, i, j] = np.float32(1) if floe else scene[0, i, j]
            out[1, i, j] = np.float32(0.6) * look[cell] + np.float32(0.4) * scene[3, i, j] if floe else scene[1, i, j]
            out[2, i, j] = scene[4, i, j] if floe else scene[2, i, j]
            out[3, i, j], out[4, i, j] = look[cell], edge[i, j]
    return out


@njit(nogil=True, cache=True)
def young_ice(edge: np.ndarray, index: np.ndarray, growth: np.ndarray, age: np.ndarray, streak: np.ndarray) -> np.ndarray:
    """Open water with streaks of grease ice and sheets of young ice.

    edge, index: of nearest_cells. growth, age: f32 (cells,), how far each sheet has frozen and how bright it is, 0..1.
    streak: noise f32 (h, w). Returns f32 (2, h, w): thin ice 0 or 1, and the brightness of ice or water.
    """
    height, width = edge.shape
    out = np.empty((2, height, width), np.float32)
    for i in range(height):
        for j in range(width):
            noise, cell = streak[i, j], index[i, j]
            grown = growth[cell] + np.float32(0.5) * noise
            if grown > np.float32(0.6) and edge[i, j] > np.float32(1):
                out[0, i, j], out[1, i, j] = 1, age[cell] + np.float32(0.05) * noise
            elif grown > np.float32(0.2):
                out[0, i, j], out[1, i, j] = 1, np.float32(0.25) * grown + np.float32(0.07)
            else:
                out[0, i, j], out[1, i, j] = 0, np.float32(0.5) + np.float32(0.2) * noise
    return out


@njit(nogil=True, cache=True, inline="always")
def clip(value: np.float32, low: np.float32, high: np.float32) -> np.float32:
    """The value, held between low and high."""
    return min(max(value, low), high)


@njit(nogil=True, cache=True)
def shade(relief: np.ndarray, ridge: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Light from the upper left on a relief f32 (h + 1, w + 1), darker along ridges: f32 (h, w) in grey values.

    ridge: distance to the next ridge in pixels, f32 (h, w). rough: how strong ridges are, f32 (h, w), 0 and less = none.
    """
    height, width = ridge.shape
    out = np.empty((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            lit = np.float32(14) * (relief[i + 1, j + 1] - relief[i, j])
            out[i, j] = lit - clip(np.float32(20) - np.float32(8) * ridge[i, j], FLAT, RIDGE) * clip(rough[i, j], FLAT, ROUGH)
    return out


@njit(nogil=True, cache=True)
def paint_ice(surface: np.ndarray, tone: np.ndarray, shade: np.ndarray, pond: np.ndarray) -> np.ndarray:
    """Colours of sea ice in the clear: V = max(R, G, B) is at most 30 on water, 31..204 on thin ice, 205 and more on thick ice.

    surface: u8 (h, w), a class. tone: f32, brightness within the class, 0..1. shade: f32, relief and texture in grey values.
    pond: f32, depth of melt water on thick ice, 0..1, 0 = none; ponds are darker than the rule. Returns f32 (3, h, w), 1..255.
    """
    height, width = surface.shape
    out = np.empty((3, height, width), np.float32)
    for i in range(height):
        for j in range(width):
            t, s = tone[i, j], shade[i, j]
            if surface[i, j] == THICK:
                v = clip(np.float32(209) + np.float32(34) * t + s, np.float32(205), np.float32(253))
                wet = pond[i, j]
                out[0, i, j] = v * (np.float32(0.975) - np.float32(0.55) * wet)
                out[1, i, j] = v * (np.float32(0.99) - np.float32(0.25) * wet)
                out[2, i, j] = v * (np.float32(1) - np.float32(0.15) * wet)
            elif surface[i, j] == THIN:
                v = clip(np.float32(33) + np.float32(150) * t + np.float32(0.4) * s * t, np.float32(32), np.float32(198))
                out[0, i, j] = v * (np.float32(0.66) + np.float32(0.3) * t)
                out[1, i, j] = v * (np.float32(0.84) + np.float32(0.14) * t)
                out[2, i, j] = v
            else:
                v = clip(np.float32(16) + np.float32(14) * t, np.float32(6), np.float32(29.4))
                out[0, i, j], out[1, i, j], out[2, i, j] = v * np.float32(0.34), v * np.float32(0.62), v
    return out


@njit(nogil=True, cache=True)
def veil(colours: np.ndarray, cloud: np.ndarray, shadow: np.ndarray) -> np.ndarray:
    """What a camera above thin cloud records of colours f32 (3, h, w), 0..255.

    cloud: f32 (h, w), opacity 0..1. shadow: f32 (h, w), share of light taken 0..1. Returns u8 (3, h, w), never 0.
    """
    bands, height, width = colours.shape
    out = np.empty((bands, height, width), np.uint8)
    for b in range(bands):
        for i in range(height):
            for j in range(width):
                a = cloud[i, j]
                value = colours[b, i, j] * (np.float32(1) - shadow[i, j]) * (np.float32(1) - a) + np.float32(238) * a
                out[b, i, j] = np.uint8(clip(value + np.float32(0.5), np.float32(1), np.float32(255)))
    return out


@njit(nogil=True, cache=True)
def expose(picture: np.ndarray, radius: int, response: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """What a poorer camera makes of a picture: the mean of (2 radius + 1) ** 2 pixels, then its response, then grain.

    picture: u8 (bands, h + 2 radius, w + 2 radius). response: f32 (bands, 256), by rounded mean. grain: f32 (bands, h, w), added.
    Returns u8 (bands, h, w), never 0.
    """
    bands, height, width = grain.shape
    side = 2 * radius + 1
    out = np.empty((bands, height, width), np.uint8)
    for b in range(bands):
        for i in range(height):
            for j in range(width):
                total = np.int64(0)
                for k in range(side):
                    for m in range(side):
                        total += np.int64(picture[b, i + k, j + m])
                value = response[b, (2 * total + side * side) // (2 * side * side)] + grain[b, i, j]
                out[b, i, j] = np.uint8(clip(value + np.float32(0.5), np.float32(1), np.float32(255)))
    return out
