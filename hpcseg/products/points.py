"""Points on the ground with what is known of each: layers of a GeoPackage, and the same as a table."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from osgeo import gdal, ogr

from hpcseg.area import reference_system
from hpcseg.georeference import Georeference
from hpcseg.products.cog import Product, legend, publishing, tile_notes
from hpcseg.products.polygons import layer_items
from hpcseg.store import Stored

Batch = Mapping[str, np.ndarray]


class Layer(NamedTuple):
    """Points of one reference system, that of `place`. items: its metadata. batches: arrays by column, in the order they are written;
    NaN is null."""

    name: str
    place: Georeference
    items: Mapping[str, str]
    batches: Iterable[Batch]


def write_points(stored: Stored, out: Path, columns: Mapping[str, str], batches: Iterable[Batch], step: Callable[[], object]) -> Product:
    """Write points of a map as a layer named after `out`, and as a table beside it: see `write_layers`."""
    layer = Layer(out.stem, stored.place, layer_items(stored, legend(stored)), batches)
    return Product(out, write_layers(out, columns, [layer], stored.path.stat().st_mtime, step), tile_notes(stored))


def write_layers(
    out: Path, columns: Mapping[str, str], layers: Sequence[Layer], date: float, step: Callable[[], object]
) -> tuple[Path, Path]:
    """Write points as layers of a GeoPackage, and all in one table beside it, `<stem>.csv`; returns both paths.

    columns: name -> OGR's type (Integer, Integer64, Real, String); among them id, the layers' key, and x and y in a layer's own system.
    No batch: a valid layer without points, a table with its head alone. date: what the file says of its own, in seconds as time.time().
    step: called after each batch. The same points give the same bytes. Raises UsageError if a file cannot be written.
    """
    table = out.with_suffix(".csv")
    with _dated(date), publishing(out) as layer_part, publishing(table) as table_part, table_part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        target = ogr.GetDriverByName("GPKG").CreateDataSource(str(layer_part))
        try:
            for each in layers:
                layer = _create_layer(target, each, columns)
                layer.StartTransaction()
                for batch in each.batches:
                    rows = list(zip(*(_words(batch[name]) for name in columns), strict=True))
                    writer.writerows(rows)
                    _add(layer, list(columns), rows)
                    step()
                layer.CommitTransaction()
            target.FlushCache()
        finally:
            # While its file is still there: what an error leaves open would write to it when it is collected.
            target.Destroy()
    return out, table


@contextmanager
def _dated(date: float) -> Iterator[None]:
    """Layers bear that time instead of now."""
    made = datetime.fromtimestamp(date, timezone.utc)
    gdal.SetConfigOption("OGR_CURRENT_DATE", made.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    try:
        yield
    finally:
        gdal.SetConfigOption("OGR_CURRENT_DATE", None)


def _create_layer(target: ogr.DataSource, what: Layer, columns: Mapping[str, str]) -> ogr.Layer:
    layer = target.CreateLayer(what.name, reference_system(what.place), ogr.wkbPoint, ["FID=id"])
    for column, kind in columns.items():
        if column != "id":
            layer.CreateField(ogr.FieldDefn(column, getattr(ogr, f"OFT{kind}")))
    for item, value in what.items.items():
        layer.SetMetadataItem(item, value)
    return layer


def _words(values: np.ndarray) -> list[Any]:
    """Values as Python's own, so that a table has as many digits as they need; None for NaN."""
    words = values.tolist()
    return [None if each != each else each for each in words] if values.dtype.kind == "f" else words


def _add(layer: ogr.Layer, columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    x, y, key = (columns.index(name) for name in ("x", "y", "id"))
    fields = [(k, layer.GetLayerDefn().GetFieldIndex(name)) for k, name in enumerate(columns) if k != key]
    for row in rows:
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetFID(row[key])
        # Well-known binary of a point, little endian.
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(struct.pack("<BIdd", 1, 1, row[x], row[y])))
        for k, field in fields:
            if row[k] is not None:
                feature.SetField(field, row[k])
        layer.CreateFeature(feature)
