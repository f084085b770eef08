"""The table of statistics: a row for each band of each scene and of all scenes pooled; as text, CSV and JSON."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from hpcseg.errors import StoreError
from hpcseg.raster import Scene
from hpcseg.statistics.counts import Counts
from hpcseg.statistics.summary import Above, BandStatistics, Bins, Levels, above, bin_levels, describe, levels_of

POOLED = "pooled"


class Row(msgspec.Struct, frozen=True):
    """What is said of a band of a scene, or of all scenes that have it: scene is "pooled", of `scenes` scenes."""

    scene: str
    band: int
    scenes: int
    statistics: BandStatistics
    percentiles: dict[str, float]
    above: Above | None
    histogram: Bins | None


def tabulate(scenes: Sequence[Scene], counts: Sequence[Counts], percentiles: Sequence[float], bins: int = 0) -> Iterator[Row]:
    """A row for each band of each scene; where there are several scenes, then one for each band number over all of them.

    percentiles: which. bins: of a histogram, 0 = none.
    """
    pooled: dict[int, list[tuple[Levels, Levels]]] = {}
    for scene, each in zip(scenes, counts, strict=True):
        for number, pair in zip(scene.bands, zip(levels_of(each.every), levels_of(each.above), strict=True), strict=True):
            pooled.setdefault(number, []).append(pair)
            yield _row(scene.name, number, [pair], each.threshold, percentiles, bins)
    if len(scenes) > 1:
        for number in sorted(pooled):
            yield _row(POOLED, number, pooled[number], counts[0].threshold, percentiles, bins)


def _row(
    name: str, band: int, pairs: Sequence[tuple[Levels, Levels]], threshold: float | None, percentiles: Sequence[float], bins: int
) -> Row:
    every, chosen = zip(*pairs, strict=True)
    found = describe(every, percentiles)
    beyond = None if threshold is None else above(every, chosen, threshold)
    named = {f"{p:g}": value for p, value in zip(percentiles, found.percentiles, strict=True)}
    return Row(name, band, len(pairs), found, named, beyond, bin_levels(every, bins) if bins else None)


def line_of(row: Row) -> str:
    """A row as `key=value` pairs."""
    scenes = f"scenes={row.scenes} " if row.scene == POOLED else ""
    return f"{row.scene} band {row.band}: {scenes}" + " ".join(f"{key}={value}" for key, value in _figures(row).items())


def _figures(row: Row) -> dict[str, str]:
    """What is printed of a row."""
    band = row.statistics
    figures = {"count": str(band.count), "mean": f"{band.mean:.9g}", "std": f"{band.deviation:.9g}", "min": f"{band.minimum:.6g}",
               "max": f"{band.maximum:.6g}"}  # fmt: skip
    figures |= {f"p{name}": f"{value:.6g}" for name, value in row.percentiles.items()}
    if row.above is not None:
        mean = "none" if row.above.mean is None else f"{row.above.mean:.9g}"
        figures |= {"above": f"{row.above.threshold:g}", "count_above": str(row.above.count), "share_above": f"{row.above.share:.9g}",
                    "mean_above": mean, "mean_rest_0": f"{row.above.mean_rest_0:.9g}"}  # fmt: skip
    return figures


def write_table(out: Path, rows: Sequence[Row]) -> None:
    """Write all rows: .json in full; .csv the histograms where there are any, else the figures as printed. Raises StoreError."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w") as file:
            (_write_json if out.suffix == ".json" else _write_csv)(file, rows)
        os.replace(part, out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror}") from error


def _write_json(file: TextIO, rows: Sequence[Row]) -> None:
    file.write(msgspec.json.format(msgspec.json.encode({"bands": [_record(row) for row in rows]})).decode() + "\n")


def _record(row: Row) -> dict[str, Any]:
    """A row as it stands in JSON: percentiles by name, what was not asked for left out."""
    found = {"scene": row.scene, "band": row.band, "scenes": row.scenes} | msgspec.to_builtins(row.statistics)
    found["percentiles"] = row.percentiles
    extra = {"above": row.above, "histogram": row.histogram}
    return found | {key: msgspec.to_builtins(value) for key, value in extra.items() if value is not None}


def _write_csv(file: TextIO, rows: Sequence[Row]) -> None:
    table = _bins(rows) if any(row.histogram for row in rows) else _table(rows)
    csv.writer(file, lineterminator="\n").writerows(table)


def _table(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    yield ("scene", "band", "scenes", *(_figures(rows[0]) if rows else ()))
    for row in rows:
        yield (row.scene, str(row.band), str(row.scenes), *_figures(row).values())


def _bins(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    yield ("scene", "band", "from", "to", "count")
    for row in rows:
        bins = row.histogram or Bins(0.0, 1.0, [])
        for k, count in enumerate(bins.counts):
            low, high = (repr(bins.low + edge * bins.width) for edge in (k, k + 1))
            yield (row.scene, str(row.band), low, high, str(count))
