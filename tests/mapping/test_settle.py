"""What a run finds in its folder before the first tile."""

from __future__ import annotations

from hpcseg.mapping.settle import find_earlier


def test_what_killed_ranks_had_begun_is_removed_and_what_may_be_another_job_s_is_kept(alone, tmp_path):
    ours = [".a.h5.4711.part", "a.h5-177340417-26225.lock"]
    others = [".b.h5.4711.part", "b.h5-177340417-26225.lock", "notes.lock"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    assert find_earlier(alone, tmp_path, [tmp_path / "a.h5"], False) == [None]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
