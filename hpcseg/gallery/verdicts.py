"""What the networks of a model gallery are worth: each beside the mono model, on the same samples of its bucket.

A bucket keeps a network of its own only where that is better than the mono model on the bucket's validation samples: without any it is
left to the mono model. Test samples choose nothing. Detectors share one threshold and one calibration, for a count has one: those of all
validation samples, each seen by the network that maps its bucket. What is chosen decides that threshold, so that both are compared before,
each at its own best one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from hpcseg import device
from hpcseg.config import ModelSpec
from hpcseg.gallery.contact import bucket_name
from hpcseg.gallery.jobs import Job, Order
from hpcseg.gallery.spec import MONO_BUCKET
from hpcseg.kernels.heat import level_of
from hpcseg.models import Model, load_model
from hpcseg.models.network import SegmentationNetwork
from hpcseg.training.feed import Shelf
from hpcseg.training.judge import ClassVerdict, score_of
from hpcseg.training.loop import forward
from hpcseg.training.points import PointVerdict, pool, settle_points
from hpcseg.training.samples import PARTS
from hpcseg.training.together import together
from hpcseg.training.train import Crew, judge_part

_JUDGED = PARTS[1:]
_MEASURES = ("f1", "iou")


class Verdict(msgspec.Struct):
    """A bucket, or MONO_BUCKET for samples in none. samples: by part. own, mono: confusion matrices by part, of the network that maps it
    and of the mono model; of detectors those of objects, see PointVerdict, each at its threshold. why: the reason that the mono model maps
    it, "" = a network of its own does. scores: what decided, as in BucketModel; {} where nothing was compared."""

    bucket: int
    samples: dict[str, int]
    own: dict[str, list[list[int]]]
    mono: dict[str, list[list[int]]]
    why: str = ""
    scores: dict[str, float] = {}


class Case(NamedTuple):
    """The samples of a job by part, as the network that maps them sees them and as the mono model does. why, scores: as in Verdict."""

    job: Job
    own: Mapping[str, ClassVerdict | PointVerdict]
    mono: Mapping[str, ClassVerdict | PointVerdict]
    why: str
    scores: Mapping[str, float] = {}


def sizes(shelf: Shelf) -> dict[str, int]:
    """Number of samples of each part."""
    return {part: len(shelf.samples.of(part)) for part in PARTS}


def judge_buckets(crew: Crew, order: Order, shelf: Shelf, jobs: Sequence[Job]) -> tuple[list[Verdict], ModelSpec]:
    """A verdict for each bucket, and what the gallery says of its maps: the mono model's, of detectors with the threshold and calibration
    of all. After a stop they are of a part. Collective."""
    mono = _open(crew, order, jobs[0])
    cases = [_compare(crew, order, shelf, job, mono) for job in jobs[1:]]
    validation = [each for case in cases if isinstance(each := case.own["validation"], PointVerdict)]
    spec = settle_points(mono.spec, {"validation": pool(validation)}) if validation else mono.spec
    verdicts = [
        Verdict(
            case.job.bucket, sizes(case.job.of(shelf)), _tables(case.own, spec), _tables(case.mono, mono.spec), case.why, dict(case.scores)
        )
        for case in cases
    ]
    return verdicts, spec


def _open(crew: Crew, order: Order, job: Job) -> Model:
    return together(crew.comm, lambda: load_model(str(order.settings_of(job.bucket).out)))


def _compare(crew: Crew, order: Order, shelf: Shelf, job: Job, mono: Model) -> Case:
    """The case of a job, and whether a network of its own is worth it. Collective."""
    others = {part: _judge(crew, order, job.of(shelf), mono, part) for part in _JUDGED}
    if job.why:
        return Case(job, others, others, job.why)
    model = _open(crew, order, job)
    own = {part: _judge(crew, order, job.of(shelf), model, part) for part in _JUDGED}
    first, second = own["validation"], others["validation"]
    if not second:
        what = "object in its validation samples" if order.settings.task == "points" else "validation samples"
        return Case(job, others, others, f"no {what} to judge it by")
    scores = {"score": first.score, "mono_score": second.score}
    if first.score > second.score:
        return Case(job, own, others, "", scores)
    why = f"{order.settings.score} on its validation samples is {first.score:.4f} by its own network, {second.score:.4f} by the mono model"
    return Case(job, others, others, why, scores)


def _judge(crew: Crew, order: Order, shelf: Shelf, model: Model, part: str) -> ClassVerdict | PointVerdict:
    """What a model does on a part's samples. Collective."""
    settings, where = order.settings_of(MONO_BUCKET), device.choose()
    network = model.network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch
    assert isinstance(network, SegmentationNetwork)
    return judge_part(crew, network, partial(forward, network, settings, where), shelf, settings, part)


def _tables(verdicts: Mapping[str, ClassVerdict | PointVerdict], spec: ModelSpec) -> dict[str, list[list[int]]]:
    """Confusion matrices by part, of detectors at the threshold of a model.toml."""
    level = level_of(spec.threshold)
    return {
        part: (each.table(level) if isinstance(each, PointVerdict) else each.table).tolist() for part, each in verdicts.items()
    }


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """A table, a row for each bucket and part, then both over all buckets as stable `key=value` lines."""
    rows = [f"{'bucket':<8}{'part':<12}{'train':>6}{'judged':>8}{'F1':>8}{'mono':>8}{'IoU':>8}{'mono':>8}"]
    rows += [_row(verdict, part) for verdict, part in product(verdicts, _JUDGED) if verdict.samples[part]]
    buckets = [verdict for verdict in verdicts if verdict.bucket != MONO_BUCKET]
    rows += [f"buckets={len(buckets)}", f"networks={sum(not verdict.why for verdict in buckets)}"]
    for part, (name, of) in product(_JUDGED, {"gallery": "own", "mono": "mono"}.items()):
        table = sum(np.array(getattr(verdict, of)[part]) for verdict in verdicts)
        if np.any(table):
            rows += [f"{part}_{name}_{measure}={score_of(np.asarray(table), measure):.4f}" for measure in _MEASURES]
    return rows


def _row(verdict: Verdict, part: str) -> str:
    tables = [np.array(table[part]) for table in (verdict.own, verdict.mono)]
    figures = "".join(f"{score_of(table, measure):>8.3f}" for measure, table in product(_MEASURES, tables))
    note = f"  mono: {verdict.why}" if verdict.why else ""
    return f"{bucket_name(verdict.bucket):<8}{part:<12}{verdict.samples['train']:>6}{verdict.samples[part]:>8}{figures}{note}"
