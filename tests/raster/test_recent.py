"""What was used last stays at hand, within bounds, one for all threads or one for each."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcseg.raster.recent import Datasets, Recent


@given(capacity=st.integers(1, 5), keys=st.lists(st.integers(0, 8), max_size=40))
def test_as_many_as_fit_stay_and_they_are_those_used_last(capacity, keys):
    recent, wanted, loads = Recent(capacity), [], 0
    for key in keys:
        loads += key not in wanted
        wanted = [*[each for each in wanted if each != key], key][-capacity:]
        assert recent.get(key, lambda key=key: key * 10) == key * 10
        assert (recent.loads, recent.weight) == (loads, len(wanted))


def test_threads_that_want_the_same_wait_for_the_one_that_loads_it():
    recent, calls = Recent(4), []

    def load():
        calls.append(threading.get_ident())
        time.sleep(0.05)
        return object()

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: recent.get("key", load), range(12)))
    assert len(calls) == 1
    assert all(each is found[0] for each in found)


def test_what_cannot_be_loaded_is_tried_again():
    recent = Recent(4)
    with pytest.raises(ZeroDivisionError):
        recent.get("key", lambda: 1 // 0)
    assert recent.get("key", lambda: 7) == 7


def test_a_thread_keeps_its_own_last_datasets(make_scene, tmp_path):
    paths = [str(make_scene(tmp_path / f"{k}.tif", 8, 8)) for k in range(3)]
    datasets = Datasets(2)
    first, second = datasets.get(paths[0]), datasets.get(paths[1])
    assert datasets.get(paths[0]) is first
    third = datasets.get(paths[2])
    assert datasets.get(paths[0]) is first
    assert datasets.get(paths[2]) is third
    assert datasets.get(paths[1]) is not second
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(datasets.get, paths[1]).result() is not datasets.get(paths[1])
    with pytest.raises(RuntimeError, match=r"absent\.tif"):
        datasets.get(str(tmp_path / "absent.tif"))
