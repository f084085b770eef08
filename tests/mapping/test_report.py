"""What a run tells of itself in files: whole, or one of several parts, and all parts read together."""

import json

import pytest

from hpcseg.errors import StoreError, UsageError
from hpcseg.mapping.report import RankReport, Summary, read_record, write_reports
from hpcseg.raster import Entry


def report(out, part=(1, 1), refused=(), mapped=(), **changes):
    """Write the reports of a run of one rank over scenes that could not be read and others."""
    rank = RankReport(0, "node", tiles=3, mapped_px=100)
    given = {"scenes": 2, "planned_tiles": 3, "imbalance": 1.0, "wall": 5.0, "stopped": False, "precision": "fp32"}
    summary = Summary([rank], [(name, "gone") for name in refused], [], **(given | changes))
    write_reports(out, summary, {name: Entry(name, (f"/x/{name}.tif",)) for name in (*refused, *mapped)}, part)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_parts_of_a_run_do_not_overwrite_each_other(tmp_path):
    report(tmp_path, (1, 3), ["a"])
    report(tmp_path, (3, 3), ["b"])
    report(tmp_path, (1, 3), ["c"])
    assert names(tmp_path) == ["failed.1of3.csv", "failed.3of3.csv", "run.1of3.json", "run.3of3.json"]
    assert "c.tif" in (tmp_path / "failed.1of3.csv").read_text()
    assert "b.tif" in (tmp_path / "failed.3of3.csv").read_text()


@pytest.mark.parametrize(("later", "left"), [((1, 1), ["run.json"]), ((2, 4), ["run.2of4.json"])])
def test_reports_of_a_run_that_was_cut_otherwise_go_with_all_of_their_scenes(tmp_path, later, left):
    (tmp_path / "run.txt").touch()
    report(tmp_path, (1, 3), ["a"])
    report(tmp_path, (2, 3), mapped=["b"])
    report(tmp_path, later, mapped=["a", "b"])
    assert names(tmp_path) == [*left, "run.txt"]


def test_parts_take_the_place_of_the_report_of_a_whole_run_together(tmp_path):
    report(tmp_path, mapped=["a", "b"])
    report(tmp_path, (1, 2), mapped=["a"])
    assert names(tmp_path) == ["run.1of2.json", "run.json"]
    report(tmp_path, (2, 2), mapped=["b"])
    assert names(tmp_path) == ["run.1of2.json", "run.2of2.json"]


def test_reports_of_parts_stay_while_what_one_could_not_map_is_tried_again(tmp_path):
    report(tmp_path, (1, 2), ["a"], ["c"])
    report(tmp_path, (2, 2), ["b"])
    report(tmp_path, mapped=["a"])
    assert names(tmp_path) == ["failed.1of2.csv", "failed.2of2.csv", "run.1of2.json", "run.2of2.json", "run.json"]


def test_a_list_that_is_tried_stays_if_a_signal_ends_the_run(tmp_path):
    report(tmp_path, refused=["a", "b"])
    report(tmp_path, (1, 2), ["c"])
    report(tmp_path, stopped=True, mapped=["a", "b", "c"])
    assert names(tmp_path) == ["failed.1of2.csv", "failed.csv", "run.1of2.json", "run.json"]
    report(tmp_path, mapped=["a", "b", "c"])
    assert names(tmp_path) == ["run.json"]


def test_a_file_that_only_looks_like_a_report_of_another_cut_stays(tmp_path):
    (tmp_path / "run.1of2.json").write_text("[]")
    report(tmp_path, mapped=["a"])
    assert names(tmp_path) == ["run.1of2.json", "run.json"]


def test_what_killed_runs_of_other_cuts_said_of_their_progress_goes(tmp_path):
    for name in ("", ".1of2", ".2of3", "_other"):
        (tmp_path / f".progress{name}.json").touch()
    report(tmp_path, (1, 3))
    assert names(tmp_path) == [".progress.2of3.json", ".progress_other.json", "run.1of3.json"]


def test_a_disk_that_takes_no_report_is_one_line(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpcseg.mapping.report.publish", full)
    with pytest.raises(StoreError, match="reports cannot be written: No space left on device"):
        report(tmp_path)


def test_all_parts_are_read_as_one_run(tmp_path):
    report(tmp_path, (1, 2), ["a"], wall=7.0, manifest={"x": {"date": "1"}})
    report(tmp_path, (2, 2), stopped=True, manifest={"y": {"date": "2"}})
    found = read_record(tmp_path)
    assert (found["scenes"], found["planned_tiles"], found["wall"]) == (4, 6, 7.0)
    assert (found["stopped"], found["exit_code"], found["precision"]) == (True, 75, "fp32")
    assert [rank["tiles"] for rank in found["ranks"]] == [3, 3]
    assert found["refused"] == [["a", "gone"]]
    assert found["manifest"] == {"x": {"date": "1"}, "y": {"date": "2"}}


def test_of_scenes_that_were_tried_again_the_last_try_is_told(tmp_path):
    for part, refused, mapped in (((1, 2), ["a", "b"], ["c"]), ((2, 2), [], ["d"]), ((1, 1), ["b"], ["a"])):
        report(tmp_path, part, refused, mapped, scenes=len(mapped))
    found = read_record(tmp_path)
    assert (found["scenes"], found["names"]) == (3, ["c", "d", "a", "b"])
    assert (found["refused"], found["exit_code"]) == ([["b", "gone"]], 3)
    report(tmp_path, mapped=["a", "b"], scenes=2)
    found = read_record(tmp_path)
    assert (found["scenes"], found["refused"], found["exit_code"]) == (4, [], 0)


def test_a_whole_run_reads_as_it_is_written(tmp_path):
    report(tmp_path, refused=["a"])
    assert read_record(tmp_path) == json.loads((tmp_path / "run.json").read_text())


def test_a_folder_without_a_report_gives_nothing(tmp_path):
    assert read_record(tmp_path) == {}


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_a_file_that_is_no_report_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match="no report of a run"):
        read_record(tmp_path)
