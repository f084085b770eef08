"""The verdict as a record and as text: integers stay integers, what is unknown is null, keys are stable."""

import json

import numpy as np
import pytest

from hpcseg.metrics import MEASURES, OVERALL, figures
from hpcseg.scorecard import describe, judge, table_lines, value_lines

NAMES = ["open water", "ice", "land"]


def tables(count=6, land=False):
    found = np.random.default_rng(4).integers(50, 900, (count, 3, 3))
    if not land:
        found[:, 2], found[:, :, 2] = 0, 0
    return found.astype(np.int64)


def report_of(found, names=NAMES):
    scenes = [
        {"name": f"s{k}", "judged_px": int(t.sum()), "unmapped": [1, 2, 0], "figures": describe(names, figures(t))}
        for k, t in enumerate(found)
    ]
    head = {"classes": names, "resampled": "scenes", "block_px": None, "refused": [], "failed_tiles": []}
    return head | judge(names, found, found) | {"scenes": scenes}


def test_pooled_is_of_the_sum_and_mean_per_scene_of_the_scenes_own():
    found = tables(land=True)
    verdict = judge(NAMES, found, found)
    assert verdict["confusion"] == found.sum(0).tolist()
    pooled, average = figures(found.sum(0)), figures(found).mean(0)
    for part, wanted in (("pooled", pooled), ("mean_per_scene", average)):
        for row, (measure, overall) in enumerate(zip(MEASURES, OVERALL, strict=True)):
            assert [each[measure] for each in verdict[part]["classes"]] == pytest.approx(wanted[row, :3])
            assert verdict[part]["overall"][overall] == pytest.approx(wanted[row, 3])
            low, high = verdict[part]["overall"][f"{overall}_interval"]
            assert low < verdict[part]["overall"][overall] < high


def test_what_is_unknown_is_null_in_json():
    text = json.dumps(judge(NAMES, tables(), tables()), allow_nan=False)
    land = json.loads(text)["pooled"]["classes"][2]
    assert land == {"name": "land"} | dict.fromkeys(MEASURES) | {f"{each}_interval": [None, None] for each in MEASURES}


def test_lines_are_stable_keys_and_one_value_each():
    lines = dict(line.split("=") for line in value_lines(report_of(tables())))
    assert float(lines["f1_ice"]) == pytest.approx(figures(tables().sum(0))[1, 1], abs=1e-6)
    assert float(lines["accuracy"]) == pytest.approx(figures(tables().sum(0))[4, 3], abs=1e-6)
    assert lines["iou_land"] == "null"
    assert {"iou_open_water", "mean_iou", "mean_iou_per_scene", "refused_scenes"} <= lines.keys()
    assert (lines["scenes"], lines["unmapped_px"], lines["judged_px"]) == ("6", "18", str(tables().sum()))


def test_classes_whose_names_give_one_key_are_told_apart():
    lines = value_lines(report_of(tables(land=True), ["ice!", "Ice", "?"]))
    assert [line.split("=")[0] for line in lines[:3]] == ["iou_ice_0", "iou_ice_1", "iou_2"]


def test_the_table_says_what_intervals_are_over():
    text = "\n".join(table_lines(report_of(tables())))
    assert "pooled over all pixels, 95 % intervals over 6 scenes" in text
    assert "mean per scene, 95 % intervals over 6 scenes" in text
    assert text.count("null") == 10


def test_one_scene_has_no_interval_and_none_is_claimed():
    text = "\n".join(table_lines(report_of(tables(1))))
    assert "interval" not in text
    assert "[" not in text


def test_the_confusion_matrix_is_shown_with_truth_in_rows():
    found = np.zeros((1, 3, 3), np.int64)
    found[0, 0, 1] = 12345
    rows = [line.split("  ") for line in table_lines(report_of(found))[2:5]]
    assert "12,345" in "".join(rows[0])
    assert "12,345" not in "".join(rows[1] + rows[2])


def test_of_many_scenes_the_table_lists_some_and_says_how_many_more():
    text = "\n".join(table_lines(report_of(tables(23))))
    assert "... and 3 more scenes" in text
