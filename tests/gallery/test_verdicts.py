"""Which of two networks maps a bucket: its own only where it is better on the bucket's validation samples."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hpcseg.gallery import verdicts
from hpcseg.matching import Objects
from hpcseg.training.judge import ClassVerdict
from hpcseg.training.points import PointVerdict


def labels(right: int, wrong: int) -> ClassVerdict:
    """Of so many pixels of either class."""
    return ClassVerdict(np.array([[right, wrong], [wrong, right]]), "f1")


def marks(count: int) -> PointVerdict:
    """Of so many objects, none of them found."""
    there = Objects(*(np.zeros(count, int) for _ in Objects._fields))
    return PointVerdict(there, there.pick(np.zeros(count, bool)), (1.0,))


@pytest.fixture
def choose(monkeypatch):
    """choose(task, own, mono) gives the case of a bucket whose networks do so on its validation samples."""

    def run(task, own, mono):
        found = {"own": own, "mono": mono}
        monkeypatch.setattr(verdicts, "_open", lambda *_: "own")
        monkeypatch.setattr(verdicts, "_judge", lambda crew, order, shelf, model, part: found[model])
        job = SimpleNamespace(why="", of=lambda shelf: shelf)
        return verdicts._compare(None, SimpleNamespace(settings=SimpleNamespace(task=task, score="f1")), None, job, "mono")

    return run


def test_a_better_network_is_kept_with_both_figures(choose):
    case = choose("classes", labels(9, 1), labels(8, 2))
    assert (case.why, case.own["test"].table[0, 0]) == ("", 9)
    assert case.scores == pytest.approx({"score": 0.9, "mono_score": 0.8})


def test_an_equal_network_is_not(choose):
    case = choose("classes", labels(8, 2), labels(8, 2))
    assert case.why == "f1 on its validation samples is 0.8000 by its own network, 0.8000 by the mono model"
    assert case.own == case.mono
    assert case.scores == pytest.approx({"score": 0.8, "mono_score": 0.8})


@pytest.mark.parametrize(
    ("task", "nothing", "why"),
    [
        ("classes", labels(0, 0), "no validation samples to judge it by"),
        ("points", marks(0), "no object in its validation samples to judge it by"),
    ],
)
def test_where_nothing_judges_it_the_mono_model_maps(choose, task, nothing, why):
    case = choose(task, nothing, nothing)
    assert (case.why, case.scores) == (why, {})
    assert case.own == case.mono
