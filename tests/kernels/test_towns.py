"""Each kernel of towns against plain NumPy."""

import numpy as np
import pytest

from hpcseg.kernels import towns

KEYS = np.array([0x1234_5678_9ABC_DEF0, 0x0FED_CBA9_8765_4321], np.uint64)
RNG = np.random.default_rng(6)
# Without the compiler (NUMBA_DISABLE_JIT=1) the kernels' integers warn of the overflow that they rely on.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")


def mix(key, i, j):
    """SplitMix64's finaliser on arrays."""
    with np.errstate(over="ignore"):
        h = (np.asarray(key, np.uint64) ^ (i.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
        h = h + j.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return h ^ (h >> np.uint64(31))


def share(bits, k):
    return ((bits >> np.uint64(8 * k)) & np.uint64(255)).astype(np.float64) / 256


def look_at(key, u, v, lot, street, built):
    """Surface, light, tint and height at arrays of positions: a block is 4 x 2 lots behind a street above and to the left."""
    along, across = 4 * lot + street, 2 * lot + street
    block_u, block_v = u // along, v // across
    inner_u, inner_v = u % along - street, v % across - street
    lot_u, lot_v = (np.clip(inner // lot, 0, most) for inner, most in ((inner_u, 3), (inner_v, 1)))
    bits = mix(key, (2 * block_v + lot_v).astype(np.int64), (4 * block_u + lot_u).astype(np.int64))
    wide, deep = 0.2 + 0.22 * share(bits, 0), 0.2 + 0.22 * share(bits, 1)
    x = inner_u / lot - lot_u - 0.5 - (0.5 - wide) * (share(bits, 2) - 0.5)
    y = inner_v / lot - lot_v - 0.5 - (0.5 - deep) * (share(bits, 3) - 0.5)
    house = (share(bits, 4) < built) & (abs(x) < wide) & (abs(y) < deep) & ~((share(bits, 5) < 0.35) & (x > 0.2 * wide) & (y > 0.2 * deep))
    street_here = (inner_u < 0) | (inner_v < 0)
    surface = np.where(street_here, towns.STREET, np.where(house, towns.ROOF, towns.OPEN))
    roof = surface == towns.ROOF
    return surface, roof * (np.where(deep > wide, x, y) < 0), roof * share(bits, 6), roof * share(bits, 7)


def test_lay_town():
    window, sun = (-40, 900, 70, 90), (9.0, -7.0)
    nearest = RNG.integers(0, 2, (70, 90), dtype=np.int32)
    plans = np.array([(10.25, 930.5, np.cos(0.4), np.sin(0.4), 21.3, 7.1, 0.8), (-30.0, 960.0, 1.0, 0.0, 15.0, 6.0, 0.6)])
    surface, look = towns.lay_town(window, nearest, KEYS, plans, sun)
    rows, cols = np.mgrid[-40:30, 900:990]
    row, col, cosine, sine, lot, street, built = np.moveaxis(plans[nearest], -1, 0)

    def at(y, x):
        return look_at(KEYS[nearest], cosine * x + sine * y, cosine * y - sine * x, lot, street, built)

    what, lit, tint, _ = at(rows - row, cols - col)
    shadow = np.zeros(what.shape, bool)
    for k in range(1, 7):
        far, _, _, tall = at(rows - row + sun[0] * k / 6, cols - col + sun[1] * k / 6)
        shadow |= (far == towns.ROOF) & (0.4 + 0.6 * tall >= k / 6)
    expected = np.stack([lit, tint, shadow & (what != towns.ROOF)])
    # On a border, a last bit may decide.
    assert (surface != what).mean() < 1e-3
    assert (np.abs(look - expected) > 1e-6).mean() < 1e-3
    assert np.unique(surface).size == 3
    assert 0.02 < look[2].mean() < 0.5


def test_plant():
    window, size = (-13, 40, 50, 60), 7.3
    wood = RNG.random((50, 60), np.float32)
    ours = towns.plant(KEYS[0], window, wood, size)
    y, x = (np.arange(-13, 37) / size)[:, None] + np.zeros(60), (np.arange(40, 100) / size)[None] + np.zeros((50, 1))
    expected = np.zeros((50, 60))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            k, m = np.floor(y) + down, np.floor(x) + right
            bits = mix(KEYS[0], k.astype(np.int64), m.astype(np.int64))
            dy, dx, radius = y - k - share(bits, 1), x - m - share(bits, 2), 0.3 + 0.35 * share(bits, 3)
            crown = (share(bits, 0) < wood) & (np.hypot(dy, dx) < radius)
            expected = np.where(crown, np.maximum(expected, 0.65 - 0.35 * (dy + dx) / (np.sqrt(2) * radius)), expected)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert 0.1 < (ours > 0).mean() < 0.9
    assert ours[ours > 0].min() > 0.29
