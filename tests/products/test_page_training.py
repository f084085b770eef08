"""The page of a training: its course, its confusion matrices, and how to cite it."""

from __future__ import annotations

import json
from threading import Event

import pytest
from pages import read_page

from hpcseg.config import Class, ModelSpec, encode_toml
from hpcseg.errors import UsageError
from hpcseg.mpi import Pulse
from hpcseg.products.page import write_run_page

HISTORY = "epoch,loss,rate,seconds,iou,f1,accuracy\n1,0.9,0.001,30,0.7,0.8,0.95\n2,0.5,0.001,30,0.9,0.95,0.99\n"
OUTCOME = {
    "stopped": False, "epochs": 2, "steps": 100, "best": 0.95, "tables": {"validation": [[90, 10], [30, 70]], "test": [[0, 0], [0, 0]]},
    "seconds": {"compute": 50.0, "averaging": 5.0, "data": 1.0}, "averaging": "Horovod 0.28.1", "ranks": 2, "threads": 1, "refused": 0,
    "wall": 90.0, "points": {}, "provenance": {"command": "hpcseg train settings.toml", "user": "ada", "host": "node7"},
}  # fmt: skip


@pytest.fixture
def page_of(alone, tmp_path):
    def make(outcome: dict | None):
        classes = [Class(name="ground", color="#808080"), Class(name="roof", color="#a03020")]
        (tmp_path / "model.toml").write_bytes(encode_toml(ModelSpec(network="unet", bands=3, classes=classes)))
        (tmp_path / "history.csv").write_text(HISTORY)
        if outcome is not None:
            (tmp_path / "train.json").write_text(json.dumps(outcome))
        with Pulse(alone, 600, Event()) as pulse:
            return read_page(write_run_page(alone, pulse, tmp_path))

    return make


def test_a_training_is_told_with_its_course_scores_and_origin(page_of):
    page = page_of(OUTCOME)
    assert [alt for alt, _ in page.images] == ["Training loss", "Scores on validation samples", "Where the time of steps went"]
    assert "Training of unet complete" in page.text
    assert "95.0 % best F1 on validation samples" in page.text
    assert "Accuracy 80.0 % of 200 pixels." in page.text
    assert "ground 90 10 0.750 0.900 0.818 0.692" in page.text
    assert "hpcseg train settings.toml" in page.text


    assert "On test samples" not in page.text, "a table without pixels"


def test_the_methods_cite_network_and_averaging(page_of):
    text = page_of(OUTCOME).text
    assert "A unet network [2] was trained with hpcseg" in text
    assert "Gradients were averaged over 2 ranks by Horovod 0.28.1 [3]." in text
    assert "(F1 0.950 in epoch 2)" in text


@pytest.mark.parametrize(("best", "words"), [(0.9, "(IoU 0.900 in epoch 2)"), (0.99, "(accuracy 0.990 in epoch 2)"), (0.5, "")])
def test_the_epoch_that_was_kept_is_told_by_the_score_that_chose_it(page_of, best, words):
    text = page_of(OUTCOME | {"best": best}).text
    assert words in text
    assert ("was kept" in text) == bool(words)


def test_the_version_is_that_which_trained(page_of):
    text = page_of(OUTCOME | {"provenance": {"hpcseg": "0.0.9"}}).text
    assert "was trained with hpcseg 0.0.9 [1]" in text
    assert "Version 0.0.9." in text


def test_a_training_that_goes_on_is_told_by_its_history(page_of):
    text = page_of(None).text
    assert "no train.json: the training goes on, or was killed" in text
    assert "2 epochs" in text


def test_a_training_that_was_stopped_says_how_to_go_on(page_of):
    assert "stopped before its end" in page_of(OUTCOME | {"stopped": True}).text


def test_a_history_of_something_else_is_named(page_of, tmp_path, alone):
    page_of(OUTCOME)
    (tmp_path / "history.csv").write_text("epoch,loss\n1,low\n")
    with Pulse(alone, 600, Event()) as pulse, pytest.raises(UsageError, match=r"history\.csv"):
        write_run_page(alone, pulse, tmp_path)
