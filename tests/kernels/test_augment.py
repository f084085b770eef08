"""The augmentation kernel against NumPy's own turns and flips, compiled and not."""

import numpy as np
import pytest

from hpcseg.kernels.augment import place


def sample(n: int, bands: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values, validity, truth and gain of a window of n x n pixels."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, n * bands)).astype(np.float32)
    valid = (rng.random((n, n)) < 0.8).astype(np.uint8)
    values.reshape(n, n, bands)[valid == 0] = 0
    truth = rng.choice(np.array([0, 1, 2, 255], np.uint8), (n, n))
    return values, valid, truth, rng.uniform(0.5, 1.5, (2, bands)).astype(np.float32)


def reference(values, valid, truth, turn, flip, gain):
    n = len(valid)
    x = values.reshape(n, n, -1)
    x = np.where(valid[..., None] != 0, x * gain[0] + gain[1], x)
    y = np.where(valid != 0, truth, 255)
    x, y = np.rot90(x, turn), np.rot90(y, turn)
    return (x[:, ::-1], y[:, ::-1]) if flip else (x, y)


@pytest.fixture(params=["compiled", "plain"])
def kernel(request):
    return place if request.param == "compiled" else place.py_func


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_turned_then_mirrored_as_numpy_does(kernel, turn, flip, bands):
    values, valid, truth, gain = sample(7, bands, seed=turn)
    x, y = np.full((7, 7, bands), np.nan, np.float32), np.full((7, 7), 99, np.uint8)
    labelled = kernel(values, valid, truth[None], turn, flip, gain, x, y[None])
    wanted_x, wanted_y = reference(values, valid, truth, turn, flip, gain)
    np.testing.assert_allclose(x, wanted_x, rtol=1e-6)
    np.testing.assert_array_equal(y, wanted_y)
    assert labelled == np.count_nonzero(wanted_y != 255)


def test_no_data_is_neither_brightened_nor_labelled(kernel):
    values, valid, truth, gain = sample(5, 2)
    valid[:], values[:] = 0, 0
    x, y = np.ones((5, 5, 2), np.float32), np.zeros((5, 5), np.uint8)
    assert kernel(values, valid, truth[None], 1, True, gain, x, y[None]) == 0
    assert not x.any()
    assert (y == 255).all()


def test_it_writes_into_a_slot_of_a_larger_batch(kernel):
    values, valid, truth, gain = sample(4, 3)
    batch = np.full((2, 4, 4, 3), 7, np.float32)
    kernel(values, valid, truth[None], 2, False, gain, batch[1], np.empty((1, 4, 4), np.uint8))
    assert (batch[0] == 7).all()
    np.testing.assert_allclose(batch[1], reference(values, valid, truth, 2, False, gain)[0], rtol=1e-6)


def test_every_plane_of_labels_is_turned_alike(kernel):
    values, valid, truth, gain = sample(6, 1)
    planes = np.stack([truth, (truth + 3) % 250, truth[::-1]])
    y = np.empty_like(planes)
    kernel(values, valid, planes, 3, True, gain, np.empty((6, 6, 1), np.float32), y)
    for plane, found in zip(planes, y, strict=True):
        np.testing.assert_array_equal(found, reference(values, valid, plane, 3, True, gain)[1])
