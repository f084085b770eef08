"""Points on the ground with what is known of each: a GeoPackage layer, and the same as a table."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal, ogr

from hpcseg.area import reference_system
from hpcseg.products.cog import Product, legend, publishing, tile_notes
from hpcseg.products.polygons import describe_layer
from hpcseg.store import Stored

Batch = Mapping[str, np.ndarray]


def write_points(stored: Stored, out: Path, columns: Mapping[str, str], batches: Iterable[Batch], step: Callable[[], object]) -> Product:
    """Write points as a layer named after `out`, and as a table beside it, `<stem>.csv`.

    columns: name -> OGR's type (Integer, Integer64, Real, String); among them id, the layer's key, and x and y in the scene's own system.
    batches: arrays by column, in the order they are written; NaN is null. No batch: a valid layer without points, a table with its
    head alone. step: called after each batch. The same points give the same bytes. Raises UsageError if a file cannot be written.
    """
    table = out.with_suffix(".csv")
    with _dated_as(stored.path), publishing(out) as layer_part, publishing(table) as table_part, table_part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        target = ogr.GetDriverByName("GPKG").CreateDataSource(str(layer_part))
        try:
            layer = _create_layer(target, stored, columns, out.stem)
            layer.StartTransaction()
            for batch in batches:
                rows = list(zip(*(_words(batch[name]) for name in columns), strict=True))
                writer.writerows(rows)
                _add(layer, list(columns), rows)
                step()
            layer.CommitTransaction()
            target.FlushCache()
        finally:
            # While its file is still there: what an error leaves open would write to it when it is collected.
            target.Destroy()
    return Product(out, (out, table), tile_notes(stored))


@contextmanager
def _dated_as(path: Path) -> Iterator[None]:
    """Layers bear the time of a file instead of now."""
    made = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    gdal.SetConfigOption("OGR_CURRENT_DATE", made.strftime("%Y-%m-%dT%H:%M:%S.000Z"))
    try:
        yield
    finally:
        gdal.SetConfigOption("OGR_CURRENT_DATE", None)


def _create_layer(target: ogr.DataSource, stored: Stored, columns: Mapping[str, str], name: str) -> ogr.Layer:
    layer = target.CreateLayer(name, reference_system(stored.place), ogr.wkbPoint, ["FID=id"])
    for column, kind in columns.items():
        if column != "id":
            layer.CreateField(ogr.FieldDefn(column, getattr(ogr, f"OFT{kind}")))
    describe_layer(layer, stored, legend(stored))
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
