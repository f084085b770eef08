"""The tables of water.sh: python run/water.py unseen|real OUT."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

# What is judged against the truth of the unseen scenes: the words for it, its folder, its report.
UNSEEN = {
    "teacher, amplitude": "teacher_amplitude/evaluation.json",
    "teacher, texture": "teacher_sfs/evaluation.json",
    "student": "maps/evaluation.json",
}
# The least IoU of the amplitude route on a real scene, and how far its student may fall behind it there.
LEAST, BEHIND = 0.60, 0.02


def tables(path: Path) -> dict[str, np.ndarray]:
    """By scene what a report of hpcseg evaluate counted: int64 (n, n), pixels by truth and map."""
    return {each["name"]: np.array(each["confusion"]) for each in json.loads(path.read_text())["scenes"]}


def iou(table: np.ndarray) -> float:
    """Of water; NaN where there is none."""
    union = table.sum() - table[0, 0]
    return float(table[1, 1] / union) if union else float("nan")


def by_share(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Counts pooled over the scenes of each share of water, and over all; scenes are named seed_share."""
    pooled: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, 2), np.int64))
    for name, table in found.items():
        pooled[name.split("_")[1]] += table
    return dict(sorted(pooled.items())) | {"all": sum(found.values(), np.zeros((2, 2), np.int64))}


def unseen(out: Path) -> list[str]:
    """IoU of water on the unseen scenes, by their share of it, and whether the student is worth its teacher."""
    found = {words: tables(out / path) for words, path in UNSEEN.items()}
    student = found["student"]
    shares = list(by_share(student))
    lines = ["IoU of water on unseen scenes, by share of water", "", f"{'':<20}" + "".join(f"{share:>8}" for share in shares) + "  scenes"]
    for words, scenes in found.items():
        pooled = {share: iou(table) for share, table in by_share(scenes).items()}
        row = "".join(f"{pooled.get(share, float('nan')):8.4f}" for share in shares)
        lines.append(f"{words:<20}{row}  {len(scenes)}")
    agreement = iou(by_share(tables(out / "maps" / "against_teacher.json"))["all"])
    own, teacher = (iou(by_share(scenes)["all"]) for scenes in (student, found["teacher, amplitude"]))
    lines += ["", f"student_against_teacher={agreement:.4f}", f"teacher={teacher:.4f}", f"student={own:.4f} wanted={teacher:.4f}"]
    behind = {name: (iou(table), iou(found["teacher, amplitude"][name])) for name, table in student.items()}
    return lines + [f"student_behind={name} {a:.4f} teacher {b:.4f}" for name, (a, b) in behind.items() if a < b]


def real(out: Path) -> list[str]:
    """IoU on the real scene: of the teacher, its student, and a grid of textures."""
    (teacher,), (student,) = (tables(out / "real" / name / "evaluation.json").values() for name in ("amplitude", "maps"))
    least = iou(teacher) - BEHIND
    lines = [f"real_teacher={iou(teacher):.4f} wanted={LEAST}", f"real_student={iou(student):.4f} wanted={least:.4f}"]
    # Of two dates: dry, permanent water, flood.
    both = next(iter(tables(out / "real" / "flood" / "evaluation.json").values()))
    lines += [f"real_two_dates={both[2, 2] / (both[2].sum() + both[:, 2].sum() - both[2, 2]):.4f}", ""]
    lines += ["IoU of textures on the real scene, for the record: nothing is chosen by it", ""]
    grid = [(*path.parent.name.split("_"), tables(path)) for path in sorted((out / "real" / "grid").glob("*/evaluation.json"))]
    for feature, spectral, spatial, found in sorted(grid, key=lambda row: (row[0], int(row[2]), int(row[1]))):
        lines.append(f"{feature:<8} spectral {spectral:>3}  spatial {spatial:>3}  {iou(next(iter(found.values()))):.4f}")
    return lines


def main(table: str, out: str) -> None:
    """Print a table."""
    print("\n".join({"unseen": unseen, "real": real}[table](Path(out))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
