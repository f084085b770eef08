"""Preparing windows: each kernel against plain NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.kernels.prepare import normalise, reflect
from hpcseg.tiles import Window

DTYPES = ("uint8", "uint16", "int16", "float32", "float64")
EMPTY_MASK = np.empty((0, 0), np.uint8)
SCALE, OFFSET = np.array([0.5, 0.01, 2.0], np.float32), np.array([-3.0, 0.25, 0.0], np.float32)
NODATA = 7


def cell_of(dtype, bands, height=11, width=13, seed=0):
    """Pixels (h, w, b) with the no-data value in some bands of some pixels, and NaN and infinity where they exist."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(-90 if np.dtype(dtype).kind != "u" else 0, 200, (height, width, bands)).astype(dtype)
    cell[rng.random(cell.shape) < 0.3] = NODATA
    cell[2, 3] = NODATA
    if np.dtype(dtype).kind == "f":
        cell[4, 5, 0], cell[5, 5, -1], cell[6, 6], cell[7, 7, 0] = np.nan, np.inf, np.nan, -np.inf
    return cell


def reference(cell, mask, nodata, has_nodata, strict, scale, offset):
    """What the kernel promises, for a whole cell: values (h, w, b) float32 and validity (h, w)."""
    with np.errstate(invalid="ignore"):
        values = cell.astype(np.float32) * scale + offset
    missing = (has_nodata & (cell == nodata)) | ~np.isfinite(values)
    invalid = missing.any(-1) if strict else missing.all(-1)
    if mask.size:
        invalid |= mask == 0
    values[missing | invalid[..., None]] = 0
    return values, (~invalid).astype(np.uint8)


def run(cell, mask, source, target, shape, strict, has_nodata, dtype=np.float32):
    bands = cell.shape[2]
    out, valid = np.full((shape[0], shape[1] * bands), 99, dtype), np.full(shape, 9, np.uint8)
    scale, offset = (np.tile(v[:bands], cell.shape[1]) for v in (SCALE, OFFSET))
    nodata = np.full(bands, NODATA, cell.dtype)
    rules = (nodata, has_nodata, strict, scale, offset, np.float32(0))
    count = normalise(cell.reshape(cell.shape[0], -1), mask, source, target, *rules, out, valid)
    return out.reshape(*shape, bands), valid, count


@pytest.mark.parametrize("strict", [False, True], ids=["all", "any"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_cell_equals_numpy(dtype, bands, masked, strict):
    cell = cell_of(dtype, bands)
    mask = np.random.default_rng(1).choice(np.array([0, 1, 255], np.uint8), cell.shape[:2]) if masked else EMPTY_MASK
    has_nodata = np.arange(bands) % 2 == 0
    whole = Window(0, 0, *cell.shape[:2])
    out, valid, count = run(cell, mask, whole, whole, cell.shape[:2], strict, has_nodata)
    values, wanted = reference(cell, mask, NODATA, has_nodata, strict, SCALE[:bands], OFFSET[:bands])
    np.testing.assert_array_equal(valid, wanted)
    np.testing.assert_allclose(out, values, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(out[valid == 0], 0)
    assert count == wanted.sum()


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_nodata_and_mask_every_finite_pixel_counts(dtype):
    cell = cell_of(dtype, 3)
    whole = Window(0, 0, *cell.shape[:2])
    _, valid, count = run(cell, EMPTY_MASK, whole, whole, cell.shape[:2], True, np.zeros(3, bool))
    np.testing.assert_array_equal(valid, np.isfinite(cell).all(-1))
    assert count == valid.sum()


def test_a_part_of_a_cell_goes_to_its_place_and_nowhere_else():
    cell = cell_of("uint8", 3)
    source, target = Window(2, 3, 5, 6), Window(4, 1, 5, 6)
    out, valid, count = run(cell, EMPTY_MASK, source, target, (12, 10), False, np.ones(3, bool))
    part = cell[source.slices]
    values, wanted = reference(part, EMPTY_MASK, NODATA, np.ones(3, bool), False, SCALE, OFFSET)
    np.testing.assert_allclose(out[target.slices], values, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(valid[target.slices], wanted)
    assert count == wanted.sum()
    outside = np.ones((12, 10), bool)
    outside[target.slices] = False
    assert (out[outside] == 99).all()
    assert (valid[outside] == 9).all()


def test_rows_with_and_without_gaps_agree():
    cell = cell_of("float32", 3)
    cell[6] = 1.0
    whole = Window(0, 0, *cell.shape[:2])
    with_check = run(cell, EMPTY_MASK, whole, whole, cell.shape[:2], False, np.ones(3, bool))[0][6]
    without = run(cell, EMPTY_MASK, whole, whole, cell.shape[:2], False, np.zeros(3, bool))[0][6]
    np.testing.assert_array_equal(with_check, without)


def test_a_value_that_overflows_float32_is_no_data():
    cell = np.array([[[1e300], [1.0]]])
    out, valid, count = run(cell, EMPTY_MASK, Window(0, 0, 1, 2), Window(0, 0, 1, 2), (1, 2), False, np.zeros(1, bool))
    assert valid.tolist() == [[0, 1]]
    assert out[0, 0, 0] == 0
    assert count == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_bfloat16_is_rounded_as_torch_does(dtype):
    cell = cell_of(dtype, 3)
    whole = Window(0, 0, *cell.shape[:2])
    single = run(cell, EMPTY_MASK, whole, whole, cell.shape[:2], False, np.ones(3, bool))[0]
    bits = run(cell, EMPTY_MASK, whole, whole, cell.shape[:2], False, np.ones(3, bool), np.uint16)[0]
    wanted = torch.from_numpy(single).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bits, wanted)


def test_bfloat16_rounds_ties_to_even_and_keeps_signs_and_subnormals():
    words = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF808000, 0x80000000, 0x00000001, 0x7F7F0000], np.uint32)
    values = words.view(np.float32)
    out, valid = np.zeros((1, values.size), np.uint16), np.zeros((1, values.size), np.uint8)
    whole, one, zero = Window(0, 0, 1, values.size), np.ones(values.size, np.float32), np.zeros(values.size, np.float32)
    one_band = np.zeros(1, np.float32), np.zeros(1, bool)
    normalise(values[None], EMPTY_MASK, whole, whole, *one_band, False, one, -zero, np.float32(0), out, valid)
    wanted = torch.from_numpy(values * one + -zero).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(out[0], wanted)


sizes = st.integers(1, 9)
margins = st.integers(0, 25)


def filled(top, left, height, width, below, right, bands):
    """A window whose inside is set and whose outside is not, and numpy's reflection of it."""
    inside = np.arange(1, height * width * bands + 1, dtype=np.float32).reshape(height, width, bands)
    window = np.full((top + height + below, left + width + right, bands), np.nan, np.float32)
    window[top : top + height, left : left + width] = inside
    return window, np.pad(inside, ((top, below), (left, right), (0, 0)), mode="reflect")


@pytest.mark.parametrize("kernel", [reflect, getattr(reflect, "py_func", reflect)], ids=["jitted", "plain"])
@given(st.tuples(margins, margins, sizes, sizes, margins, margins), st.integers(1, 3))
def test_reflection_equals_numpy_pad(kernel, numbers, bands):
    top, left, height, width, *_ = numbers
    window, wanted = filled(*numbers, bands)
    flat = window.reshape(len(window), -1)
    kernel(flat, bands, top, top + height, left, left + width, 25)
    np.testing.assert_array_equal(window, wanted)


@pytest.mark.parametrize("kernel", [reflect, getattr(reflect, "py_func", reflect)], ids=["jitted", "plain"])
def test_reflection_ends_at_its_reach(kernel):
    window, wanted = filled(8, 9, 5, 6, 10, 11, 2)
    kernel(window.reshape(len(window), -1), 2, 8, 13, 9, 15, 3)
    near = np.zeros(window.shape[:2], bool)
    near[5:16, 6:18] = True
    np.testing.assert_array_equal(window[near], wanted[near])
    assert (window[~near] == 0).all()


def test_a_window_within_the_scene_is_left_alone():
    window = np.arange(12, dtype=np.float32).reshape(3, 4)
    before = window.copy()
    reflect(window, 2, 0, 3, 0, 2, 8)
    np.testing.assert_array_equal(window, before)


def test_bfloat16_bits_are_reflected_too():
    window = np.arange(20, dtype=np.uint16).reshape(4, 5)
    wanted = np.pad(window[1:3, 1:4], 1, mode="reflect")
    reflect(window, 1, 1, 3, 1, 4, 1)
    np.testing.assert_array_equal(window, wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bytes_are_rounded_and_cut_to_their_range(dtype):
    cell = cell_of(dtype, 3)
    whole, none = Window(0, 0, *cell.shape[:2]), np.zeros(3, bool)
    exact, _, _ = run(cell, EMPTY_MASK, whole, whole, cell.shape[:2], True, none)
    out, _, _ = run(cell, EMPTY_MASK, whole, whole, cell.shape[:2], True, none, np.uint8)
    np.testing.assert_array_equal(out, np.clip(np.floor(exact + np.float32(0.5)), 0, 255))


def test_bytes_that_keep_their_values_are_copied():
    cell = cell_of("uint8", 3).reshape(11, -1)
    source, target = Window(2, 3, 5, 6), Window(4, 1, 5, 6)
    one, zero = np.ones(39, np.float32), np.zeros(39, np.float32)
    # Beyond the part's own length, where nothing is read, other numbers may stand.
    one[18:], zero[18:] = 2, 3
    found = {}
    for name, mask in (("copied", EMPTY_MASK), ("converted", np.ones((11, 13), np.uint8))):
        out, valid = np.full((12, 30), 99, np.uint8), np.full((12, 10), 9, np.uint8)
        rules = np.zeros(3, np.uint8), np.zeros(3, bool), False, one, zero, np.float32(0)
        found[name] = out, valid, normalise(cell, mask, source, target, *rules, out, valid)
    for copied, converted in zip(found["copied"], found["converted"], strict=True):
        np.testing.assert_array_equal(copied, converted)
    np.testing.assert_array_equal(found["copied"][0][4:9, 3:21], cell[2:7, 9:27])
    assert (found["copied"][1] == 1).sum() == 30
