"""Rates from one rank and one size of tile, and how far they carry."""

from __future__ import annotations

import math

import pytest
from scaling.rows import make_row

from hpcseg.errors import UsageError
from hpcseg.scaling.costs import Rates, calibrate, kinds, the_kind
from hpcseg.scaling.simulate import Archive, simulate
from hpcseg.scaling.validate import check_lines, validate

TRUE = Rates(decode=9e-9, prepare=4e-9, forward=140e-9, write=2e-9, touch=180e-9)


def made_row(ranks: int = 1, tile: int = 512, **changes):
    """A run of a machine that is as the model has it."""
    archive = Archive(1, 4096, 4096, tile, 112)
    windows, kept = archive.grid.size * archive.window, 4096**2
    parts = {"decode": TRUE.decode * kept, "preprocess": TRUE.prepare * windows, "write": TRUE.write * kept, "wait": 0.0}
    first = (TRUE.forward + TRUE.touch) * archive.window
    parts |= {"forward": TRUE.forward * windows + ranks * TRUE.touch * archive.window, "first": ranks * first}
    parts |= {"work": simulate(archive, TRUE, ranks).loops, "computed_mpx": windows / 1e6, "tiles": archive.grid.size}
    return make_row(ranks=ranks, tile=tile, **(parts | changes))


def test_rates_are_found_from_one_rank_and_one_size_of_tile():
    found = calibrate([made_row()], 512)
    for name in ("decode", "prepare", "forward", "write", "touch"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name))
    assert found.stored == pytest.approx(14e6 / 4096**2)
    assert found.start == pytest.approx(9.0 - made_row().work)


def test_what_an_engine_waits_for_is_in_the_clocks_of_others_already():
    assert calibrate([made_row(wait=0.5)], 512) == calibrate([made_row()], 512)


def test_runs_of_more_scenes_have_the_same_rates():
    twice = {name: 2 * getattr(made_row(), name) for name in ("decode", "preprocess", "write", "mpx", "computed_mpx", "tiles", "input_mb")}
    work = simulate(Archive(2, 4096, 4096, 512, 112), TRUE, 1).loops
    found = calibrate([made_row(), made_row(scenes=2, work=work, forward=work - 0.5, **twice)], 512)
    assert found.spread < 0.01
    assert found.forward == pytest.approx(TRUE.forward, rel=0.01)


def test_readers_beside_a_gpu_read_side_by_side():
    one, three = (calibrate([made_row(gpu="NVIDIA H200", forward=2.0, threads=threads)], 512) for threads in (2, 4))
    assert (one.decode, one.prepare) == pytest.approx((3 * three.decode, 3 * three.prepare))


def test_a_gpu_works_beside_the_readers():
    found = calibrate([made_row(gpu="NVIDIA H200", forward=2.0)], 512)
    assert not found.shared
    assert found.forward == pytest.approx(2.0 / (64 * 736**2))
    assert found.touch == 0.0


def test_a_thread_s_only_window_tells_nothing_of_its_first_touch():
    assert calibrate([made_row(threads=64)], 512).touch == 0.0


def test_all_other_runs_are_foretold():
    rows = [made_row(ranks, tile, repeat=k) for ranks in (1, 2) for tile in (256, 512, 1024, 2048) for k in (1, 2, 3)]
    checks = validate(rows, 512)
    assert len(checks) == 8
    assert all(each.runs == 3 for each in checks)
    assert max(abs(each.error) for each in checks) < 1e-9


def test_an_error_is_what_the_simulation_has_too_much():
    rows = [made_row(), made_row(ranks=2, work=2 * simulate(Archive(1, 4096, 4096, 512, 112), TRUE, 2).loops)]
    assert [each.error for each in validate(rows, 512)] == pytest.approx([0.0, -0.5])
    assert check_lines(validate(rows, 512))[-1] == "largest_error=50.00 %"


def test_of_ranks_whose_paces_differ_the_slowest_counts():
    slow = 1.2
    ones = [made_row(repeat=k, work=made_row().work * pace, forward=made_row().forward) for k, pace in enumerate((1 / slow, 1.0, slow), 1)]
    even, uneven = (validate([*own, made_row(ranks=2)], 512)[-1] for own in ([made_row()], ones))
    spread = calibrate(ones, 512).spread
    # The median of the larger of two: half of all pairs lie below it, so each of both with a chance of 0.7071, 0.545 deviations up.
    assert uneven.simulated / even.simulated == pytest.approx(math.exp(0.545 * spread), rel=0.06)
    assert spread > 0.1


def test_precisions_are_calibrated_apart():
    rows = [made_row(), made_row(precision="fp32", work=30.0), made_row(stage="label", precision="-")]
    assert [kind.precision for kind in kinds(rows)] == ["bf16", "fp32"]
    assert [each.error for each in validate(rows, 512)] == pytest.approx([0, 0])
    assert the_kind(rows, precision="fp32", partition="", threads=0)[1] == rows[1:2]
    with pytest.raises(UsageError, match="--precision, --partition choose"):
        the_kind(rows, precision="", partition="")


def test_orders_of_tiles_are_told_apart():
    rows = [made_row(), made_row(partition="rows")]
    assert the_kind(rows, precision="bf16", partition="rows")[1] == rows[1:]


def test_a_table_without_the_wanted_tile_is_refused():
    with pytest.raises(UsageError, match="tiles of 2048 px"):
        validate([made_row()], 2048)
