"""The verdict of gallery.sh: python run/gallery.py GALLERY UNSEEN.csv

Here alone it is known what scenes show: their names are KIND_number.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from osgeo import gdal
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from hpcseg import device
from hpcseg.gallery.codes import majority
from hpcseg.gallery.embed import code_of
from hpcseg.gallery.hashing import HashSettings, train_hasher
from hpcseg.gallery.images import read_cells
from hpcseg.kernels.codes import nearest
from hpcseg.mpi import finish, self_comm, start
from hpcseg.training.averaging import Alone

gdal.UseExceptions()
PURE, ABOVE, PRECISION = 0.90, 0.10, 0.95


def kinds_of(cells: pa.Table) -> np.ndarray:
    """What each cell shows, by the name of its scene."""
    return np.array([name.split("_")[0] for name in cells["scene"].to_pylist()])


def tally(kinds: np.ndarray, buckets: np.ndarray) -> tuple[list[str], list[int], np.ndarray]:
    """The kinds, the buckets and how many cells of each kind (row) are in each bucket (column)."""
    rows, row = np.unique(kinds, return_inverse=True)
    cols, col = np.unique(buckets, return_inverse=True)
    table = np.zeros((len(rows), len(cols)), np.int64)
    np.add.at(table, (row, col), 1)
    return rows.tolist(), cols.tolist(), table


def purity(table: np.ndarray) -> tuple[float, float]:
    """The share of cells whose kind is the most frequent of their bucket; and the mean of that share over the kinds, rare or not."""
    right = table * (table == table.max(0))
    return float(right.sum() / table.sum()), float((right.sum(1) / table.sum(1)).mean())


def read_scene(source: str) -> tuple[np.ndarray, np.ndarray]:
    """The first three bands of a scene, f32 (3, h, w), between its percentiles as the encoder sees them; valid pixels, bool (h, w)."""
    files = [gdal.Open(part) for part in source.split("+")]
    bands = [file.GetRasterBand(k + 1) for file in files for k in range(file.RasterCount)][:3]
    valid = np.logical_and.reduce([band.GetMaskBand().ReadAsArray() > 0 for band in bands])
    pixels = np.stack([band.ReadAsArray() for band in bands]).astype(np.float32)
    low, high = np.percentile(pixels[:, valid], (2, 98), axis=1).astype(np.float32)[..., None, None]
    return (pixels - low) / np.maximum(high - low, np.float32(1e-6)), valid


def colours_of(cells: pa.Table) -> Iterator[np.ndarray]:
    """Seven statistics of each cell, f32 (7,): mean and deviation of three bands, mean saturation."""
    known = ""
    for path, row, col, height, width in zip(*(cells[name].to_pylist() for name in ("path", "row", "col", "height", "width")), strict=True):
        if path != known:
            (scene, valid), known = read_scene(path), path
        place = slice(row, row + height), slice(col, col + width)
        pixels = scene[(slice(None), *place)][:, valid[place]]
        seen = np.clip(pixels, 0, 1)
        saturation = 1 - seen.min(0) / np.maximum(seen.max(0), 1e-6)
        yield np.array([*pixels.mean(1), *pixels.std(1), saturation.mean()], np.float32)


def sort_by(features: np.ndarray, scaled: bool, count: int) -> np.ndarray:
    """The buckets of features (n, d) by the gallery's steps: clusters, a hashing network, centroids, the nearest of them."""
    points = (features - features.mean(0)) / (features.std(0) if scaled else 1)
    labels = AgglomerativeClustering(count).fit_predict(points)
    hasher, _ = train_hasher(self_comm(), Alone(), features, labels, HashSettings())
    codes = np.array([code_of(hasher, row) for row in features], np.uint64)
    centroids = np.array([majority(codes[labels == k], HashSettings().bits) for k in range(count)], np.uint64)
    return nearest(codes, centroids)[0]


def show(words: str, kinds: list[str], buckets: list[int], table: np.ndarray) -> None:
    """Print how many cells of each kind are in each bucket."""
    print(f"{words:<16}" + "".join(f"{bucket:>6}" for bucket in buckets))
    for kind, row in zip(kinds, table, strict=True):
        print(f"{kind:<16}" + "".join(f"{count:>6}" for count in row))
    print()


def main(folder: str, manifest: str) -> None:
    """Print tables, then key=value lines."""
    device.settle_threads()
    start()
    built = json.loads((Path(folder) / "build.json").read_text())
    cells = read_cells(Path(folder))
    with Path(manifest).open() as file:
        unseen_names = {row["id"] for row in csv.DictReader(file)}
    late = np.isin(cells["scene"].to_pylist(), list(unseen_names))
    half = cells["valid"].to_numpy() >= 0.5
    archive, unseen = cells.filter(pa.array(half & ~late)), cells.filter(pa.array(half & late))

    kinds, buckets = kinds_of(archive), archive["bucket"].to_numpy()
    names, numbers, table = tally(kinds, buckets)
    show("kind, bucket", names, numbers, table)
    colours = np.stack(list(colours_of(archive)))
    by_colour = [sort_by(colours, scaled, built["buckets"]) for scaled in (False, True)]
    simple, simple_buckets = max(((purity(tally(kinds, each)[2]), each) for each in by_colour), key=lambda pair: pair[0])
    show("kind, by colour", *tally(kinds, simple_buckets))

    owner = {bucket: names[k] for bucket, k in zip(numbers, table.argmax(0), strict=True)}
    right = [owner.get(b) == kind for b, kind in zip(unseen["bucket"].to_pylist(), kinds_of(unseen), strict=True)]
    pure, fair = purity(table)
    print(f"kinds={len(names)}")
    print(f"buckets={built['buckets']} wanted={2 * len(names)} at most")
    print(f"cells={len(archive)}")
    print(f"purity={pure:.4f} wanted={PURE}")
    print(f"purity_mean_of_kinds={fair:.4f}")
    print(f"colour_purity={simple[0]:.4f} wanted={pure - ABOVE:.4f} at most")
    print(f"adjusted_rand={adjusted_rand_score(kinds, buckets):.4f}")
    print(f"colour_adjusted_rand={adjusted_rand_score(kinds, simple_buckets):.4f}")
    print(f"map={built['map']:.4f} wanted={PRECISION}")
    print(f"unseen_right={np.mean(right):.4f}", flush=True)
    finish(self_comm(), 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
