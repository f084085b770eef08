"""`hpcseg train`: a model from scenes and labels, on any number of ranks."""

from __future__ import annotations

import csv
import json
import math
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file

from hpcseg import device, metrics
from hpcseg.area import pixel_width_m
from hpcseg.config import ModelSpec, Normalisation, encode_toml
from hpcseg.errors import SceneError, UsageError
from hpcseg.inference.options import Options
from hpcseg.inference.prepare import open_scenes
from hpcseg.models import build, load_model
from hpcseg.models.model import Model
from hpcseg.models.network import SegmentationNetwork
from hpcseg.models.pretrained import Row, describe, freeze, init_from, load_encoder
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.products.curves import draw_curves
from hpcseg.progress import Progress
from hpcseg.raster import CellCache, Scene, Values, list_scenes, pair_labels, set_block_cache
from hpcseg.statistics import statistics
from hpcseg.tiles import Grid
from hpcseg.training import averaging
from hpcseg.training.averaging import leaving
from hpcseg.training.checkpoint import Position, average_statistics, publish, resume, save
from hpcseg.training.feed import Batch, Feed, Shelf
from hpcseg.training.judge import judge, score_of
from hpcseg.training.loop import Trainer, make_optimizer, rate_at
from hpcseg.training.samples import PARTS, Samples, Shares, class_weights, deal, epoch_order, share_of
from hpcseg.training.settings import Settings
from hpcseg.training.together import share_out_together, together
from hpcseg.truth import count_tile, open_truth


class Outcome(msgspec.Struct):
    """A finished, or stopped, training run. tables: confusion matrices of the best model on validation and test samples.
    seconds: of all steps of this rank 0: computing, averaging, waiting for data. refused: scenes that could not be opened."""

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


def train(comm: Comm, settings: Settings, stop: threading.Event) -> Outcome | None:
    """Train, resume, judge and write a model folder; collective. stop: when set, on any rank, a checkpoint is written and all end.

    Returns the outcome on rank 0.
    """
    begin = time.perf_counter()
    on_root(comm, lambda: prepare_folder(settings))
    with Pulse(comm, settings.stall, stop) as pulse:
        torch.set_num_threads(settings.threads)
        start = together(comm, lambda: load_model(settings.init) if settings.init else None)
        shelf = fill_shelf(comm, pulse, settings, start)
        spec = describe_model(comm, settings, shelf, start)
        network = make_network(comm, settings, spec, start)
        run = Run(comm, pulse, settings, shelf, spec, network)
        with leaving(run.trainer.averaging):
            outcome = run.go()
    if outcome is not None:
        outcome.wall = time.perf_counter() - begin
        (settings.out / "train.json").write_text(json.dumps(msgspec.to_builtins(outcome), indent=1))
    return outcome


def prepare_folder(settings: Settings) -> None:
    """Make the output folder; empty it of an earlier run if settings say so. Raises UsageError."""
    try:
        if settings.overwrite and (settings.out / "split.json").exists():
            shutil.rmtree(settings.out)
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {settings.out}: {error.strerror}") from error


def reading(settings: Settings) -> Options:
    """How scenes are read, as `predict` reads them."""
    return Options(
        tuple(settings.scenes), "", settings.out, bands=tuple(settings.bands), nodata=settings.nodata, nodata_rule=settings.nodata_rule,
        crs=settings.crs, resolution=settings.resolution, align=settings.align, aoi=settings.aoi, assets=tuple(settings.assets),
    )  # fmt: skip


def fill_shelf(comm: Comm, pulse: Pulse, settings: Settings, start: Model | None) -> Shelf:
    """Open scenes and labels, count classes, deal the samples out; all of it printed. Collective. Raises UsageError, SceneError.

    start: the model that training begins with."""
    entries = on_root(comm, lambda: list_scenes(settings.scenes, settings.assets))
    pairs, unpaired = on_root(comm, lambda: pair_labels(entries, settings.labels.files))
    scenes, refused = open_scenes(comm, [pair.entry for pair in pairs], reading(settings), None)
    say(comm, [f"left out: {phrase}" for phrase in unpaired] + [f"left out: {name} {reason}" for name, reason in refused])
    on_root(comm, lambda: _check_scenes(scenes, refused))
    labels = {pair.entry.name: pair.label for pair in pairs}
    cache = CellCache(settings.cache << 20)
    set_block_cache(32 << 20)
    truths = together(comm, lambda: [open_truth(labels[each.name], each, settings.labels, settings.names, cache) for each in scenes])
    grids = [Grid(scene.height, scene.width, settings.tile, 0) for scene in scenes]
    tiles = [(s, t) for s, grid in enumerate(grids) for t in range(grid.size)]

    def count(place: tuple[int, int]) -> np.ndarray:
        pulse.step()
        return count_tile(truths[place[0]], grids[place[0]].core_window(place[1]))

    found = share_out_together(comm, tiles, count)
    starts = np.cumsum([0, *(grid.size for grid in grids)])
    counts = [np.stack(found[a:b]) for a, b in pairwise(starts)]
    fixed = {pair.entry.name: pair.entry.columns["split"] for pair in pairs if pair.entry.columns.get("split")}
    on_root(comm, lambda: _check_fixed(fixed))
    shares = Shares(settings.block, settings.validation, settings.test, settings.split_seed, fixed)
    samples = on_root(comm, lambda: deal([scene.name for scene in scenes], grids, counts, shares))
    norm, values = normalise(comm, pulse, settings, scenes, start)
    shelf = Shelf(samples, scenes, values, truths, cache, norm, len(refused))
    on_root(comm, lambda: tell_split(settings, samples))
    return shelf


def _check_scenes(scenes: list[Scene], refused: list[tuple[str, str]]) -> None:
    if not scenes:
        raise SceneError(f"no scene is left to train on: {refused[0][0]} {refused[0][1]}")
    bands = {len(scene.bands) for scene in scenes}
    if len(bands) > 1:
        raise UsageError(f"scenes give {' and '.join(map(str, sorted(bands)))} bands: choose the same number of each with bands = [...]")


def _check_fixed(fixed: dict[str, str]) -> None:
    wrong = [f"{name}: {part!r}" for name, part in fixed.items() if part not in PARTS]
    if wrong:
        raise UsageError(f"column split: {', '.join(wrong[:3])}; wanted {', '.join(PARTS)}, or nothing")


def say(comm: Comm, lines: list[str]) -> None:
    """Print lines on rank 0."""
    if comm.rank == 0 and lines:
        print("\n".join(lines), flush=True)


def normalise(
    comm: Comm, pulse: Pulse, settings: Settings, scenes: list[Scene], start: Model | None
) -> tuple[Normalisation, list[Values]]:
    """How pixels become input, as model.toml says it and by scene: the start model's constants; else of all scenes together mean and
    deviation, or each scene's own percentiles. Collective."""
    norm = start.spec.normalisation if start else Normalisation(kind=settings.normalisation)
    if norm.kind == "fixed" and len(norm.mean) == len(scenes[0].bands):
        return norm, [values_of(norm, settings)] * len(scenes)
    found, failures = statistics(comm, pulse, scenes, settings.nodata_rule, norm.percentiles, settings.threads, settings.cache << 20)
    on_root(comm, lambda: _check_readable(failures))
    if norm.kind == "scene":
        low, high = (np.array([[band.percentiles[k] for band in bands] for bands in found]) for k in (0, 1))
        span = np.where(high > low, high - low, 1.0)
        return norm, [Values(tuple(1 / s), tuple(-a / s), settings.nodata_rule) for a, s in zip(low, span, strict=True)]
    count, mean, deviation = (
        np.array([[getattr(band, key) for band in bands] for bands in found], float) for key in ("count", "mean", "deviation")
    )
    total = np.maximum(count.sum(0), 1)
    middle = (count * mean).sum(0) / total
    spread = np.sqrt((count * (deviation**2 + (mean - middle) ** 2)).sum(0) / total)
    spread = np.where(spread > 0, spread, 1.0)
    constants = Normalisation(mean=[float(f"{v:.8g}") for v in middle], std=[float(f"{v:.8g}") for v in spread])
    return constants, [values_of(constants, settings)] * len(scenes)


def _check_readable(failures: list[str]) -> None:
    if failures:
        raise SceneError(f"{failures[0]}; training stops: leave this scene out, or repair it")


def values_of(norm: Normalisation, settings: Settings) -> Values:
    """Fixed normalisation as readers take it."""
    mean, std = np.array(norm.mean), np.array(norm.std)
    return Values(tuple((1 / std).tolist()), tuple((-mean / std).tolist()), settings.nodata_rule)


def tell_split(settings: Settings, samples: Samples) -> None:
    """Print the split and its class counts. Raises UsageError where train lacks a class."""
    for part in PARTS:
        counts = zip(settings.names, samples.class_counts(part), strict=True)
        shares = "  ".join(f"{name} {n} px ({100 * n / max(1, samples.class_counts(part).sum()):.1f} %)" for name, n in counts)
        blocks = sum(block.part == part for block in samples.blocks)
        print(f"{part}: {len(samples.of(part))} samples in {blocks} {'blocks' if samples.edge else 'scenes'}: {shares}", flush=True)
    absent = [name for name, n in zip(settings.names, samples.class_counts("train"), strict=True) if n == 0]
    if absent:
        raise UsageError(f"no train sample has a pixel of {', '.join(absent)}: another split_seed, smaller blocks, or fewer classes")


def describe_model(comm: Comm, settings: Settings, shelf: Shelf, start: Model | None) -> ModelSpec:
    """The model.toml of what is trained. Collective."""
    scene = shelf.scenes[0]
    metres = on_root(comm, lambda: pixel_width_m(scene.place, scene.height, scene.width))
    network, options = (start.spec.network, start.spec.options) if start else (settings.network, settings.options)
    return ModelSpec(
        network=network, options=options, bands=len(scene.bands), classes=list(settings.classes), normalisation=shelf.norm,
        resolution=round(metres, 6) if metres else 0.0,
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
    network = build(spec.network, spec.bands, len(spec.classes), spec.options)
    if settings.tile % network.stride:
        raise UsageError(f"tile is {settings.tile}, wanted a multiple of the stride of {spec.network}, {network.stride}")
    table = init_from(network, start) if start else []
    if settings.encoder_weights:
        table = load_encoder(network, Path(settings.encoder_weights))
    if settings.freeze:
        freeze(network, settings.freeze)
    return network, table


@dataclass
class Run:
    """A training run: what it works with, and its course."""

    comm: Comm
    pulse: Pulse
    settings: Settings
    shelf: Shelf
    spec: ModelSpec
    network: SegmentationNetwork

    def __post_init__(self) -> None:
        counts = self.shelf.samples.class_counts("train")
        ones = np.ones(len(counts), np.float32)
        weights = class_weights(counts) if self.settings.balance == "weights" else ones
        self.optimizer = make_optimizer(self.settings, self.network)
        self.trainer = Trainer(
            self.comm, self.settings, self.network, self.optimizer, averaging.choose(self.comm, self.settings),
            torch.from_numpy(weights), device.choose(),
        )  # fmt: skip
        self.batch = self.settings.batch_per_rank * self.comm.size or self.settings.batch
        self.per_epoch = -(-len(self.shelf.samples.of("train")) // self.batch)
        self.judge = partial(judge, self.comm, self.pulse, self.network, self.trainer.forward, self.shelf, self.settings)

    def go(self) -> Outcome | None:
        """All epochs from where an earlier run stopped, then the test."""
        found = resume(self.comm, self.settings.out, self.network, self.optimizer, self.identity())
        position = found or Position()
        on_root(self.comm, self._publish_split)
        if found:
            say(self.comm, [f"resumed at epoch {position.epoch + 1}, sample {position.at}"])
        feed = Feed(self.shelf, self.settings, self._shares(position))
        progress = Progress("steps", self.settings.epochs * self.per_epoch, self.comm.rank == 0)
        stopped = False
        with closing(iter(feed)) as batches:
            while position.epoch < self.settings.epochs and not stopped:
                stopped = not self._epoch(position, batches, progress)
        self.trainer.seconds.data = feed.seconds
        progress.close()
        return self._outcome(position, stopped, {} if stopped else self._final_tables())

    def _batches(self, epoch: int, at: int) -> list[np.ndarray]:
        """The batches of an epoch from a sample on, over all ranks."""
        order = epoch_order(self.shelf.samples, epoch, self.settings.seed, self.settings.balance == "sampling")
        return [order[k : k + self.batch] for k in range(at, len(order), self.batch)]

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
            rate = rate_at(self.settings, position.step, self.per_epoch, self.comm.size)
            loss = self.trainer.step(next(feed), position.step, rate)
            if math.isfinite(loss):
                position.loss += len(whole) * loss
            else:
                position.skipped += len(whole)
            position.step += 1
            position.at += len(whole)
            self.pulse.step()
            progress.show(position.step)
            asked = any(self.comm.allgather(self.pulse.stop.is_set()))
            every = self.settings.checkpoint_steps
            if asked or (every and position.step % every == 0):
                self._save(position)
            if asked:
                return False
        self._close_epoch(position, time.perf_counter() - begin)
        return True

    def _close_epoch(self, position: Position, seconds: float) -> None:
        """Judge, keep the model if it is the best so far, log, and write a checkpoint."""
        average_statistics(self.comm, self.network)
        rate = rate_at(self.settings, position.step - 1, self.per_epoch, self.comm.size)
        counted = position.at - position.skipped
        loss = position.loss / counted if counted else math.nan
        record: dict[str, Any] = {"epoch": position.epoch + 1, "loss": loss, "rate": rate, "seconds": seconds}
        if position.skipped:
            record["skipped"] = position.skipped
        table = self.judge("validation")
        score = score_of(table, self.settings.score) if table.any() else float(position.epoch)
        if table.any():
            record |= {measure: score_of(table, measure) for measure in metrics.MEASURES}
        if score > position.best:
            position.best = score
            on_root(self.comm, lambda: self._publish_model())
        position.history.append(record)
        position.epoch, position.at, position.skipped, position.loss = position.epoch + 1, 0, 0, 0.0
        self._save(position)
        say(self.comm, ["  ".join(f"{key}={value:.6g}" for key, value in record.items())])
        on_root(self.comm, lambda: write_history(self.settings.out, position.history))

    def _save(self, position: Position) -> None:
        save(self.comm, self.settings.out, self.network, self.optimizer, position, self.identity())

    def _publish_model(self) -> None:
        """The model folder that `predict` takes."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        publish(self.settings.out / "weights.safetensors", lambda path: save_file(state, path))
        publish(self.settings.out / "model.toml", lambda path: path.write_bytes(encode_toml(self.spec)))

    def _final_tables(self) -> dict[str, np.ndarray]:
        """The confusion matrices of the best model on validation and test samples."""
        best = on_root(self.comm, lambda: load_model(str(self.settings.out)).network.state_dict())
        self.network.load_state_dict(best)
        return {part: self.judge(part) for part in ("validation", "test")}

    def _outcome(self, position: Position, stopped: bool, tables: dict[str, np.ndarray]) -> Outcome | None:
        if self.comm.rank:
            return None
        spent = self.trainer.seconds
        seconds = {"compute": spent.compute, "averaging": spent.averaging, "data": spent.data}
        return Outcome(
            stopped, position.epoch, position.step, position.best, {part: table.tolist() for part, table in tables.items()}, seconds,
            self.trainer.averaging.name, self.comm.size, self.settings.threads, self.shelf.refused, 0.0,
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
    lines += [f"{name}_share={100 * seconds / busy:.2f} %" for name, seconds in outcome.seconds.items()]
    return [*lines, f"wall={outcome.wall:.1f} s"]


def exit_code(comm: Comm, outcome: Any) -> int:
    """75 if the run was stopped before its end, 3 if scenes were left out that cannot be opened, else 0; on every rank."""
    return on_root(comm, lambda: 75 if outcome.stopped else 3 if outcome.refused else 0)

