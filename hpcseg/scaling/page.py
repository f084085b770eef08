"""`hpcseg scaling report`: a study as one page that needs nothing beside it, and its charts as PNGs for slides."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from hpcseg.errors import HpcsegError, UsageError
from hpcseg.products.charts import Chart, Series, draw_lanes
from hpcseg.products.html import figure, percent, seconds, whole, write_page
from hpcseg.products.page import lanes_of
from hpcseg.scaling import resflow
from hpcseg.scaling.figures import Curve, draw_curves, draw_sweep, main_curve, make_curves
from hpcseg.scaling.model import spread_of
from hpcseg.scaling.records import MODES, RUNS, STAGES, TABLE, Row, counted, read_rows
from hpcseg.scaling.told import PARTS, curves
from hpcseg.scaling.validate import Check, validate

PAGE, FIGURES = "report.html", "figures"
_CALIBRATION_TILE = 512
_AHEAD = (2, 4, 8, 16)


class Panel(NamedTuple):
    """One stage of one mode: its curves and charts."""

    mode: str
    stage: str
    curves: list[Curve]
    charts: dict[str, Chart]

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{self.stage}, {'the same work on more ranks' if self.mode == 'strong' else 'as much more work as ranks'}"

    @property
    def points(self) -> int:
        """Rows of its table."""
        return sum(len(curve.points) for curve in self.curves)


def write_study_page(folder: Path) -> list[Path]:
    """Write report.html and figures/*.png into the folder of a study; returns their paths, the page first. Raises UsageError."""
    rows = read_rows(folder)
    if not counted(rows):
        raise UsageError(f"{folder / TABLE}: no run that counts yet, warm-ups alone; run the study to its end first")
    panels = make_panels(rows)
    values = study_values(rows, panels, _read_runs(folder))
    pictures = [
        (f"{panel.mode}-{panel.stage}-{name}", chart) for panel in panels for name, chart in panel.charts.items()
    ] + [(f"timeline-{k}", chart) for k, (_, chart) in enumerate(values["timelines"], start=1)]  # fmt: skip
    (folder / FIGURES).mkdir(exist_ok=True)
    paths = [folder / FIGURES / f"{name}.png" for name, _ in pictures]
    for path, (_, chart) in zip(paths, pictures, strict=True):
        path.write_bytes(chart.png())
    write_page(folder / PAGE, "study.html", **values)
    return [folder / PAGE, *paths]


def make_panels(rows: Sequence[Row]) -> list[Panel]:
    """Those that have runs, strong before weak."""
    found, panels = curves(rows), []
    for mode in MODES:
        for stage in STAGES:
            chosen = make_curves({case: runs for case, runs in found.items() if (case.mode, case.stage) == (mode, stage)})
            if not chosen:
                continue
            charts = draw_curves(mode, stage, chosen, _published(mode, stage))
            if stage == "predict" and mode == "strong":
                charts |= draw_sweep(chosen, _figure_8())
            panels.append(Panel(mode, stage, chosen, charts))
    return panels


def _published(mode: str, stage: str) -> list[Series]:
    """Speed-ups of others at such work."""
    if (mode, stage) == ("strong", "predict"):
        speeds = resflow.VI.speed_ups()
        return [Series("RESFlow, Table VI", [float(p) for p in speeds], [row[-1] for row in speeds.values()], style="published")]
    if (mode, stage) == ("strong", "train"):
        return [Series("sea-ice paper, Horovod", [1.0, 8.0], [1.0, resflow.ICE_TRAINING], style="published")]
    return []


def _figure_8() -> Series:
    told = [(float(each.edge), each.gb_per_s) for each in resflow.FIGURE_8]
    return Series("RESFlow, Fig. 8, GB/s", [edge for edge, _ in told], [rate for _, rate in told], style="published")


def _read_runs(folder: Path) -> list[tuple[str, Any]]:
    """Of the run.json files that the study kept, that with most ranks of each mode and stage, with its name for people."""
    found = []
    for mode, stage in product(MODES, STAGES):
        paths = {int(path.stem.rpartition("-")[2]): path for path in (folder / RUNS).glob(f"{mode}-{stage}-*.json")}
        if paths:
            found.append((f"{mode} {stage} on {_ranks(max(paths))}", json.loads(paths[max(paths)].read_text())))
    return found


def study_values(rows: Sequence[Row], panels: Sequence[Panel], runs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """All that the template study.html shows."""
    kept = counted(rows)
    lanes = [(name, lanes_of(record["ranks"]), record.get("provenance", {}).get("command", "")) for name, record in runs]
    return {
        "title": f"How hpcseg scales on {_machine(kept)}", "states": _states(kept), "cards": _cards(panels), "panels": panels,
        "timelines": [(told, draw_lanes(f"What each rank did: {name}", each)) for name, each, told in lanes if each],
        "fits": [fit_values(curve) for panel in panels for curve in panel.curves if curve.fit is not None],
        "workloads": workload_table(kept), "deployed": _deployed(panels), "parts": _parts(panels), "training": _training(panels),
        "checks": _checks(kept), "tile": _CALIBRATION_TILE, "resflow": resflow, "extrapolated": resflow.extrapolate(),
        "provenance": _provenance(rows),
    }  # fmt: skip


def _machine(rows: Sequence[Row]) -> str:
    first = rows[-1]
    processor = first.gpu or first.cpu or first.device or "this machine"
    return f"{first.nodes} nodes of {processor}" if first.nodes > 1 else f"{processor}, {first.cores} cores" if first.cores else processor


def _states(rows: Sequence[Row]) -> list[tuple[str, str]]:
    repeats = sorted({len(runs) for found in curves(rows).values() for runs in found.values()})
    words = f"{len(rows):,} runs that count, {repeats[0]} to {repeats[-1]} of each point" if len(repeats) > 1 else \
        f"{len(rows):,} runs that count, {repeats[0]} of each point"  # fmt: skip
    return [("good" if repeats[0] >= 3 else "warn", words + ("" if repeats[0] >= 3 else ": fewer than 3 say little of the spread"))]


def _cards(panels: Sequence[Panel]) -> list[tuple[str, str]]:
    """The best of each stage: (figure, what it is)."""
    cards = []
    for panel in panels:
        curve = main_curve(panel.curves)
        last, name = curve.points[-1], f"{panel.mode} {panel.stage}"
        if panel.mode == "strong":
            cards.append((f"{figure(last.mpx.median)} Mpx/s", f"{panel.stage} on {_ranks(last.ranks)}"))
            if last.km2.median > 0:
                cards.append((f"{figure(last.km2.median)} km²/s", f"{panel.stage} on {_ranks(last.ranks)}"))
        if len(curve.points) > 1:
            cards.append((percent(last.efficiency), f"efficiency of {name} on {_ranks(last.ranks)}"))
    return cards


def _ranks(count: int) -> str:
    return f"{count:,} rank{'s' if count != 1 else ''}"


def fit_values(curve: Curve) -> dict[str, Any]:
    """A fitted curve as a row of the table of predictions: seconds on 2 to 16 times as many ranks as ran."""
    assert curve.fit is not None
    most = curve.points[-1].ranks
    return {
        "what": f"{curve.case.mode} {curve.case.stage}, {curve.name}", "ranks": ", ".join(f"{point.ranks}" for point in curve.points),
        "fit": curve.fit, "largest": max(abs(r) / p.judged.median for r, p in zip(curve.fit.residuals, curve.points, strict=True)),
        "ahead": [(k * most, curve.fit.seconds(k * most)) for k in _AHEAD],
    }  # fmt: skip


class Workloads(NamedTuple):
    """Seconds by ranks and workload, as the paper's Tables III, V and VI. columns: scenes, GB and km2 of each workload. cells: spreads,
    None where nothing ran."""

    columns: list[tuple[int, float, float]]
    cells: dict[int, list[Any]]


def workload_table(rows: Sequence[Row]) -> Workloads | None:
    """Of predict, both modes together, in its most frequent setting; None without any."""
    rows = [row for row in rows if row.stage == "predict"]
    if not rows:
        return None
    settings = [(row.tile, row.precision, row.partition, row.threads, row.size) for row in rows]
    setting = max(set(settings), key=lambda each: (settings.count(each), each))
    chosen = [row for row, each in zip(rows, settings, strict=True) if each == setting]
    columns = sorted({(row.scenes, round(row.input_mb / 1e3, 4), round(row.km2, 1)) for row in chosen})
    cells = {
        ranks: [_cell(chosen, ranks, column) for column in columns] for ranks in sorted({row.ranks for row in chosen})
    }
    return Workloads(columns, cells)


def _cell(rows: Sequence[Row], ranks: int, column: tuple[int, float, float]) -> Any:
    found = [row.work for row in rows if row.ranks == ranks and (row.scenes, round(row.input_mb / 1e3, 4), round(row.km2, 1)) == column]
    return spread_of(found) if found else None


def _deployed(panels: Sequence[Panel]) -> dict[str, float] | None:
    """What the fastest predict does in a second, as the paper's Table VII: medians."""
    points = [point for panel in panels if panel.stage == "predict" for curve in panel.curves for point in curve.points]
    if not points:
        return None
    best = max(points, key=lambda point: point.mpx.median)
    return {
        "ranks": best.ranks, "tile": best.runs[0].tile,
        "km2": best.km2.median, "images": median(row.tiles / row.work for row in best.runs),
        "gb": median(row.input_mb / 1e3 / row.work for row in best.runs),
    }  # fmt: skip


def _parts(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Load, map and reduce of labelling by ranks, with their speed-ups over the fewest ranks; strong alone."""
    found = []
    for curve in (main_curve(panel.curves) for panel in panels if (panel.mode, panel.stage) == ("strong", "label")):
        spent = [{name: median(value(row) for row in point.runs) for name, value in PARTS.items()} for point in curve.points]
        for point, each in zip(curve.points, spent, strict=True):
            speeds = {name: spent[0][name] / value if value > 0 else math.nan for name, value in each.items()}
            both = (spent[0]["map"] + spent[0]["reduce"]) / max(each["map"] + each["reduce"], 1e-9)
            found.append({"ranks": point.ranks, "spent": each, "speeds": speeds, "map_reduce": both})
    return found


def _training(panels: Sequence[Panel]) -> list[tuple[int, float, float]]:
    """Ranks, speed-up and efficiency of training the same epochs."""
    chosen = [main_curve(panel.curves) for panel in panels if (panel.mode, panel.stage) == ("strong", "train")]
    return [(point.ranks, point.speed.median, point.efficiency) for curve in chosen for point in curve.points]


def _checks(rows: Sequence[Row]) -> list[Check]:
    """Simulated against measured, of all kinds of predict that have runs on 1 rank with the tile of calibration."""
    try:
        return validate(rows, _CALIBRATION_TILE)
    except HpcsegError:
        return []


def _provenance(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Machine, versions and how ranks were started and bound; each once."""
    kept = counted(rows)
    found = {
        "machine": _different(f"{row.cpu}, {row.cores} cores, {figure(row.memory_gb)} GB" for row in kept if row.cpu),
        "GPU": _different(row.gpu for row in kept),
        "hosts": _different(row.host for row in kept),
        "nodes": _different(f"{row.nodes}" for row in kept),
        "binding": _different(f"{_ranks(row.ranks)}: {row.binding}" for row in kept if row.binding),
        "threads": _different(f"{row.threads} of each rank" for row in kept),
        "launcher": _different((row.launcher for row in kept), 2),
        "versions": _different(row.versions for row in kept),
        "revision": _different(row.revision for row in kept),
        "measured": " to ".join(sorted({min(row.at for row in kept), max(row.at for row in kept)})),
        "took": seconds(sum(row.wall for row in rows)),
        "runs": f"{whole(len(kept))} that count, {whole(len(rows) - len(kept))} warm-ups apart",
    }
    return [(key, value) for key, value in found.items() if value]


def _different(values: Any, most: int = 4) -> str:
    """Each different value once, in order; where there are many, the first of them."""
    found = [each for each in dict.fromkeys(values) if each]
    return "; ".join(found[:most]) + (f"; and {len(found) - most:,} more" if len(found) > most else "")
