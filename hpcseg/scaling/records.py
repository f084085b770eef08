"""The rows of a scaling study: one run each, in a CSV file that grows row by row, and as lines that Extra-P reads."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import msgspec

from hpcseg.errors import UsageError

Mode = Literal["strong", "weak"]
Stage = Literal["predict", "label", "train", "count"]
MODES, STAGES = get_args(Mode), get_args(Stage)
TABLE, EXTRAP, RUNS = "study.csv", "extrap.jsonl", "runs"
# What Extra-P gets of each run.
METRICS = ("wall", "seconds", "work", "startup", "read", "forward", "write", "wait")


class Case(msgspec.Struct, frozen=True):
    """What is run: a point of a study. Two rows of equal case and repeat are the same run.

    partition: how tiles follow each other in the list that is cut into spans: "hilbert", or "rows" where a file's blocks span its width;
    "samples" for training. tile: edge of the core in pixels, or of a training sample. scenes, size: how many, and their edge in pixels
    (0 = given ones, of any size). threads: of a rank. model: or teacher. extra: further words of the command.
    """

    mode: Mode
    stage: Stage
    ranks: int
    threads: int
    tile: int
    precision: str
    partition: str
    scenes: int
    size: int
    model: str
    extra: str = ""


class Row(Case, frozen=True, kw_only=True):
    """A run. Seconds unless said otherwise; of stages, summed over ranks and threads. Stages overlap: reading goes on beside the rest.

    repeat: from 1; 0 = the warm-up, which counts for nothing.
    wall: from the launcher's start to its end. seconds: of the program's own clock, what opens and merges included. work: the tile loops
    (of all passes), or the epochs, of the slowest rank. startup: wall - seconds; of count the search in its maps too, of train the reading.
    read: decoding and preparing windows = decode + preprocess. forward: network, teacher's kernels, or training's computing.
    first: of forward, each engine thread's first window.
    wait: engine threads without input; in training, for data. write: labels to files. averaging: of gradients.
    reduce: seconds - work: what ranks do together before, between and after their tile loops.
    useful: of each rank, outside of what ranks do together: its tile loops; in training, its computing. mapped_mpx: its megapixels.
    mpx, km2: valid pixels mapped, in all; in training, pixels of samples. computed_mpx: of all windows, halos included.
    input_mb: of the scenes' files.
    nodes: of the job. cores, memory_gb: of this machine. binding: the cores that a rank may use, for people. launcher: the command line.
    versions: name=version, by blanks. revision: of the source, "" if unknown. at: when it began, UTC.
    """

    repeat: int
    nodes: int
    halo: int
    tiles: int
    wall: float
    seconds: float
    work: float
    startup: float
    read: float = 0.0
    decode: float = 0.0
    preprocess: float = 0.0
    forward: float = 0.0
    first: float = 0.0
    write: float = 0.0
    wait: float = 0.0
    averaging: float = 0.0
    allocation: float = 0.0
    reduce: float = 0.0
    useful: list[float] = []
    mapped_mpx: list[float] = []
    mpx: float = 0.0
    km2: float = 0.0
    computed_mpx: float = 0.0
    peak_memory_mb: float = 0.0
    input_mb: float = 0.0
    host: str = ""
    cpu: str = ""
    cores: int = 0
    memory_gb: float = 0.0
    gpu: str = ""
    device: str = ""
    binding: str = ""
    launcher: str = ""
    versions: str = ""
    revision: str = ""
    at: str = ""

    @property
    def warmup(self) -> bool:
        """It is not counted."""
        return self.repeat == 0

    @property
    def case(self) -> Case:
        """What was run."""
        return Case(*(getattr(self, name) for name in Case.__struct_fields__))

    @property
    def mpx_per_s(self) -> float:
        """Throughput of the tile loops, or epochs."""
        return self.mpx / max(self.work, 1e-9)

    @property
    def km2_per_s(self) -> float:
        """Ground mapped in a second of the tile loops; 0 where scenes do not say where they lie."""
        return self.km2 / max(self.work, 1e-9)


# Not fields, as they follow from others; written for those who open the table elsewhere.
DERIVED = ("mpx_per_s", "km2_per_s")
FIELDS = Row.__struct_fields__
_LISTS = ("useful", "mapped_mpx")


def add_row(folder: Path, row: Row) -> None:
    """Append a run to the table and its metrics to Extra-P's lines; a line is written at once or not at all."""
    path = folder / TABLE
    values = [_text(getattr(row, name)) for name in (*FIELDS, *DERIVED)]
    _append(path, ([] if path.exists() else [_line([*FIELDS, *DERIVED])]) + [_line(values)])
    if not row.warmup:
        _append(folder / EXTRAP, [line + "\n" for line in extrap_lines(row)])


def read_rows(path: Path) -> list[Row]:
    """The runs of a study's folder, or of its table. Raises UsageError if there is none or a line is not one of ours."""
    path = path / TABLE if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"{path}: no table of a study here; hpcseg scaling strong|weak ... --out DIR makes one")
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        missing = sorted(set(FIELDS) - set(table.fieldnames or ()))
        if missing:
            raise UsageError(f"{path}: no column {missing[0]!r}, wanted the table of hpcseg scaling: {', '.join(FIELDS)}")
        return [_row(path, table.line_num, record) for record in table]


def counted(rows: Iterable[Row]) -> list[Row]:
    """The runs that count: no warm-ups."""
    return [row for row in rows if not row.warmup]


def extrap_lines(row: Row) -> list[str]:
    """Extra-P's JSON lines: ranks are p, the tile's edge is t; one line a metric. Other fields of the case name the call path."""
    path = f"{row.mode}->{row.stage}->{row.model}->{row.precision}->{row.partition}"
    return [
        json.dumps({"params": {"p": row.ranks, "t": row.tile}, "callpath": path, "metric": name, "value": getattr(row, name)})
        for name in METRICS
    ]


def unit_lines(row: Row) -> list[str]:
    """A run as stable `key=value unit` lines."""
    seconds = ("wall", "seconds", "work", "startup", "read", "forward", "write", "wait", "reduce")
    return [
        *(f"{name}={getattr(row, name)}" for name in ("mode", "stage", "model", "ranks", "threads", "precision", "partition", "repeat")),
        f"tile={row.tile} px",
        *(f"{name}={getattr(row, name):.3f} s" for name in seconds),
        f"throughput={row.mpx_per_s:.3f} Mpx/s",
        f"ground={row.km2_per_s:.3f} km2/s",
    ]


def _append(path: Path, lines: list[str]) -> None:
    """One write of an appending file: what dies leaves no half line before the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, "".join(lines).encode())
    finally:
        os.close(handle)


def _line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(f"{each:.9g}" for each in value)
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _row(path: Path, line: int, record: dict[str, str]) -> Row:
    """A line of the table. Lists are numbers between blanks."""
    given = {name: (record[name] or "").split() if name in _LISTS else record[name] for name in FIELDS}
    try:
        return msgspec.convert(given, Row, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}, line {line}: {error}; remove that line and run the study again") from error
