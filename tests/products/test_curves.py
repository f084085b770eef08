"""Curves of loss and score."""

import numpy as np
import pytest
from matplotlib import image

from hpcseg.products.curves import draw_curves


def history(epochs: int, **scores: float) -> list[dict]:
    return [{"epoch": k + 1, "loss": 1 / (k + 1)} | {key: value * k / epochs for key, value in scores.items()} for k in range(epochs)]


def ink(path) -> np.ndarray:
    """The share of pixels that are not white, in the left and in the right half."""
    pixels = image.imread(path)[..., :3]
    dark = (pixels.min(-1) < 0.9).astype(float)
    half = dark.shape[1] // 2
    return np.array([dark[:, :half].mean(), dark[:, half:].mean()])


def test_loss_and_scores_are_drawn_side_by_side(tmp_path):
    draw_curves(tmp_path / "curves.png", {"": history(5, f1=0.8, iou=0.6)})
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    height, width = image.imread(tmp_path / "curves.png").shape[:2]
    assert width > 2 * height
    assert (ink(tmp_path / "curves.png") > 0.005).all()


def test_scores_that_were_not_measured_leave_their_half_without_a_curve(tmp_path):
    draw_curves(tmp_path / "with.png", {"": history(5, f1=0.8)})
    draw_curves(tmp_path / "without.png", {"": history(5)})
    with_scores, without = ink(tmp_path / "with.png"), ink(tmp_path / "without.png")
    assert without[0] == pytest.approx(with_scores[0], rel=0.05)
    assert without[1] < with_scores[1]


def count_lines(path) -> int:
    """Level coloured lines in the left half, as most columns of pixels cross them."""
    pixels = image.imread(path)[..., :3]
    coloured = (np.ptp(pixels, axis=-1) > 0.25)[:, : pixels.shape[1] // 2]
    starts = (coloured[1:] & ~coloured[:-1]).sum(0)
    return int(np.median(starts[starts > 0]))


@pytest.mark.parametrize("runs", [1, 4, 8])
def test_all_runs_are_drawn_into_one_picture_whatever_their_number(tmp_path, runs):
    draw_curves(tmp_path / "curves.png", {f"n{k}": [{"epoch": e, "loss": 1 + k} for e in range(9)] for k in range(runs)})
    assert count_lines(tmp_path / "curves.png") == runs


def test_an_epoch_whose_loss_is_not_a_number_is_left_out(tmp_path):
    records = history(4, f1=0.5)
    records[2]["loss"] = float("nan")
    draw_curves(tmp_path / "curves.png", {"": records})
    assert ink(tmp_path / "curves.png")[0] > 0.005
