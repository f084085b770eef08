"""`hpcseg train`: a model from scenes and labels, on any number of ranks."""

from __future__ import annotations

import csv
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file

from hpcseg import device, metrics
from hpcseg.area import pixel_width_m
from hpcseg.config import ModelSpec, encode_toml
from hpcseg.environment import mark_begun
from hpcseg.errors import UsageError
from hpcseg.mapping.report import provenance
from hpcseg.models import build, load_model
from hpcseg.models.model import Model
from hpcseg.models.network import SegmentationNetwork
from hpcseg.models.pretrained import Row, describe, freeze, init_from, load_encoder
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.products.curves import draw_curves
from hpcseg.progress import Progress
from hpcseg.training import averaging
from hpcseg.training.averaging import Averaging, leaving
from hpcseg.training.checkpoint import Position, average_statistics, publish, resume, save
from hpcseg.training.feed import Batch, Feed, Shelf
from hpcseg.training.judge import ClassVerdict, judge, score_of
from hpcseg.training.loop import Trainer, make_optimizer, rate_at
from hpcseg.training.points import PointVerdict, judge_points, point_figures, settle_points, write_recall
from hpcseg.training.samples import class_weights, epoch_order, share_of
from hpcseg.training.settings import Settings
from hpcseg.training.shelf import fill_shelf, say
from hpcseg.training.together import together

_OURS = ("split.json", "checkpoint.pt", "weights.safetensors", "model.toml", "history.csv", "curves.png", "train.json",
         "precision_recall.csv", "precision_recall.png")  # fmt: skip


class Outcome(msgspec.Struct):
    """A finished, or stopped, training run. tables: confusion matrices of the best model on validation and test samples. points: of a
    detector instead, its figures there, a record for each distance.
    steps: of all starts together, of which the last made `made` in `wall` seconds.
    seconds: of all steps, the most of any rank: computing, averaging, waiting for data. compute: computing of each rank. refused: scenes
    that could not be opened."""

    stopped: bool
    epochs: int
    steps: int
    best: float
    tables: dict[str, list[list[int]]]
    seconds: dict[str, float]
    averaging: str
    ranks: int
    threads: int
    refused: int
    wall: float
    points: dict[str, list[dict[str, Any]]] = {}
    compute: list[float] = []
    made: int = 0


@dataclass(frozen=True)
class Crew:
    """Ranks that train a network together. pulse: of the whole job. name: said before each of their lines."""

    comm: Comm
    pulse: Pulse
    averaging: Averaging
    name: str = ""


def train(comm: Comm, settings: Settings, stop: threading.Event) -> Outcome | None:
    """Train, resume, judge and write a model folder; collective. stop: when set, on any rank, a checkpoint is written and all end.

    Returns the outcome on rank 0.
    """
    on_root(comm, lambda: make_folder(settings))
    with Pulse(comm, settings.stall, stop) as pulse:
        torch.set_num_threads(settings.threads)
        start = load_start(comm, settings)
        shelf = fill_shelf(comm, pulse, settings, start)
        library = averaging.choose(comm, settings)
        with leaving(library):
            return train_on(Crew(comm, pulse, library), settings, shelf, start)


def load_start(comm: Comm, settings: Settings) -> Model | None:
    """The model that settings begin with, None if there is none. Collective. Raises UsageError."""
    return together(comm, lambda: load_model(settings.init) if settings.init else None)


def train_on(crew: Crew, settings: Settings, shelf: Shelf, start: Model | None) -> Outcome | None:
    """Train on the samples of a shelf, resume, judge and write a model folder. Collective over the crew; the outcome is on its rank 0."""
    begin = time.perf_counter()
    on_root(crew.comm, lambda: remove_earlier(settings))
    spec = describe_model(crew.comm, settings, shelf, start)
    network = make_network(crew.comm, settings, spec, start)
    outcome = Run(crew, settings, shelf, spec, network).go()
    if outcome is not None:
        outcome.wall = time.perf_counter() - begin
        record = msgspec.to_builtins(outcome) | {"provenance": provenance()}
        publish(settings.out / "train.json", lambda path: path.write_text(json.dumps(record, indent=1)))
    return outcome


def make_folder(settings: Settings) -> None:
    """Make the output folder. Raises UsageError."""
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {settings.out}: {error.strerror}") from error


def remove_earlier(settings: Settings) -> None:
    """Remove what an earlier run wrote into the output folder, and nothing else, if settings say so."""
    if settings.overwrite:
        for name in _OURS:
            (settings.out / name).unlink(missing_ok=True)
        mark_begun()


def describe_model(comm: Comm, settings: Settings, shelf: Shelf, start: Model | None) -> ModelSpec:
    """The model.toml of what is trained. Collective."""
    scene = shelf.scenes[0]
    metres = on_root(comm, lambda: pixel_width_m(scene.place, scene.height, scene.width)) or settings.pixel_size
    network, options = settings.network or "unet-light", settings.options
    if start and settings.network in ("", start.spec.network):
        network, options = start.spec.network, settings.options or start.spec.options
    return ModelSpec(
        network=network, options=options, bands=len(scene.bands), classes=list(settings.classes), normalisation=shelf.norm,
        prefilter=shelf.prefilter,
        resolution=round(metres, 6), task=settings.task, sigma=settings.sigma, distance=settings.distance,
    )  # fmt: skip


def make_network(comm: Comm, settings: Settings, spec: ModelSpec, start: Model | None) -> SegmentationNetwork:
    """The network to train, the same on all ranks: drawn by the seed, or begun from given weights, what matched printed. Collective."""
    network, table = together(comm, lambda: _begin_network(settings, spec, start))
    say(comm, [describe(table)] if table else [])
    weights = comm.bcast({name: value.cpu() for name, value in network.state_dict().items()} if comm.rank == 0 else None)
    network.load_state_dict(weights)
    return network.to(device.choose()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch


def _begin_network(settings: Settings, spec: ModelSpec, start: Model | None) -> tuple[SegmentationNetwork, list[Row]]:
    """The network on this rank, and what became of given weights. Raises UsageError."""
    torch.manual_seed(settings.seed)
    network = build(spec.network, spec.bands, len(spec.classes), spec.options, spec.task)
    if settings.tile % network.stride:
        raise UsageError(f"tile is {settings.tile}, wanted a multiple of the stride of {spec.network}, {network.stride}")
    if spec.task == "points":
        start_rare(network)
    table = init_from(network, start) if start else []
    if settings.encoder_weights:
        table = load_encoder(network, Path(settings.encoder_weights))
    if settings.freeze:
        freeze(network, settings.freeze)
    return network, table


def start_rare(network: SegmentationNetwork) -> None:
    """Let every pixel be an object with a chance of 1 in 10 at first, as focal losses need it (Lin et al., ICCV 2017, section 4.1)."""
    for name in network.per_class:
        for layer in network.get_submodule(name).modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
                torch.nn.init.constant_(layer.bias, -math.log(9))


def judge_part(
    crew: Crew, network: SegmentationNetwork, forward: Callable, shelf: Shelf, settings: Settings, part: str
) -> ClassVerdict | PointVerdict:
    """What a network does on a part's samples, by the task of the settings. forward: the network as training runs it. Collective."""
    given = crew.comm, crew.pulse, network, forward, shelf, settings, part
    return judge_points(*given) if settings.task == "points" else ClassVerdict(judge(*given), settings.score)


@dataclass
class Run:
    """A training run: what it works with, and its course."""

    crew: Crew
    settings: Settings
    shelf: Shelf
    spec: ModelSpec
    network: SegmentationNetwork

    def __post_init__(self) -> None:
        self.comm, self.pulse = self.crew.comm, self.crew.pulse
        counts = self.shelf.samples.class_counts("train")
        ones = np.ones(len(counts), np.float32)
        weights = class_weights(counts) if self.settings.balance == "weights" else ones
        self.optimizer = make_optimizer(self.settings, self.network)
        self.trainer = Trainer(
            self.comm, self.settings, self.network, self.optimizer, self.crew.averaging, torch.from_numpy(weights), device.choose(),
        )  # fmt: skip
        self.batch = self.settings.batch_per_rank * self.comm.size or self.settings.batch
        self.train_size = len(self._order(0))

    def judge(self, part: str) -> ClassVerdict | PointVerdict:
        """What the network does on a part's samples. Collective."""
        return judge_part(self.crew, self.network, self.trainer.forward, self.shelf, self.settings, part)

    def go(self) -> Outcome | None:
        """All epochs from where an earlier run stopped, then the test."""
        found = resume(self.comm, self.settings.out, self.network, self.optimizer, self.identity())
        position = found or Position()
        self.begun = position.step
        on_root(self.comm, self._publish_split)
        if found:
            self._say(f"resumed at epoch {position.epoch + 1}, sample {position.at}")
        feed = Feed(self.shelf, self.settings, self._shares(position))
        progress = Progress("samples", self.settings.epochs * self.train_size, self.pulse.comm.rank == 0)
        stopped = False
        with closing(iter(feed)) as batches:
            while position.epoch < self.settings.epochs and not stopped:
                stopped = not self._epoch(position, batches, progress)
        self.trainer.seconds.data = feed.seconds
        progress.close()
        verdicts = {} if stopped else self._final_verdicts()
        stopped = stopped or self._asked_to_stop()
        if not stopped and self.settings.task == "points":
            on_root(self.comm, lambda: self._settle_points(verdicts))
        return self._outcome(position, stopped, verdicts)

    def _batches(self, epoch: int, at: int) -> list[np.ndarray]:
        """The batches of an epoch from a sample on, over all ranks."""
        order = self._order(epoch)
        return [order[k : k + self.batch] for k in range(at, len(order), self.batch)]

    def _order(self, epoch: int) -> np.ndarray:
        """The train samples of an epoch, in order."""
        s = self.settings
        return epoch_order(self.shelf.samples, epoch, s.seed, s.balance == "sampling", s.empty)

    def _shares(self, start: Position) -> Iterator[tuple[int, np.ndarray]]:
        """This rank's share of all batches that are left, each with its epoch."""
        first, at = start.epoch, start.at
        for epoch in range(first, self.settings.epochs):
            for batch in self._batches(epoch, at if epoch == first else 0):
                yield epoch, share_of(batch, self.comm.rank, self.comm.size)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree in."""
        trainable = sum(p.numel() for p in self.trainer.parameters)
        return self.settings.identity() | {"trainable": trainable, "labels and split": self.shelf.samples.digest()}

    def _publish_split(self) -> None:
        samples = self.shelf.samples
        record = {"edge": samples.edge, "blocks": [block._asdict() for block in samples.blocks]}
        publish(self.settings.out / "split.json", lambda path: path.write_text(json.dumps(record, indent=0)))

    def _epoch(self, position: Position, feed: Iterator[Batch], progress: Progress) -> bool:
        """The rest of an epoch and its validation; False if a stop was asked for, after a checkpoint."""
        begin = time.perf_counter()
        for whole in self._batches(position.epoch, position.at):
            rate = self._rate(position, len(whole))
            loss = self.trainer.step(next(feed), position.step, rate)
            if math.isfinite(loss):
                position.loss += len(whole) * loss
            else:
                position.skipped += len(whole)
            position.step += 1
            position.at += len(whole)
            self.pulse.step()
            progress.show(position.epoch * self.train_size + position.at)
            asked = self._asked_to_stop()
            every = self.settings.checkpoint_steps
            if asked or (every and position.step % every == 0):
                self._save(position)
            if asked:
                return False
        return self._close_epoch(position, time.perf_counter() - begin)

    def _rate(self, position: Position, samples: int) -> float:
        """The learning rate of a step over so many samples."""
        return rate_at(self.settings, position.epoch + position.at / self.train_size, samples / self.train_size, self.comm.size)

    def _asked_to_stop(self) -> bool:
        return any(self.comm.allgather(self.pulse.stop.is_set()))

    def _close_epoch(self, position: Position, seconds: float) -> bool:
        """Judge, keep the model if it is the best so far, log, and write a checkpoint; False if a stop was asked for while judging."""
        average_statistics(self.comm, self.network)
        rate = self._rate(position, 0)
        counted = position.at - position.skipped
        loss = position.loss / counted if counted else math.nan
        record: dict[str, Any] = {"epoch": position.epoch + 1, "loss": loss, "rate": rate, "seconds": seconds}
        if position.skipped:
            record["skipped"] = position.skipped
        verdict = self.judge("validation")
        if self._asked_to_stop():
            self._save(position)
            return False
        score = verdict.score if verdict else float(position.epoch)
        if verdict:
            record |= verdict.record()
        if score > position.best:
            position.best = score
            on_root(self.comm, lambda: self._publish_model())
        position.history.append(record)
        position.epoch, position.at, position.skipped, position.loss = position.epoch + 1, 0, 0, 0.0
        self._save(position)
        self._say("  ".join(f"{key}={value:.6g}" for key, value in record.items()))
        on_root(self.comm, lambda: write_history(self.settings.out, position.history))
        return True

    def _say(self, line: str) -> None:
        say(self.comm, [f"{self.crew.name}: {line}" if self.crew.name else line])

    def _save(self, position: Position) -> None:
        save(self.comm, self.settings.out, self.network, self.optimizer, position, self.identity())

    def _publish_model(self) -> None:
        """The model folder that `predict` takes."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        publish(self.settings.out / "weights.safetensors", lambda path: save_file(state, path))
        publish(self.settings.out / "model.toml", lambda path: path.write_bytes(encode_toml(self.spec)))

    def _final_verdicts(self) -> dict[str, Any]:
        """What the best model does on validation and test samples."""
        best = on_root(self.comm, lambda: load_model(str(self.settings.out)).network.state_dict())
        self.network.load_state_dict(best)
        return {part: self.judge(part) for part in ("validation", "test")}

    def _settle_points(self, verdicts: dict[str, PointVerdict]) -> None:
        """Say in the model folder which threshold is best, and what its scores are worth."""
        if not verdicts["validation"]:
            print(f"no object in the validation samples: the threshold stays {self.spec.threshold}, scores are not calibrated", flush=True)
        self.spec = settle_points(self.spec, verdicts)
        publish(self.settings.out / "model.toml", lambda path: path.write_bytes(encode_toml(self.spec)))
        write_recall(self.settings.out, self.spec, verdicts, publish)

    def _outcome(self, position: Position, stopped: bool, verdicts: dict[str, Any]) -> Outcome | None:
        spent = self.trainer.seconds
        every = self.comm.gather(np.array([spent.compute, spent.averaging, spent.data]))
        if every is None:
            return None
        # The largest of any rank: a rank that waits for its data makes the others wait in the averaging.
        seconds = dict(zip(("compute", "averaging", "data"), np.max(every, axis=0).tolist(), strict=True))
        points = self.settings.task == "points"
        tables = {} if points else {part: verdict.table.tolist() for part, verdict in verdicts.items()}
        return Outcome(
            stopped, position.epoch, position.step, position.best, tables, seconds, self.trainer.averaging.name, self.comm.size,
            self.settings.threads, self.shelf.refused, 0.0, point_figures(self.spec, verdicts) if points else {},
            np.stack(every)[:, 0].tolist(), position.step - self.begun,
        )  # fmt: skip


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """history.csv, a row per epoch, and curves.png of loss and scores."""
    keys = list(dict.fromkeys(key for record in history for key in record))
    lines = [",".join(keys)] + [",".join(str(record.get(key, "")) for key in keys) for record in history]
    publish(folder / "history.csv", lambda path: path.write_text("\n".join(lines) + "\n"))
    publish(folder / "curves.png", lambda path: draw_curves(path, {"": history}))


def read_history(path: Path) -> list[dict[str, float]]:
    """The records of a history.csv, empty cells left out."""
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def report_lines(settings: Settings, outcome: Outcome) -> list[str]:
    """The end of a run as stable `key=value unit` lines."""
    busy = max(sum(outcome.seconds.values()), 1e-9)
    lines = [f"epochs={outcome.epochs}", f"steps={outcome.steps}", f"ranks={outcome.ranks}", f"averaging={outcome.averaging}"]
    for part, rows in outcome.tables.items():
        table = np.array(rows, np.int64)
        if table.any():
            lines += [f"{part}_{measure}={score_of(table, measure):.4f}" for measure in metrics.MEASURES]
    for part, records in outcome.points.items():
        for each in records:
            lines += [f"{part}_{key}_within_{each['within']:g}={each[key]:.4f}" for key in ("f1", "precision", "recall", "count_error")]
    lines += [f"{name}_share={100 * seconds / busy:.2f} %" for name, seconds in outcome.seconds.items()]
    return [*lines, f"wall={outcome.wall:.1f} s"]


def exit_code(comm: Comm, outcome: Any) -> int:
    """75 if the run was stopped before its end, 3 if scenes were left out that cannot be opened, else 0; on every rank."""
    return on_root(comm, lambda: 75 if outcome.stopped else 3 if outcome.refused else 0)
