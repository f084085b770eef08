"""Scratch files of components, read back in one order."""

from __future__ import annotations

import numpy as np
import pytest

from hpcseg.errors import StoreError
from hpcseg.kernels.components import COMPONENT
from hpcseg.objects import spool as module
from hpcseg.objects.spool import Spool, in_raster_order


def components(seed, height=900, width=700, n=2000):
    """Components that begin on different pixels, in order."""
    rng = np.random.default_rng(seed)
    found = np.zeros(n, COMPONENT)
    found["top"], found["first"] = np.divmod(np.sort(rng.choice(height * width, n, replace=False)), width)
    found["area"] = rng.integers(1, 99, n)
    return found


@pytest.mark.parametrize("pixels", [1, 700 * 64, 1 << 30])
def test_blocks_of_several_files_come_back_in_raster_order(tmp_path, monkeypatch, pixels):
    monkeypatch.setattr(module, "_PIXELS_IN_FLIGHT", pixels)
    wanted, rng = components(0), np.random.default_rng(1)
    spools = [Spool(tmp_path / f"{k}") for k in range(3)]
    owner = rng.integers(0, 7, len(wanted))
    for k in range(7):
        spools[k % 3].append(wanted[owner == k])
    spools[0].append(wanted[:0])
    found = list(in_raster_order([block for each in spools for block in each.blocks], 700))
    np.testing.assert_array_equal(np.concatenate(found), wanted)
    rows = max(1, pixels // 700)
    assert all(len(each) and each["top"].max() - each["top"].min() < rows for each in found)


def test_no_blocks_are_no_components():
    assert list(in_raster_order([], 100)) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(StoreError, match="absent"):
        Spool(tmp_path / "absent" / "file").append(components(0, n=1))
