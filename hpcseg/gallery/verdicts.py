"""What the networks of a model gallery are worth: each beside the mono model, on the same samples of its bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import msgspec
import numpy as np

from hpcseg import device
from hpcseg.gallery.jobs import Job, Order
from hpcseg.gallery.spec import MONO_BUCKET
from hpcseg.models import load_model
from hpcseg.models.network import SegmentationNetwork
from hpcseg.training.feed import Shelf
from hpcseg.training.judge import judge, score_of
from hpcseg.training.loop import forward
from hpcseg.training.samples import PARTS
from hpcseg.training.together import together
from hpcseg.training.train import Crew, Outcome

_JUDGED = PARTS[1:]
_MEASURES = ("f1", "iou")


class Verdict(msgspec.Struct):
    """A bucket. samples: by part. own, mono: confusion matrices by part, of its network and of the mono model; where the mono model maps
    it, `why` says so and both are the same."""

    bucket: int
    samples: dict[str, int]
    own: dict[str, list[list[int]]]
    mono: dict[str, list[list[int]]]
    why: str = ""


def sizes(shelf: Shelf) -> dict[str, int]:
    """Number of samples of each part."""
    return {part: len(shelf.samples.of(part)) for part in PARTS}


def judge_buckets(crew: Crew, order: Order, shelf: Shelf, jobs: Sequence[Job], outcomes: Mapping[int, Outcome]) -> list[Verdict]:
    """A verdict for each bucket, its own network's tables as training found them. After a stop they are of a part. Collective."""
    settings = order.settings_of(MONO_BUCKET)
    where = device.choose()
    network = together(crew.comm, lambda: load_model(str(settings.out))).network.to(where)
    assert isinstance(network, SegmentationNetwork)
    look = partial(forward, network, settings, where)
    verdicts = []
    for job in jobs:
        if job.bucket == MONO_BUCKET:
            continue
        own = job.of(shelf)
        mono = {part: judge(crew.comm, crew.pulse, network, look, own, settings, part).tolist() for part in _JUDGED}
        tables = mono if job.why else outcomes[job.bucket].tables
        verdicts.append(Verdict(job.bucket, sizes(own), tables, mono, job.why))
    return verdicts


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """A table, a row for each bucket and part, then both over all buckets as stable `key=value` lines."""
    rows = [f"{'bucket':<8}{'part':<12}{'train':>6}{'judged':>8}{'F1':>8}{'mono':>8}{'IoU':>8}{'mono':>8}"]
    rows += [_row(verdict, part) for verdict, part in product(verdicts, _JUDGED) if verdict.samples[part]]
    rows += [f"buckets={len(verdicts)}", f"networks={sum(not verdict.why for verdict in verdicts)}"]
    for part, (name, of) in product(_JUDGED, {"gallery": "own", "mono": "mono"}.items()):
        table = sum(np.array(getattr(verdict, of)[part]) for verdict in verdicts)
        if np.any(table):
            rows += [f"{part}_{name}_{measure}={score_of(np.asarray(table), measure):.4f}" for measure in _MEASURES]
    return rows


def _row(verdict: Verdict, part: str) -> str:
    tables = [np.array(table[part]) for table in (verdict.own, verdict.mono)]
    figures = "".join(f"{score_of(table, measure):>8.3f}" for measure, table in product(_MEASURES, tables))
    note = f"  mono: {verdict.why}" if verdict.why else ""
    return f"{verdict.bucket:<8}{part:<12}{verdict.samples['train']:>6}{verdict.samples[part]:>8}{figures}{note}"
