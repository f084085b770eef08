"""The page of a study: its figures, tables and what others published, in one file that needs nothing beside it."""

from __future__ import annotations

import json

import pytest
from pages import read_page
from studies import invented, write_study

from hpcseg.errors import UsageError
from hpcseg.scaling import resflow
from hpcseg.scaling.figures import make_curves
from hpcseg.scaling.model import fit
from hpcseg.scaling.page import fit_values, workload_table, write_study_page
from hpcseg.scaling.records import add_row
from hpcseg.scaling.told import curves


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A strong study of predict and label, on 1 and 2 ranks, and a run.json that it kept; (folder, paths of what was written)."""
    folder = write_study(tmp_path_factory.mktemp("study"), (1, 2), 2, modes=("strong",), stages=("predict", "label"))
    busy = {"read": "20 20", "forward": "80 80"}
    ranks = [{"rank": k, "timeline": [{"begin": 1.0, "width": 2.0, "busy": busy}]} for k in range(2)]
    (folder / "runs").mkdir()
    (folder / "runs" / "strong-predict-2.json").write_text(json.dumps({"ranks": ranks}))
    (folder / "runs" / "strong-predict-1.json").write_text("not looked at: fewer ranks")
    return folder, write_study_page(folder)


@pytest.fixture(scope="module")
def page(study):
    return read_page(study[1][0])


def test_each_stage_has_its_figures(page):
    shown = [alt for alt, _ in page.images]
    for name in ("Time", "Throughput", "Speed-up", "Serial share after Karp and Flatt", "Efficiency, strong"):
        assert shown.count(name) == 2, f"{name}: for predict and label"
    assert "Load, map and reduce apart, 512 px" in shown
    assert "What each rank did: strong predict on 2 ranks" in shown


def test_figures_are_kept_as_pngs_too(study):
    folder, (page, *pictures) = study
    assert page == folder / "report.html"
    assert all(each.read_bytes().startswith(b"\x89PNG") for each in pictures)
    assert {"strong-predict-speed-up.png", "strong-label-time.png", "timeline-1.png"} <= {each.name for each in pictures}


def test_the_published_figures_stand_beside_ours(page):
    for words in ("Table III: one DGX1", "Table V: one DGX2-H", "Table VI: two DGX2", "As their Table VII", "453,168 km²", "5.245 km²",
                  "23.49 min × 1.00", "7.40 min × 3.17", "sea-ice paper – – – 9.00 16.0"):  # fmt: skip
        assert words in page.text, words


def test_what_was_simulated_or_predicted_is_marked(page):
    assert page.text.count("simulated") >= 2 * sum("simulated" in each.of for each in resflow.extrapolate())
    assert "simulated, batch after batch, with a simulated" in page.text
    assert "predicted are seconds on more ranks than ran" in page.text


def test_the_machine_and_how_ranks_were_started_are_told(page):
    for words in ("A processor of some kind, 8 cores, 32.0 GB", "mpirun -n 1 hpcseg predict", "hpcseg=0.1.0 torch=2.13.0", "0123456",
                  "8 that count, 2 warm-ups apart"):  # fmt: skip
        assert words in page.text, words


def test_fewer_than_three_repeats_are_warned_of(page):
    assert "8 runs that count, 2 of each point: fewer than 3 say little of the spread" in page.text


def test_a_table_as_theirs_has_a_column_for_each_workload():
    rows = [invented("weak", "predict", p, k) for p in (1, 2) for k in (1, 2)] + [invented("strong", "predict", 2, 1)]
    found = workload_table(rows)
    assert [column[0] for column in found.columns] == [1, 2]
    assert [each is None for each in found.cells[1]] == [False, True]
    assert [each.runs for each in found.cells[2]] == [1, 2]


def test_a_study_without_predict_has_no_such_table():
    assert workload_table([invented("strong", "train", 1)]) is None


def test_a_prediction_is_the_fit_s_on_more_ranks_than_ran():
    rows = [invented("strong", "predict", p, work=2.0 + 8.0 / p) for p in (1, 2, 4)]
    (curve,) = make_curves(curves(rows))
    values = fit_values(curve)
    assert values["fit"].error == pytest.approx(0, abs=1e-6)
    assert dict(values["ahead"])[8] == pytest.approx(3.0)
    assert values["fit"].residuals == pytest.approx(fit("strong", [1, 2, 4], [10.0, 6.0, 4.0]).residuals)


def test_a_study_of_warm_ups_alone_is_no_study_yet(tmp_path):
    add_row(tmp_path, invented("strong", "predict", 1, repeat=0))
    with pytest.raises(UsageError, match="warm-ups alone"):
        write_study_page(tmp_path)


def test_a_folder_without_a_table_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="no table of a study"):
        write_study_page(tmp_path)


def test_one_number_of_ranks_is_a_page_too_and_the_command_says_where(hpcseg, tmp_path):
    add_row(tmp_path, invented("strong", "predict", 4))
    code, said, _ = hpcseg("scaling", "report", tmp_path)
    assert code == 0
    assert f"wrote {tmp_path / 'report.html'}\nwrote 4 figures in {tmp_path / 'figures'}" in said
    page = read_page(tmp_path / "report.html")
    assert [alt for alt, _ in page.images][:2] == ["Time", "Throughput"]
    assert "Beyond the ranks that ran" not in page.text


def test_the_command_without_a_study_is_wrong_use(hpcseg, tmp_path):
    code, _, said = hpcseg("scaling", "report", tmp_path)
    assert code == 2
    assert "no table of a study" in said
