"""What the page of a training shows: curves, confusion matrices, where the time went, and how to cite it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcseg import __version__
from hpcseg.config import ModelSpec, decode_toml
from hpcseg.errors import UsageError
from hpcseg.products.charts import Axis, Chart, Series, draw_lines, draw_shares
from hpcseg.products.html import figure, files_of, percent, seconds, whole
from hpcseg.products.page_methods import Methods, averaging_sentence, network_references, own_citation

_WHAT = {
    "model.toml": "what the model is", "weights.safetensors": "its weights", "history.csv": "loss and scores by epoch",
    "curves.png": "the same, drawn", "train.json": "how the run went", "split.json": "which blocks were held out",
    "checkpoint.pt": "to resume from",
}  # fmt: skip
_SCORES = {"accuracy": "accuracy", "f1": "F1", "iou": "IoU"}


def training_values(folder: Path) -> dict[str, Any]:
    """All that the template training.html shows. Raises UsageError for files that are not those of a training."""
    record, history = _read_json(folder / "train.json"), _read_history(folder / "history.csv")
    spec = decode_toml(folder / "model.toml", ModelSpec) if (folder / "model.toml").exists() else None
    return {
        "title": f"Training of {spec.network if spec else 'a network'}", "states": _states(record), "cards": _cards(record, history),
        "charts": _charts(record, history), "tables": [_table(part, rows, spec) for part, rows in record.get("tables", {}).items()],
        "points": record.get("points", {}), "provenance": _provenance(record, spec), "methods": _methods(record, history, spec),
        "missing": "Say which scenes and labels the model was trained on, and cite their provider.",
        "files": files_of(folder, _WHAT),
    }  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}; remove it, or run the same command again") from error


def _read_history(path: Path) -> list[dict[str, float]]:
    """A record per epoch, empty cells left out."""
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: {error}; wanted the history of hpcseg train") from error


def _states(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not record:
        return [("warn", "no train.json: the training goes on, or was killed; run the same command again to resume")]
    if record["stopped"]:
        return [("warn", "stopped before its end: run the same command again to resume")]
    refused = record.get("refused", 0)
    return [("bad", f"{refused:,} scenes could not be opened")] if refused else [("good", "complete")]


def _cards(record: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> list[tuple[str, str]]:
    """The figures that come first: (figure, what it is)."""
    cards = [(whole(len(history)), "epochs")]
    for score, name in _SCORES.items():
        found = [each[score] for each in history if score in each]
        if found:
            cards.append((percent(max(found)), f"best {name} on validation samples"))
    if record:
        cards += [(seconds(record["wall"]), "from start to end"), (whole(record["ranks"]), "ranks" if record["ranks"] > 1 else "rank")]
    return cards


def _charts(record: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> list[Chart]:
    """Loss, scores, and what the steps' time went into."""
    charts = []
    epochs = [each["epoch"] for each in history if "epoch" in each]
    if epochs:
        whole_epochs = Axis("epoch", ticks=epochs)
        loss = Series("loss", epochs, [each["loss"] for each in history])
        charts.append(draw_lines("Training loss", whole_epochs, Axis("loss", least=0), [loss]))
        told = {score: name for score, name in _SCORES.items() if all(score in each for each in history)}
        scores = [Series(name, epochs, [each[score] for each in history]) for score, name in told.items()]
        if scores:
            charts.append(draw_lines("Scores on validation samples", whole_epochs, Axis("score", least=0, most=1.02), scores))
    spent = record.get("seconds", {})
    if sum(spent.values()) > 0:
        parts = {key: [100 * value / sum(spent.values())] for key, value in spent.items()}
        charts.append(draw_shares("Where the time of steps went", "percent of the steps, on the slowest rank", ["steps"], parts))
    return charts


def _table(part: str, rows: Sequence[Sequence[int]], spec: ModelSpec | None) -> dict[str, Any]:
    """A confusion matrix, its rows the truth, with precision, recall, F1 and IoU of each class (nan where there is none)."""
    n = len(rows)
    names = [each.name for each in spec.classes] if spec and len(spec.classes) == n else [f"class {k}" for k in range(n)]
    right = [rows[k][k] for k in range(n)]
    truth, found = [sum(row) for row in rows], [sum(row[k] for row in rows) for k in range(n)]
    scores = [
        {"precision": _ratio(right[k], found[k]), "recall": _ratio(right[k], truth[k]),
         "F1": _ratio(2 * right[k], truth[k] + found[k]), "IoU": _ratio(right[k], truth[k] + found[k] - right[k])}
        for k in range(n)
    ]  # fmt: skip
    return {"part": part, "names": names, "rows": rows, "scores": scores, "accuracy": _ratio(sum(right), sum(truth)), "pixels": sum(truth)}


def _ratio(part: float, total: float) -> float:
    return part / total if total else float("nan")


def _provenance(record: Mapping[str, Any], spec: ModelSpec | None) -> list[tuple[str, str]]:
    told = record.get("provenance", {})
    found = {
        "command": told.get("command", ""),
        "network": spec.network if spec else "",
        "classes": ", ".join(each.name for each in spec.classes) if spec else "",
        "bands": f"{spec.bands}" if spec else "",
        "ground resolution": f"{figure(spec.resolution)} m" if spec and spec.resolution else "",
        "averaging": record.get("averaging", ""),
        "made by": told.get("user", ""),
        "on": f"{record['ranks']:,} rank{'s' if record['ranks'] != 1 else ''}, {told.get('host', '')}" if record else "",
        "ended": told.get("finished", ""),
        "version": told.get("hpcseg", ""),
    }
    return [(key, value) for key, value in found.items() if value]


def _methods(record: Mapping[str, Any], history: Sequence[Mapping[str, float]], spec: ModelSpec | None) -> Methods:
    methods = Methods()
    version = record.get("provenance", {}).get("hpcseg") or __version__
    own = methods.cite([own_citation(version)])
    network = f"A {spec.network} network{methods.cite(network_references(spec.network))}" if spec else "A network"
    methods.say(f"{network} was trained with hpcseg {version}{own} for {len(history):,} epochs.")
    if spec:
        methods.say(f"It takes {spec.bands} bands and tells {', '.join(each.name for each in spec.classes)}.")
    if record:
        averaging_sentence(methods, record["ranks"], record.get("averaging", ""))
    kept = _kept(record, history)
    if kept:
        methods.say(f"The epoch with the best score on held-out blocks was kept ({kept}).")
    return methods


def _kept(record: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    """The score that chose the epoch which was kept, and that epoch: the first that reached what the record calls best; "" if none did."""
    best = record.get("best")
    for score, name in _SCORES.items():
        judged = [each for each in history if "epoch" in each and score in each]
        highest = max(judged, key=lambda each: each[score], default=None)
        if highest and highest[score] == best:
            return f"{name} {best:.3f} in epoch {highest['epoch']:.0f}"
    return ""
