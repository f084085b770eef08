"""The features of a GPU's threads, in CUDA's simulator, against those of the processor's vectors."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
from numba import cuda
from hpcseg.kernels.rays import Sfs
from hpcseg.kernels.sfs import FEATURES, sfs
from hpcseg.kernels.sfs_cuda import sfs_cuda
from hpcseg.tiles import Window

assert cuda.is_available()
rng = np.random.default_rng(0)
values = np.clip(90 * rng.gamma(4, 1 / 4, (14, 17)), 0, 255).astype(np.uint8)
values[:6] = 100
valid = (rng.random(values.shape) < 0.95).astype(np.uint8)
core, inside = Window(3, 2, 9, 11), Window(0, 0, 13, 17)
settings = Sfs(spectral=40, spatial=14, directions=6, extremes=2, mode="{mode}")
for features in (FEATURES, ("sd", "length")):
    ours, theirs = (np.full((len(features), 9, 11), np.nan, np.float32) for _ in range(2))
    sfs(values, valid, core, inside, settings, features, ours)
    sfs_cuda(values, valid, core, inside, settings, features, theirs)
    assert ours.any()
    np.testing.assert_allclose(theirs, ours, rtol=2e-6, atol=1e-6)
print("equal")
"""


@pytest.mark.parametrize("mode", ["otb", "paper"])
def test_a_gpu_gives_the_same_features(mode):
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-c", SCRIPT.replace("{mode}", mode)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.stdout == "equal\n", result.stderr
