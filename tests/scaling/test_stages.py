"""What a study runs, and what it reads of a finished run."""

from __future__ import annotations

import json

import msgspec
import pytest
from scaling.rows import make_row

from hpcseg import store
from hpcseg.errors import UsageError
from hpcseg.georeference import Georeference
from hpcseg.mapping.report import RankReport, Summary
from hpcseg.raster import describe
from hpcseg.scaling.stages import Data, input_megabytes, read_run, synthetic_data, words_of
from hpcseg.store import Layout
from hpcseg.tiles import Grid

CASE = make_row(ranks=2, tile=64).case


def write_run(out) -> None:
    """A map of two ranks: three tiles, one of them empty."""
    reports = [
        RankReport(0, "a", 2, 1, 4096, 1e6, 0.5, {"read": 1.0, "decode": 0.75, "forward": 3.0, "write": 0.5, "wait": 0.25, "wall": 4.0}),
        RankReport(1, "b", 1, 0, 4096, 2e6, 0.0, {"read": 0.5, "decode": 0.5, "forward": 2.0, "write": 0.25, "wait": 0.5, "wall": 3.0}),
    ]
    summary = Summary(reports, [], [], 1, 3, 1.0, 5.0, False, "fp32", "cpu")
    (out / "run.json").write_text(json.dumps(msgspec.to_builtins(summary)))
    store.create(out / "scene.h5", Layout(Grid(64, 192, 64, 16), 64), {"core": 64, "halo": 16}, {}, Georeference())


def test_a_map_tells_its_stages_its_balance_and_its_pixels(tmp_path):
    write_run(tmp_path)
    found = read_run(CASE, tmp_path)
    assert {name: found[name] for name in ("read", "decode", "preprocess", "forward", "write", "wait")} == {
        "read": 1.5, "decode": 1.25, "preprocess": 0.25, "forward": 5.0, "write": 0.75, "wait": 0.75,
    }  # fmt: skip
    assert (found["seconds"], found["work"], found["reduce"], found["useful"]) == (5.0, 4.0, 1.0, [4.0, 3.0])
    assert (found["tiles"], found["halo"], found["mpx"], found["km2"]) == (3, 16, 0.008192, 3.0)
    assert found["computed_mpx"] == 2 * 96**2 / 1e6


def test_a_folder_without_a_map_is_said(tmp_path):
    with pytest.raises(UsageError, match="left no record"):
        read_run(CASE, tmp_path)


def test_synthetic_scenes_are_made_once_and_in_strips_for_rows(tmp_path):
    blocks = synthetic_data(tmp_path, 2, 1088, "hilbert")
    strips = synthetic_data(tmp_path, 2, 1088, "rows")
    assert len(set(blocks.scenes + strips.scenes)) == 4
    assert blocks.truth == strips.truth
    assert [describe(path, "scene").striped for path in (blocks.scenes[0], strips.scenes[0])] == [False, True]
    assert [describe(path, "scene").digest for path in blocks.scenes] != [describe(path, "scene").digest for path in strips.scenes]
    times = [input_megabytes([path]) for path in blocks.scenes]
    assert synthetic_data(tmp_path, 2, 1088, "hilbert") == blocks
    assert min(times) > 0


def test_a_scene_too_narrow_for_strips_is_refused(tmp_path):
    with pytest.raises(UsageError, match="more than 1024"):
        synthetic_data(tmp_path, 1, 1024, "rows")


def test_the_batch_of_training_grows_with_ranks_where_the_work_does(tmp_path):
    data = Data(("a.tif", "b.tif"), ("ta.tif", "tb.tif"))
    strong, weak = (words_of(make_row(stage="train", ranks=2, mode=mode).case, data, tmp_path) for mode in ("strong", "weak"))
    assert strong[strong.index("--batch") + 1] == "8"
    assert weak[weak.index("--batch") + 1] == "16"
    assert [strong[k + 1] for k, word in enumerate(strong) if word == "--labels"] == ["ta.tif", "tb.tif"]


def test_a_teacher_is_told_no_precision(tmp_path):
    words = words_of(make_row(stage="label", model="ice").case, Data(("a.tif",)), tmp_path)
    assert words[:3] == ["label", "ice", "a.tif"]
    assert "--precision" not in words
