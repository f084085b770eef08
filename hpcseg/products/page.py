"""`hpcseg report`: a run's folder as one page that needs nothing beside it, for people who were not there."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcseg import __version__
from hpcseg.errors import UsageError
from hpcseg.mapping.report import count_reports, read_record
from hpcseg.mpi import Comm, Pulse, on_root, share_out
from hpcseg.products.charts import Chart, Lane, draw_lanes, draw_shares
from hpcseg.products.cog import text
from hpcseg.products.html import area, figure, files_of, percent, seconds, whole, write_page
from hpcseg.products.page_maps import Look, look
from hpcseg.products.page_methods import (
    TEACHERS,
    Methods,
    area_sentence,
    data_sentences,
    network_references,
    own_citation,
    tiles_sentence,
)
from hpcseg.products.page_training import training_values
from hpcseg.store import read

PAGE = "report.html"
PICTURED = 6
_ROWS = 1000
_SHOWN_RANKS = 200
_WHAT = {
    "run.json": "what each rank did", "failed.csv": "manifest of what failed, to try again", "points.gpkg": "objects, for GIS",
    "points.csv": "objects", "counts.csv": "objects by scene and class", "sheet.png": "the highest scores, for people to check",
}  # fmt: skip


@dataclass
class Run:
    """A folder that maps were written to. record: run.json, {} without. kind: predict, label or count. first: attributes and identity of
    its first map."""

    folder: Path
    record: dict[str, Any]
    kind: str
    paths: list[Path]
    first: dict[str, str] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def ranks(self) -> list[dict[str, Any]]:
        return self.record.get("ranks", [])

    @property
    def jobs(self) -> int:
        """How many shared the scenes out: each has a rank 0."""
        return sum(rank["rank"] == 0 for rank in self.ranks)

    @property
    def version(self) -> str:
        """Of hpcseg, that made the maps; this one if they do not say."""
        return self.record.get("provenance", {}).get("hpcseg") or self.first.get("hpcseg_version") or __version__


def write_run_page(comm: Comm, pulse: Pulse, folder: Path) -> Path:
    """Write report.html into the folder of a predict, label, count or train run; ranks share out its maps. Collective.

    Returns its path. Raises UsageError if no run is there or its tables are damaged, StoreError for a file that is no map.
    """
    out = folder / PAGE
    if on_root(comm, lambda: is_training(folder)):
        on_root(comm, lambda: write_page(out, "training.html", **training_values(folder)))
        return out
    run = on_root(comm, lambda: read_run(folder))

    def see(item: tuple[int, Path]) -> Look:
        pulse.step()
        return look(item[1], item[0] < PICTURED)

    looks = share_out(comm, list(enumerate(run.paths)), see)
    on_root(comm, lambda: write_page(out, "run.html", **run_values(run, looks)))
    return out


def is_training(folder: Path) -> bool:
    """Whether a folder is that of one training. Raises UsageError if it is that of a gallery's."""
    if any(folder.glob("[!.]*.h5")):
        return False
    if (folder / "models.toml").exists():
        raise UsageError(f"{folder}: a gallery of networks, each of a training of its own: report its folders mono and bucket_K")
    return (folder / "train.json").exists() or (folder / "history.csv").exists()


def read_run(folder: Path) -> Run:
    """What is known of a run without reading its maps. Raises UsageError if there is none."""
    paths = sorted(folder.glob("[!.]*.h5")) if folder.is_dir() else []
    record = read_record(folder)
    if not paths and not record:
        raise UsageError(f"{folder}: no run here; wanted the folder that predict, label, count or train wrote to with --out")
    run = Run(folder, record, "label" if "teacher" in record else "predict", paths)
    if paths:
        stored = read(paths[0])
        run.first = {key: text(value) for key, value in stored.attributes.items()}
        run.identity = stored.identity
        heat = "labels" not in stored.layout.planes
        run.kind = "label" if "teacher" in run.first else "count" if heat else "predict"
    return run


def run_values(run: Run, looks: Sequence[Look]) -> dict[str, Any]:
    """All that the template run.html shows."""
    methods, missing = run_methods(run, looks)
    counts = _counts(run.folder)
    return {
        "title": _title(run, looks), "run": run, "states": _states(run, looks), "cards": _cards(run, looks),
        "counts": counts[: _ROWS + 1], "counted": len(counts) - 1,
        "looks": looks, "pictured": [each for each in looks if each.pictures], "rows": looks[:_ROWS], "classes": _classes(looks),
        "totals": _totals(looks), "stages": _stages(run), "charts": _charts(run), "ranks": run.ranks[:_SHOWN_RANKS],
        "refused": run.record.get("refused", []), "notes": run.record.get("notes", []),
        "failed": [each for rank in run.ranks for each in rank.get("failed", [])],
        "provenance": _provenance(run), "methods": methods, "missing": missing, "files": files_of(run.folder, _WHAT),
        "sheet": _read_bytes(run.folder / "sheet.png"),
    }  # fmt: skip


def _read_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _title(run: Run, looks: Sequence[Look]) -> str:
    noun, _ = _scenes(run, looks)
    model = run.first.get("model", "").removeprefix("label ") or "a model"
    return {"predict": f"{noun} mapped with {model}", "label": f"{noun} labelled by the {model} teacher",
            "count": f"Objects counted in {noun} with {model}"}[run.kind]  # fmt: skip


def _scenes(run: Run, looks: Sequence[Look]) -> tuple[str, str]:
    """How many, and the verb that goes with them."""
    count = len(looks) or run.record.get("scenes", 0)
    return (f"{count:,} scene", "was") if count == 1 else (f"{count:,} scenes", "were")


def _states(run: Run, looks: Sequence[Look]) -> list[tuple[str, str]]:
    """How the run stands: (good, warn or bad, words)."""
    missing = sum(each.tiles["missing"] for each in looks)
    failed = sum(each.tiles["failed"] for each in looks)
    refused = len(run.record.get("refused", []))
    reported, parts = count_reports(run.folder)
    states = []
    if run.record.get("stopped"):
        states.append(("warn", "stopped before its end: run the same command again to resume"))
    elif not run.record:
        states.append(("warn", "no run.json: the run goes on, or was killed; what is here comes from the maps alone"))
    if reported < parts > 1:
        states.append(("warn", f"{reported:,} of {parts:,} parts of the scenes have reported so far"))
    if missing:
        states.append(("warn", f"{missing:,} tiles not yet mapped"))
    if failed:
        states.append(("bad", f"{failed:,} tiles could not be read"))
    if refused:
        states.append(("bad", f"{refused:,} scene{'s' if refused != 1 else ''} could not be used"))
    return states or [("good", "complete")]


def _cards(run: Run, looks: Sequence[Look]) -> list[tuple[str, str]]:
    """The figures that come first: (figure, what it is)."""
    count, noun = _scenes(run, looks)[0].split()
    cards = [(count, noun), *((whole(n), name) for name, n in objects_of(run.folder).items())]
    areas = [each.area_m2 for each in looks if each.valid]
    if areas and None not in areas:
        cards.append((area(sum(each or 0 for each in areas)), "of ground mapped"))
    elif any(each.valid for each in looks):
        cards.append((f"{figure(sum(each.valid for each in looks) / 1e6)} Mpx", "of valid pixels"))
    if run.ranks:
        cards.append((whole(len(run.ranks)), "rank" if len(run.ranks) == 1 else "ranks"))
        cards += _speeds(run) if run.jobs < 2 else [(whole(run.jobs), "jobs"), (seconds(run.record.get("wall")), "of the longest job")]
    return cards


def _speeds(run: Run) -> list[tuple[str, str]]:
    """Figures that hold of one job alone: several may have run one after the other, on other machines."""
    wall = max(max(rank["seconds"].get("wall", 0) for rank in run.ranks), 1e-9)
    useful = [rank["seconds"].get("forward", 0.0) for rank in run.ranks]
    cards = [
        (seconds(run.record.get("wall")), "from start to end"),
        (f"{figure(sum(rank['mapped_px'] for rank in run.ranks) / wall / 1e6)} Mpx/s", "while mapping"),
    ]
    if len(run.ranks) > 1 and max(useful) > 0:
        cards.append((percent(sum(useful) / len(useful) / max(useful)), "load balance"))
    return cards


def _classes(looks: Sequence[Look]) -> dict[str, str]:
    """Colours by name, over all maps."""
    return {each.name: each.color for seen in looks for each in seen.classes}


def _totals(looks: Sequence[Look]) -> dict[str, tuple[int, float, float | None]]:
    """Over all maps, by class: pixels, share of the valid ones, square metres."""
    valid = max(1, sum(each.valid for each in looks))
    found = {}
    for name in _classes(looks):
        parts = [each.shares[name] for each in looks if name in each.shares]
        pixels = sum(part.pixels for part in parts)
        known = None if any(part.area_m2 is None for part in parts) else sum(part.area_m2 or 0 for part in parts)
        found[name] = (pixels, pixels / valid, known)
    return found


def _counts(folder: Path) -> list[list[str]]:
    """counts.csv of a count, its header first; [] without. Raises UsageError if it cannot be read."""
    path = folder / "counts.csv"
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            return list(csv.reader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}; count again") from error


def objects_of(folder: Path) -> dict[str, int]:
    """How many of each class a count found, over all scenes; {} without a count. Raises UsageError for rows that are damaged."""
    header, *rows = _counts(folder) or [[]]
    found: dict[str, int] = {}
    if {"class", "objects"} <= set(header):
        name, objects = header.index("class"), header.index("objects")
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header) or not row[objects].isdecimal():
                raise UsageError(f"{folder / 'counts.csv'}, row {number} is damaged: count again")
            found[row[name]] = found.get(row[name], 0) + int(row[objects])
    return found


def _stages(run: Run) -> dict[str, float]:
    """Seconds of each stage over all ranks and threads."""
    total = {key: sum(rank["seconds"].get(key, 0.0) for rank in run.ranks) for key in ("decode", "read", "forward", "write", "wait")}
    found = {"decode": total["decode"], "preprocess": max(0.0, total["read"] - total["decode"])}
    return found | {key: total[key] for key in ("forward", "write", "wait")} if run.ranks else {}


def _charts(run: Run) -> list[Chart]:
    """When each rank did what, and what its time went into."""
    charts = []
    lanes = lanes_of(run.ranks)
    if lanes:
        charts.append(draw_lanes("What each rank did", lanes))
    if 1 < len(run.ranks) <= 32:
        keys = ("read", "forward", "write", "wait")
        parts = {key: [rank["seconds"].get(key, 0.0) for rank in run.ranks] for key in keys}
        charts.append(draw_shares("Busy seconds by rank", "seconds, over its threads", [f"{rank['rank']}" for rank in run.ranks], parts))
    return charts


def lanes_of(ranks: Sequence[Mapping[str, Any]]) -> list[Lane]:
    """The ranks of a run.json that carry a timeline, as lanes of a chart."""
    return [
        Lane(
            f"{rank['rank']}", [each["begin"] for each in rank["timeline"]], [each["width"] for each in rank["timeline"]],
            [{stage: [int(n) for n in line.split()] for stage, line in each["busy"].items()} for each in rank["timeline"]],
        )
        for rank in ranks
        if any(each["busy"] for each in rank.get("timeline", []))
    ]


def _provenance(run: Run) -> list[tuple[str, str]]:
    """Who made what of what, where and when."""
    told, maker = run.record.get("provenance", {}), json.loads(run.first.get("made_by", "{}"))
    versions = json.loads(run.first.get("versions", "{}"))
    network = run.identity.get("network", "")
    found = {
        "command": told.get("command", ""),
        "model": run.first.get("model", "") + (f", digest {network}" if network else ""),
        "parameters": _parameters(run),
        "precision": run.record.get("precision", ""),
        "tiles": f"core {run.identity['core']:,} px, halo {run.identity['halo']:,} px" if run.identity else "",
        "made by": told.get("user", "") or maker.get("user", ""),
        "on": _machine(run, maker),
        "maps begun": run.first.get("made_at", ""),
        "run ended": told.get("finished", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return [(key, value) for key, value in found.items() if value]


def _parameters(run: Run) -> str:
    """Those of a teacher that are set, in words."""
    told = json.loads(run.first.get("teacher", "{}"))
    return ", ".join(f"{key} {value}" for key, value in told.items() if key != "name" and isinstance(value, (str, int, float)))


def _machine(run: Run, maker: Mapping[str, str]) -> str:
    hosts = sorted({rank["host"] for rank in run.ranks} or {maker.get("host", "")})
    names = ", ".join(hosts[:4]) + (f" and {len(hosts) - 4:,} more" if len(hosts) > 4 else "")
    device = run.record.get("device", "") or maker.get("device", "")
    ranks = f"{len(run.ranks):,} rank{'s' if len(run.ranks) != 1 else ''} on " if run.ranks else ""
    return f"{ranks}{names}" + (f" ({device})" if device else "")


def run_methods(run: Run, looks: Sequence[Look]) -> tuple[Methods, str]:
    """The paragraph, and what its author still has to add."""
    methods = Methods()
    own = methods.cite([own_citation(run.version)])
    scenes, verb = _scenes(run, looks)
    if run.kind == "label":
        methods.say(f"{scenes} {verb} labelled with hpcseg {run.version}{own} {_teacher_words(run, methods)}.")
    else:
        done = "searched for objects" if run.kind == "count" else "mapped"
        methods.say(f"{scenes} {verb} {done} with hpcseg {run.version}{own}, {_model_words(run, methods)}.")
    found = objects_of(run.folder)
    if found:
        methods.say(f"Found were {', '.join(f'{count:,} of class {name}' for name, count in found.items())}.")
    if run.identity:
        tiles_sentence(methods, run.identity["core"], run.identity["halo"])
    if any(each.area_m2 is not None for each in looks):
        area_sentence(methods)
    failed = sum(each.tiles["failed"] for each in looks)
    if failed:
        methods.say(f"{failed:,} of {sum(sum(each.tiles.values()) for each in looks):,} tiles could not be read and hold no data.")
    missing = data_sentences(methods, run.record.get("manifest", {}))
    return methods, missing


def _teacher_words(run: Run, methods: Methods) -> str:
    told = json.loads(run.first.get("teacher", "{}"))
    name = "sfs" if told.get("method") == "sfs" else "filtered ice" if told.get("filter", "none") != "none" else told.get("name", "")
    how, papers = TEACHERS.get(name, ("", ()))
    parameters = _parameters(run)
    return f"{how}{methods.cite(papers)}" + (f" ({parameters})" if parameters else "")


def _model_words(run: Run, methods: Methods) -> str:
    """Its network, classes, digest and precision."""
    spec = json.loads(run.first.get("model_toml", "{}"))
    network = spec.get("network", "gallery" if "gallery" in run.first else "")
    words = [f"using the model {run.first.get('model', 'of the run')}"]
    if network:
        words.append(f"a {network} network{methods.cite(network_references(network))} of {spec.get('bands', 'several')} bands")
    names = [each["name"] for each in json.loads(run.first.get("classes", "[]"))]
    if names:
        words.append(f"which tells {', '.join(names)}")
    digest, precision = run.identity.get("network", ""), run.record.get("precision", "")
    words += [f"digest {digest}"] if digest else []
    words += [f"in {precision}"] if precision else []
    return ", ".join(words)
