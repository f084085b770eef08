"""Checkpoints: written whole or not at all, and refused where they are of another run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hpcseg.errors import StoreError, UsageError
from hpcseg.models import build
from hpcseg.training.checkpoint import NAME, Position, average_statistics, publish, resume, running_statistics, save

IDENTITY = {"network": "unet-light", "rate": 0.1}


def made(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A network with batch norm and an optimiser that has made a step."""
    torch.manual_seed(seed)
    network = build("unet-light", 3, 2, {"down": [4, 8], "up": [4]}).train()
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    network(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    return network, optimizer


def test_all_of_a_run_comes_back(alone, tmp_path):
    network, optimizer = made(0)
    position = Position(epoch=2, at=14, skipped=7, loss=3.25, step=31, best=0.5, history=[{"epoch": 1, "loss": 0.7}])
    save(alone, tmp_path, network, optimizer, position, IDENTITY)
    other, other_optimizer = made(1)
    assert resume(alone, tmp_path, other, other_optimizer, IDENTITY) == position
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    for found, wanted in zip(other_optimizer.state.values(), optimizer.state.values(), strict=True):
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_an_empty_folder_holds_nothing_to_resume(alone, tmp_path):
    assert resume(alone, tmp_path, *made(0), IDENTITY) is None


def test_a_checkpoint_of_another_run_is_refused_saying_what_differs(alone, tmp_path):
    save(alone, tmp_path, *made(0), Position(), IDENTITY)
    with pytest.raises(UsageError, match=r"checkpoint\.pt is of another run: rate is 0\.1, wanted 0\.2; choose another --out"):
        resume(alone, tmp_path, *made(0), IDENTITY | {"rate": 0.2})


@pytest.mark.parametrize(("given", "wanted"), [({"seed": 3}, "seed is None, wanted 3"), ({"rate": None}, "rate is 0.1, wanted None")])
def test_what_only_one_of_the_two_runs_says_is_a_difference_too(alone, tmp_path, given, wanted):
    save(alone, tmp_path, *made(0), Position(), IDENTITY)
    identity = {key: value for key, value in (IDENTITY | given).items() if value is not None}
    with pytest.raises(UsageError, match=wanted):
        resume(alone, tmp_path, *made(0), identity)


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04" + bytes(200)])
def test_a_file_that_is_no_checkpoint_is_refused(alone, tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UsageError, match=r"no checkpoint of hpcseg.*remove it to start anew"):
        resume(alone, tmp_path, *made(0), IDENTITY)


def test_half_a_checkpoint_is_refused(alone, tmp_path):
    save(alone, tmp_path, *made(0), Position(), IDENTITY)
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="no checkpoint of hpcseg"):
        resume(alone, tmp_path, *made(0), IDENTITY)


def test_what_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a").write_text("old")

    def half(path: Path) -> None:
        path.write_text("new")
        raise OSError("disk full")

    with pytest.raises(StoreError, match="a: cannot be written: disk full"):
        publish(tmp_path / "a", half)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_statistics_are_those_of_all_batch_norms_and_one_rank_keeps_its_own(alone):
    network, _ = made(0)
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    before = [buffer.clone() for buffer in running_statistics(network)]
    assert len(before) == 2 * len(norms)
    average_statistics(alone, network)
    assert all(torch.equal(a, b) for a, b in zip(before, running_statistics(network), strict=True))


def test_another_number_of_ranks_gets_the_mean_of_their_statistics(alone, tmp_path):
    network, optimizer = made(0)
    save(alone, tmp_path, network, optimizer, Position(), IDENTITY)
    state = torch.load(tmp_path / NAME, weights_only=True)
    (own,) = state["statistics"]
    state["statistics"] = [own, [3 * each for each in own]]
    torch.save(state, tmp_path / NAME)
    resume(alone, tmp_path, network, optimizer, IDENTITY)
    for buffer, value in zip(running_statistics(network), own, strict=True):
        torch.testing.assert_close(buffer, 2 * value)
