"""A real Slurm for the tests that ask for one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.conftest import assert_whole, undisturbed, work  # noqa: F401  (fixtures)

from cluster import slurm


@pytest.fixture(scope="session")
def running() -> Iterator[slurm.Cluster]:
    """The cluster, started once."""
    if reason := slurm.obstacle():
        pytest.skip(reason)
    keeper = subprocess.Popen(
        [sys.executable, slurm.__file__], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        line = keeper.stdout.readline()
        assert line, "no cluster came up: see above"
        yield slurm.Cluster(Path(line.strip()))
    finally:
        # Its input ends, here or with this process, whichever comes first: then it ends all that it has started.
        keeper.stdin.close()
        keeper.wait(60)


@pytest.fixture
def cluster(running) -> Iterator[slurm.Cluster]:
    """The cluster with all its nodes idle, and no jobs but the test's own."""
    yield running
    running.rest()
