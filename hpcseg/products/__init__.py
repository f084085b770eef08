"""What a map becomes for others: a compressed GeoTIFF, polygons, a picture with its legend."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hpcseg import store
from hpcseg.errors import UsageError
from hpcseg.products.cog import ClassShare, Product, write_cog
from hpcseg.products.polygons import write_polygons
from hpcseg.products.quicklook import class_shares, write_quicklook

__all__ = ["ClassShare", "Product", "class_shares", "export"]

KINDS = ("cog", "gpkg", "png")


def export(
    prediction: Path,
    kind: Literal["cog", "gpkg", "png"],
    out: Path,
    *,
    scene: Path | None = None,
    title: str = "",
    min_area_px: int = 0,
    connectivity: Literal[4, 8] = 4,
    threads: int = 1,
) -> Product:
    """Make a product of a prediction file. It appears whole or not at all. Memory does not depend on the size of the scene,
    but for polygons on the number of corners of the largest.

    cog: labels with colours, names and overviews; the confidence beside it as `<stem>_confidence`. Uses `threads`.
    gpkg: polygons with their areas; patches below `min_area_px` are merged into their neighbours. connectivity: 8 = pixels that touch
    at a corner belong to one patch.
    png: a picture of the map with `title` (default: the file's stem), legend and scale bar, beside the `scene` if it is given.

    An incomplete map is exported too, and the notes say what is missing. cog and gpkg need one byte per pixel on the disk of
    `out` for a while. Raises StoreError if `prediction` is no prediction file, UsageError if `out` cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"product {kind!r}: wanted one of {', '.join(KINDS)}")
    prediction, out = Path(prediction), Path(out)
    stored = store.read(prediction)
    if out.exists() and out.samefile(prediction):
        raise UsageError(f"{out} is the prediction file itself: name another file")
    if kind == "cog":
        return write_cog(stored, out, threads)
    if kind == "gpkg":
        return write_polygons(stored, out, min_area_px, connectivity)
    return write_quicklook(stored, out, title or prediction.stem, scene)
