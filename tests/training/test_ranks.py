"""Training on 1, 2 and 4 ranks."""

from pathlib import Path

import pytest
from mpi.launch import needs_mpirun, start

pytestmark = [pytest.mark.mpi, needs_mpirun]
PROGRAM = ("python", "-m", "mpi4py", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")


@pytest.mark.parametrize("ranks", [2, pytest.param(1, marks=pytest.mark.long), pytest.param(4, marks=pytest.mark.long)])
def test_what_ranks_do_together_in_training_is_right_on(ranks):
    result = start(ranks, Path(__file__).with_name("inprocess_ranks.py"), program=PROGRAM).wait(240)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert result.stdout.count(" passed") == ranks
