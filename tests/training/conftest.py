"""What the tests of training share: a small field."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.field import write_field


@pytest.fixture(scope="session")
def field(tmp_path_factory) -> Path:
    """A folder with a scene of 256x256 pixels and its labels."""
    return write_field(tmp_path_factory.mktemp("field"))


@pytest.fixture(autouse=True)
def one_thread():
    """As a rank of a busy node: torch's threads wait for each other where cores are few."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Leave the curves out, which take longer than epochs this small. What a module shares is set up before, and has them."""
    monkeypatch.setattr("hpcseg.training.train.draw_curves", lambda path, runs: path.write_bytes(b""))
