"""Points as a layer and a table."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from maps import write_map
from osgeo import ogr

from hpcseg import store
from hpcseg.errors import UsageError
from hpcseg.products.points import write_points

COLUMNS = {"id": "Integer64", "name": "String", "score": "Real", "x": "Real", "y": "Real"}


def batch(*ids):
    n = np.array(ids)
    names = np.array([f'tree, "{k}"' for k in ids], object)
    return {"id": n, "name": names, "score": np.where(n % 2, n / 3, np.nan), "x": n * 0.1, "y": -1e6 / n}


@pytest.fixture
def stored(tmp_path):
    return store.read(write_map(tmp_path / "s.h5", np.zeros((20, 20), np.uint8)))


def rows_of(path):
    source = ogr.Open(str(path))
    return [(f.GetFID(), f.GetField("name"), f.GetField("score"), *f.GetGeometryRef().GetPoint_2D()) for f in source.GetLayer(0)]


def test_both_files_hold_all_digits_and_null_where_a_value_is_nan(stored, tmp_path):
    steps = []
    product = write_points(stored, tmp_path / "p.gpkg", COLUMNS, [batch(1, 2), batch(7)], lambda: steps.append(0))
    wanted = [(k, f'tree, "{k}"', k / 3 if k % 2 else None, k * 0.1, -1e6 / k) for k in (1, 2, 7)]
    assert rows_of(tmp_path / "p.gpkg") == wanted
    with (tmp_path / "p.csv").open() as file:
        head, *rows = csv.reader(file)
    assert head == list(COLUMNS)
    assert [(int(r[0]), r[1], float(r[2]) if r[2] else None, float(r[3]), float(r[4])) for r in rows] == wanted
    assert product.files == (tmp_path / "p.gpkg", tmp_path / "p.csv")
    assert len(steps) == 2


def test_the_same_points_give_the_same_bytes_whatever_the_batches(stored, tmp_path):
    found = []
    for batches in ([batch(1, 2, 7)], [batch(1), batch(2, 7)]):
        product = write_points(stored, tmp_path / "p.gpkg", COLUMNS, batches, int)
        found.append([each.read_bytes() for each in product.files])
    assert found[0] == found[1]


def test_no_points_are_an_empty_layer_and_a_head(stored, tmp_path):
    write_points(stored, tmp_path / "p.gpkg", COLUMNS, [], int)
    assert rows_of(tmp_path / "p.gpkg") == []
    assert (tmp_path / "p.csv").read_text() == "id,name,score,x,y\n"


def test_what_breaks_off_leaves_nothing_and_the_earlier_files_stay(stored, tmp_path):
    write_points(stored, tmp_path / "p.gpkg", COLUMNS, [batch(1)], int)

    def broken():
        yield batch(1, 2)
        raise OSError("gone")

    with pytest.raises(UsageError, match="gone"):
        write_points(stored, tmp_path / "p.gpkg", COLUMNS, broken(), int)
    assert len(rows_of(tmp_path / "p.gpkg")) == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["p.csv", "p.gpkg", "s.h5"]
