"""The verdict on maps as a record for files and as text: pooled over scenes, mean per scene, each with its interval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcseg.metrics import MEASURES, OVERALL, REPLICATES, figures, mean, mean_interval, pooled_interval

_SEED = 0
_TITLES = ("IoU", "F1", "precision", "recall", "accuracy")
_LISTED = 20
_WIDEST = 10


def judge(classes: Sequence[str], tables: np.ndarray, units: np.ndarray) -> dict[str, Any]:
    """Figures of some scenes. tables: int64 (scenes, n, n). units: int64 (u, n, n), what the pooled interval resamples.

    pooled: of the sum of all tables. mean_per_scene: of the scenes' own figures, its interval over scenes. Unknown figures are None.
    """
    scenes, total = figures(tables), tables.sum(0)
    return {
        "confusion": total.tolist(),
        "units": len(units),
        "replicates": REPLICATES,
        "seed": _SEED,
        "pooled": describe(classes, figures(total), pooled_interval(units, _SEED)),
        "mean_per_scene": describe(classes, mean(scenes), mean_interval(scenes, _SEED)),
    }


def describe(classes: Sequence[str], values: np.ndarray, interval: np.ndarray | None = None) -> dict[str, Any]:
    """Figures, float64 (5, n + 1), and the ends of their intervals, float64 (2, 5, n + 1), by name; NaN becomes None."""

    def cell(names: Sequence[str], column: int) -> dict[str, Any]:
        found: dict[str, Any] = {name: _plain(values[row, column]) for row, name in enumerate(names)}
        if interval is not None:
            found |= {f"{name}_interval": [_plain(end) for end in interval[:, row, column]] for row, name in enumerate(names)}
        return found

    return {"classes": [{"name": name} | cell(MEASURES, k) for k, name in enumerate(classes)], "overall": cell(OVERALL, len(classes))}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def table_lines(report: dict[str, Any]) -> list[str]:
    """The report of `hpcseg evaluate` as tables for people."""
    count = len(report["scenes"])
    unit = f"{report['units']} {report['resampled']}" + (f" of {report['block_px']} px" if report["block_px"] else "")
    lines = _confusion(report) if len(report["classes"]) <= _WIDEST else []
    lines += ["", *_table(f"pooled over all pixels{_doubt(report['units'], unit)}", report["pooled"])]
    lines += ["", *_table(f"mean per scene{_doubt(count, f'{count} scenes')}", report["mean_per_scene"]), ""]
    width = max(len(scene["name"]) for scene in report["scenes"])
    for scene in report["scenes"][:_LISTED]:
        shares = "  ".join(f"{name} {_number(scene['figures']['overall'][name])}" for name in ("mean_iou", "mean_f1", "accuracy"))
        lines.append(f"{scene['name']:<{width}}  {shares}  judged {scene['judged_px']:,} px")
    if count > _LISTED:
        lines.append(f"... and {count - _LISTED} more scenes in the JSON file")
    return lines


def _doubt(units: int, words: str) -> str:
    return f", 95 % intervals over {words}" if units > 1 else ""


def _confusion(report: dict[str, Any]) -> list[str]:
    """Pixels by truth (rows) and map (columns)."""
    unmapped = np.sum([scene["unmapped"] for scene in report["scenes"]], 0)
    counts = np.column_stack([report["confusion"], unmapped])
    rows = [[name, *map("{:,}".format, row)] for name, row in zip(report["classes"], counts, strict=True)]
    table = [["", *report["classes"], "not mapped"], *rows]
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    body = ["  ".join([f"{row[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))]) for row in table]
    return ["pixels: rows are the truth, columns the map", *body]


def _table(title: str, part: dict[str, Any]) -> list[str]:
    rows = [(each["name"], [_cell(each, name) for name in MEASURES]) for each in part["classes"]]
    rows.append(("all classes", [_cell(part["overall"], name) for name in OVERALL]))
    first = max(len(name) for name, _ in rows)
    widths = [max(len(title), *(len(cells[k]) for _, cells in rows)) for k, title in enumerate(_TITLES)]
    body = [(" " * first, list(_TITLES)), *((f"{name:<{first}}", cells) for name, cells in rows)]
    return [title, *("  ".join([name, *(f"{cell:<{w}}" for cell, w in zip(cells, widths, strict=True))]).rstrip() for name, cells in body)]


def _cell(record: dict[str, Any], name: str) -> str:
    low, high = record[f"{name}_interval"]
    return _number(record[name]) + (f" [{_number(low)}, {_number(high)}]" if low is not None else "")


def _number(value: float | None) -> str:
    return "null" if value is None else f"{value:.3f}"


def value_lines(report: dict[str, Any]) -> list[str]:
    """The report as stable `key=value` lines; classes by their names in lower case, all but letters and digits as _."""
    pooled, average = report["pooled"], report["mean_per_scene"]
    keys = _keys([each["name"] for each in pooled["classes"]])
    values = {f"{m}_{key}": each[m] for m in MEASURES for key, each in zip(keys, pooled["classes"], strict=True)}
    values |= pooled["overall"] | {f"{name}_per_scene": average["overall"][name] for name in OVERALL}
    figures = {key: value for key, value in values.items() if not key.endswith("_interval")}
    return [f"{key}={'null' if value is None else f'{value:.6f}'}" for key, value in figures.items()] + [
        f"scenes={len(report['scenes'])}",
        f"judged_px={sum(scene['judged_px'] for scene in report['scenes'])}",
        f"unmapped_px={sum(map(sum, (scene['unmapped'] for scene in report['scenes'])))}",
        f"refused_scenes={len(report['refused'])}",
        f"failed_tiles={len(report['failed_tiles'])}",
    ]


def _keys(names: Sequence[str]) -> list[str]:
    """A key for each class; its number is added where two would be the same."""
    keys = [re.sub(r"\W+", "_", name.lower()).strip("_") for name in names]
    return [key if keys.count(key) == 1 and key else f"{key}_{k}".strip("_") for k, key in enumerate(keys)]
