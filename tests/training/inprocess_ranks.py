"""Training on several ranks, checked in process: run as `mpirun -n N python -m mpi4py -m pytest -x` by test_ranks.py.

Horovod starts once in a process: it is asked for sums, and left on. Whole runs here average by torch; those of the command, in
test_stops.py, by Horovod.
"""

from __future__ import annotations

import atexit
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI
from safetensors.torch import load_file

from hpcseg.errors import SceneError, UsageError
from hpcseg.models import build
from hpcseg.mpi import Comm
from hpcseg.training import averaging, feed, loop
from hpcseg.training.averaging import Torch, choose, leaving
from hpcseg.training.checkpoint import average_statistics, running_statistics
from hpcseg.training.feed import Batch
from hpcseg.training.loop import DivergedError, Trainer, make_optimizer
from hpcseg.training.samples import epoch_order
from hpcseg.training.together import share_out_together, together
from hpcseg.training.train import Outcome, train
from training.field import group, settings_of, shelf_of, truth_of, write_field, write_raster
from training.spots import point_settings, write_spots

if not MPI.Is_initialized():
    MPI.Init_thread(MPI.THREAD_MULTIPLE)
    atexit.register(MPI.Finalize)
COMM = MPI.COMM_WORLD
LAST = COMM.size - 1
NORMED = {"network": "unet-light", "options": {"down": [4, 8], "up": [4]}}
BOTH = ["horovod", "torch"] if averaging.horovod else ["torch"]
needs_horovod = pytest.mark.skipif(averaging.horovod is None, reason="Horovod is not installed")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder that all ranks share."""
    return Path(COMM.bcast(str(tmp_path)))


@pytest.fixture
def shared_field(folder) -> Path:
    if COMM.rank == 0:
        write_field(folder)
    COMM.Barrier()
    return folder


class Course:
    """What a run did on this rank: (epoch, sample) that it read, and the global loss of each step. stops: set by that step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stops: dict[int, threading.Event] = {}
        self.read: list[tuple[int, int]] = []
        self.losses: list[float] = []
        step, read_sample = loop.Trainer.step, feed.read_sample

        def note_step(trainer: Trainer, *arguments: Any) -> float:
            self.losses.append(step(trainer, *arguments))
            self.stops.pop(len(self.losses), threading.Event()).set()
            return self.losses[-1]

        def note_sample(shelf, settings, task, room) -> int:
            self.read.append((task.epoch, task.sample))
            return read_sample(shelf, settings, task, room)

        monkeypatch.setattr(loop.Trainer, "step", note_step)
        monkeypatch.setattr(feed, "read_sample", note_sample)

    def stop_after(self, steps: int, rank: int = LAST) -> threading.Event:
        """An event that one rank sets once it has made so many steps."""
        event = threading.Event()
        if COMM.rank == rank:
            self.stops[steps] = event
        return event


@pytest.fixture
def course(monkeypatch) -> Course:
    return Course(monkeypatch)


def run(comm: Comm, field: Path, name: str, stop: threading.Event | None = None, **changes: Any) -> Outcome | None:
    return train(comm, settings_of(field, field / name, **({"averaging": "torch"} | changes)), stop or threading.Event())


def groups() -> Iterator[tuple[int, Comm | None]]:
    """Communicators of the first 1, 2 and 4 ranks, as far as there are so many."""
    for size in (1, 2, 4):
        if size <= COMM.size:
            yield size, group(COMM, size)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


# One course on any number of ranks.


@pytest.mark.parametrize("changes", [{}, {"loss": ["focal", "dice"], "accumulate": 2}], ids=["cross-entropy", "dice"])
def test_any_number_of_ranks_follows_the_same_loss_and_reads_the_same_samples(shared_field, course, changes):
    """Labels have unequal shares; the last step of an epoch has one sample. The tables of validation and test are the same too."""
    found = {}
    for size, comm in groups():
        course.read, course.losses = [], []
        if comm is not None:
            outcome = run(comm, shared_field, f"out{size}", epochs=5, batch=13, optimizer="sgd", rate=0.02, **changes)
            found[size] = course.losses, sorted(each for part in comm.allgather(course.read) for each in part), outcome
        COMM.Barrier()
    if COMM.rank:
        return
    losses, read, outcome = found[1]
    assert len(losses) == 20
    assert len(read) == 5 * 40
    for size in found:
        assert np.abs(np.subtract(found[size][0], losses)).max() < 1e-4, size
        assert found[size][1] == read
        assert np.abs(np.subtract(found[size][2].tables["test"], outcome.tables["test"])).max() <= 5
    assert losses[-2] < losses[0]


@pytest.mark.skipif(COMM.size == 2, reason="for the long suite, whose four ranks train on two as well")
def test_any_number_of_ranks_trains_the_same_detector(folder, course):
    """Gradients, thresholds and figures are of all ranks' objects."""
    if COMM.rank == 0:
        write_spots(folder)
    COMM.Barrier()
    found = {}
    for size, comm in groups():
        course.losses = []
        if comm is not None:
            plain = {"network": "unet-ice", "options": {"widths": [8, 16], "dropout": [0.0, 0.0]}, "epochs": 3, "averaging": "torch"}
            outcome = train(comm, point_settings(folder, folder / f"out{size}", **plain), threading.Event())
            found[size] = course.losses, outcome
        COMM.Barrier()
    if COMM.rank:
        return
    for losses, outcome in found.values():
        assert np.abs(np.subtract(losses, found[1][0])).max() < 1e-2
        there = {part: [each["there"] for each in records] for part, records in outcome.points.items()}
        assert there == {part: [each["there"] for each in records] for part, records in found[1][1].points.items()}
        assert outcome.points["test"][0]["found"] == pytest.approx(found[1][1].points["test"][0]["found"], abs=5)


def test_every_sample_of_an_epoch_is_read_once(shared_field, course):
    settings = settings_of(shared_field, shared_field / "out", epochs=2, averaging="torch")
    train(COMM, settings, threading.Event())
    read = sorted(each for part in COMM.allgather(course.read) for each in part)
    order = [(epoch, int(k)) for epoch in range(2) for k in epoch_order(shelf_of(settings).samples, epoch, settings.seed, False)]
    assert read == sorted(order)


# Averaging.


def add_up(folder: Path, flat: torch.Tensor, sizes: list[int], **changes: Any) -> torch.Tensor:
    """The sum over all ranks, by what settings name."""
    library = choose(COMM, settings_of(folder, folder, **changes))
    assert library.name == (changes["averaging"] if COMM.size > 1 else "none")
    found = library.add_up(flat.clone(), sizes)
    assert all(np.array_equal(each, found.numpy()) for each in COMM.allgather(found.numpy()))
    if isinstance(library, Torch):
        library.close()
    return found


@pytest.mark.parametrize("name", BOTH)
def test_gradients_are_summed_and_the_same_each_time(name, folder):
    flat = torch.tensor(np.random.default_rng(COMM.rank).normal(size=100_003), dtype=torch.float32)
    wanted = np.sum(COMM.allgather(flat.double().numpy()), axis=0)
    found, again = (add_up(folder, flat, [100_000, 3], averaging=name) for _ in range(2))
    assert np.abs(found.numpy() - wanted).max() < 1e-6 * np.abs(wanted).max()
    assert torch.equal(found, again)


@pytest.mark.parametrize("name", BOTH)
def test_parts_of_the_ranks_add_up_among_themselves_at_once(name, folder):
    """The first rank alone, the others together; each part as often as it likes, of tensors of its own size."""
    library = choose(COMM, settings_of(folder, folder, averaging=name))
    groups = [range(1), range(1, COMM.size)] if COMM.size > 1 else [range(1)]
    part = library.divide(groups)
    mine = next(group for group in groups if COMM.rank in group)
    for size in range(10, 12 + 3 * len(mine)):
        flat = torch.full((size,), COMM.rank + 1.0)
        assert float(part.add_up(flat, [size])[-1]) == sum(rank + 1 for rank in mine)
    assert library.divide([range(COMM.size)]) is library
    whole = library.add_up(torch.ones(5), [5])
    assert float(whole[0]) == COMM.size
    if isinstance(library, Torch):
        library.close()


@needs_horovod
def test_horovod_and_torch_give_the_same_gradients(folder):
    flat = torch.tensor(np.random.default_rng(COMM.rank).normal(size=50_001), dtype=torch.float32) / COMM.size
    one, other = (add_up(folder, flat, [50_000, 1], averaging=name) for name in ("horovod", "torch"))
    assert float((one - other).abs().max()) < 1e-6


@pytest.mark.parametrize("name", BOTH)
def test_gradients_may_cross_as_fp16(name, folder):
    flat = torch.linspace(-1, 1, 1001) * (COMM.rank + 1)
    found = add_up(folder, flat, [1001], averaging=name, compression="fp16")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.linspace(-1, 1, 1001) * sum(range(1, COMM.size + 1)), rtol=5e-3, atol=5e-3)


@needs_horovod
@pytest.mark.skipif(COMM.size & (COMM.size - 1) != 0, reason="Adasum takes a power of two of ranks")
def test_adasum_does_not_double_what_all_ranks_agree_in(folder):
    """Each rank gives its share of the mean: what all agree in comes out as that mean, what each says alone as its own."""
    flat = torch.cat([torch.ones(8), torch.zeros(4 * COMM.size)])
    flat[8 + 4 * COMM.rank : 12 + 4 * COMM.rank] = 1
    found = add_up(folder, flat / COMM.size, [8, 4 * COMM.size], averaging="horovod", adasum=True)
    torch.testing.assert_close(found, torch.ones(len(flat)), rtol=1e-4, atol=1e-4)


def test_a_missing_horovod_is_told_by_all_ranks_alike(folder, monkeypatch):
    if COMM.rank == LAST:
        monkeypatch.setattr(averaging, "horovod", None)
    with pytest.raises(UsageError, match="horovod, which is not installed") as caught:
        choose(COMM, settings_of(folder, folder, averaging="horovod"))
    assert caught.value.shared


def test_auto_takes_torch_where_horovod_is_not(folder, monkeypatch):
    monkeypatch.setattr(averaging, "horovod", None)
    library = choose(COMM, settings_of(folder, folder))
    library.close()
    assert isinstance(library, Torch) or COMM.size == 1


# Batch norm.


def test_batch_norm_statistics_become_the_mean_of_all_ranks():
    network = build("unet-light", 3, 2, NORMED["options"])
    for k, buffer in enumerate(running_statistics(network)):
        buffer.fill_(k + COMM.rank)
    average_statistics(COMM, network)
    for k, buffer in enumerate(running_statistics(network)):
        torch.testing.assert_close(buffer, torch.full_like(buffer, k + LAST / 2))


@pytest.mark.parametrize("changes", [NORMED, {"options": {"widths": [4, 8], "dropout": [0.2, 0.2]}}], ids=["batch-norm", "dropout"])
def test_a_run_stopped_by_one_rank_goes_on_as_if_it_had_not_stopped(shared_field, course, changes):
    """With each rank's own statistics of batch norm, in the middle of an epoch."""
    run(COMM, shared_field, "whole", **changes)
    course.losses = []
    outcome = run(COMM, shared_field, "cut", course.stop_after(3), **changes)
    assert COMM.bcast(outcome and outcome.stopped) is True
    assert len(course.losses) == 3
    run(COMM, shared_field, "cut", **changes)
    whole = weights_of(shared_field / "whole")
    assert all(torch.equal(value, whole[name]) for name, value in weights_of(shared_field / "cut").items())


@pytest.mark.parametrize("fewer_first", [True, False], ids=["one-then-all", "all-then-one"])
def test_another_number_of_ranks_goes_on_at_the_next_sample(shared_field, course, fewer_first):
    """No step is lost or made twice."""
    one = group(COMM, 1)
    for comm, step in zip([one, COMM] if fewer_first else [COMM, one], [3, 0], strict=True):
        if comm is not None:
            outcome = run(comm, shared_field, "out", course.stop_after(step, comm.size - 1) if step else None, **NORMED)
        COMM.Barrier()
    if COMM.rank:
        return
    assert (outcome.epochs, outcome.steps) == (2, 2 * 6)
    assert len(course.losses) == outcome.steps
    assert all(math.isfinite(loss) for loss in course.losses)


# What is not finite, and errors.


def batch_of(poison: bool) -> Batch:
    rng = np.random.default_rng(COMM.rank)
    x = torch.tensor(rng.normal(size=(2, 3, 16, 16)), dtype=torch.float32)
    if poison:
        x[0, 0, 3, 3] = math.inf
    return Batch(x, torch.tensor(rng.integers(0, 2, (2, 16, 16)).astype(np.uint8)), 0)


def trainer_of(folder: Path, **changes: Any) -> Trainer:
    settings = settings_of(folder, folder, averaging="torch", **NORMED, **changes)
    torch.manual_seed(0)
    network = build(settings.network, 3, 2, settings.options)
    library = choose(COMM, settings)
    return Trainer(COMM, settings, network, make_optimizer(settings, network), library, torch.ones(2), torch.device("cpu"))


def test_what_is_not_finite_on_one_rank_stops_all_alike(folder):
    trainer = trainer_of(folder)
    with leaving(trainer.averaging):
        trainer.step(batch_of(False), 0, 0.1)
        with pytest.raises(DivergedError) as caught:
            trainer.step(batch_of(COMM.rank == LAST), 1, 0.1)
    assert len(set(COMM.allgather(str(caught.value)))) == 1


def test_what_is_not_finite_on_one_rank_is_skipped_on_all_alike(folder):
    trainer = trainer_of(folder, on_nan="skip")
    with leaving(trainer.averaging):
        losses = [trainer.step(batch_of(COMM.rank == LAST and k == 1), k, 0.1) for k in range(4)]
    assert [math.isnan(loss) for loss in losses] == [False, True, False, False]
    weights = torch.cat([p.detach().flatten() for p in trainer.parameters]).numpy()
    assert np.isfinite(weights).all()
    assert all(np.array_equal(each, weights) for each in COMM.allgather(weights))
    assert all(torch.isfinite(buffer).all() for buffer in running_statistics(trainer.network))


def test_the_error_of_the_first_rank_that_has_one_is_raised_by_all():
    def work() -> int:
        if COMM.rank in (LAST, LAST - 1):
            raise SceneError(f"rank {COMM.rank}")
        return COMM.rank

    with pytest.raises(SceneError, match=f"rank {max(0, LAST - 1)}") as caught:
        together(COMM, work)
    assert caught.value.shared
    assert together(COMM, lambda: COMM.rank) == COMM.rank
    assert share_out_together(COMM, range(7), lambda k: k * k) == [k * k for k in range(7)]


def test_a_label_that_only_one_rank_meets_is_told_by_all_alike(shared_field, folder):
    if COMM.rank == 0:
        truth = truth_of()
        truth[5, 40] = 9
        write_raster(folder / "wrong/field_labels.tif", truth[None])
    COMM.Barrier()
    with pytest.raises(UsageError, match=r"field_labels\.tif, rows 0:32, cols 32:64: 9 is no class") as caught:
        run(COMM, shared_field, "out", labels=[str(folder / "wrong/field_labels.tif")])
    assert caught.value.shared


def test_the_folder_of_another_run_is_refused_by_all_in_good_order(shared_field):
    run(COMM, shared_field, "out", epochs=1)
    with pytest.raises(UsageError, match="is of another run: rate is"):
        run(COMM, shared_field, "out", epochs=1, rate=0.5)
    run(COMM, shared_field, "other", epochs=1, rate=0.5)
