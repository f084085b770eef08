"""The tables of sea_ice.sh: python run/sea_ice.py teachers|students OUT."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

TEACHERS = ("none", "published", "default")
NARROW = 40
LEAST = 0.97


class Judged(NamedTuple):
    """A scene of a report. table: int64 (3, 3), pixels by truth and map."""

    seed: int
    sky: str
    lead: int
    table: np.ndarray


def read(path: Path) -> list[Judged]:
    """The scenes of a report of hpcseg evaluate whose names are seed_sky_lead."""
    scenes = json.loads(path.read_text())["scenes"]
    parts = [(*each["name"].split("_"), each["confusion"]) for each in scenes]
    return [Judged(int(seed), sky, int(lead), np.array(table)) for seed, sky, lead, table in parts]


def accuracy(scenes: Iterable[Judged]) -> float:
    """Of the pixels of all scenes together; NaN where there are none."""
    table = sum((each.table for each in scenes), np.zeros((3, 3), np.int64))
    return float(np.trace(table) / table.sum()) if table.sum() else float("nan")


def recalls(scenes: Iterable[Judged]) -> list[float]:
    """Of open water, thin and thick ice."""
    table = sum((each.table for each in scenes), np.zeros((3, 3), np.int64))
    return [float(table[k, k] / table[k].sum()) if table[k].sum() else float("nan") for k in range(3)]


def teachers(out: Path) -> list[str]:
    """Accuracy and recall of the teachers by sky, accuracy by width of leads, and whether they do what is demanded of them."""
    found = {name: read(out / "unseen" / name / "evaluation.json") for name in TEACHERS}
    leads = sorted({each.lead for each in found["none"]})
    wide = "".join(f"{f'{lead} px' if lead else 'floes':>9}" for lead in leads)
    lines = ["teachers against the truth: accuracy, recalls, and accuracy by width of the leads", ""]
    lines += [f"{'filter':<10} {'sky':<7} {'accuracy':>8} {'water':>7} {'thin':>7} {'thick':>7} {wide}"]
    for sky in dict.fromkeys(each.sky for each in found["none"]):
        for name, scenes in found.items():
            here = [each for each in scenes if each.sky == sky]
            numbers = [accuracy(here), *recalls(here), *(accuracy(each for each in here if each.lead == lead) for lead in leads)]
            lines.append(f"{name:<10} {sky:<7}" + "".join(f"{v:9.4f}" if k > 3 else f"{v:8.4f}" for k, v in enumerate(numbers)))
    return [*lines, "", *demands(found)]


def demands(found: dict[str, list[Judged]]) -> list[str]:
    """key=value lines of what is demanded of the filters, and the scenes that pull down what falls short, the worst first."""
    published, default, none = found["published"], found["default"], found["none"]
    narrow = [(each, accuracy([each])) for each in published if 0 < each.lead < NARROW]
    gains = [(each, accuracy([each]) - accuracy([plain])) for each, plain in zip(default, none, strict=True)]
    lines = _demand("published_narrow", LEAST, narrow)
    for sky in dict.fromkeys(each.sky for each in none):
        lines += _demand(f"published_narrow_{sky}", LEAST, [pair for pair in narrow if pair[0].sky == sky])
        for seed in dict.fromkeys(each.seed for each in none):
            here = [pair for pair in gains if pair[0][:2] == (seed, sky)]
            lines += _demand(f"default_over_none_{sky}_{seed}", -0.01 if sky == "clear" else 0.02, here)
    return lines


def _demand(key: str, wanted: float, scenes: list[tuple[Judged, float]]) -> list[str]:
    """A line for the mean over scenes, which all have the same number of pixels; besides a line for each that lies below `wanted`, if the
    mean does."""
    if not scenes:
        return []
    mean = sum(value for _, value in scenes) / len(scenes)
    short = sorted(((v, e) for e, v in scenes if v < wanted), key=lambda pair: pair[0]) if mean < wanted else []
    return [f"{key}={mean:.4f} wanted={wanted}"] + [f"{key}_short={e.seed}_{e.sky}_{e.lead} {value:.4f}" for value, e in short]


STUDENTS = {"none_original": "plain labels", "default_original": "filtered labels", "default_filtered": "filtered labels and pictures"}


def students(out: Path) -> list[str]:
    """Accuracy of the students on unseen pictures, against the truth and against their teacher, by sky, beside what the paper reports."""
    lines = ["students on unseen scenes: accuracy against the truth (clear, cloudy, all) and against their teacher (all)", ""]
    lines += [f"{'learned from':<30} {'sees':<10} {'clear':>8} {'cloudy':>8} {'all':>8} {'teacher':>8}"]
    for folder, words in STUDENTS.items():
        for kind in ("original", "filtered"):
            truth, teacher = (read(out / "students" / folder / f"{kind}_{name}.json") for name in ("truth", "teacher"))
            skies = [accuracy(each for each in truth if each.sky == sky) for sky in ("clear", "cloudy")]
            numbers = [*skies, accuracy(truth), accuracy(teacher)]
            lines.append(f"{words:<30} {kind:<10}" + "".join(f" {v:8.4f}" for v in numbers))
    paper = (("original", 0.9018), ("filtered", 0.9897))
    return lines + [f"{'arXiv 2403.13135':<30} {kind:<10} {'':>8} {'':>8} {'':>8} {value:8.4f}" for kind, value in paper]


def main(table: str, out: str) -> None:
    """Print a table."""
    made: dict[str, Callable[[Path], list[str]]] = {"teachers": teachers, "students": students}
    print("\n".join(made[table](Path(out))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
