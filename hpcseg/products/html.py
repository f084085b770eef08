"""Pages that need nothing beside them: templates, and how numbers are written there."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hpcseg import __version__
from hpcseg.products.charts import Chart
from hpcseg.products.cog import publishing

_NONE, _FILES = "–", 1000
_KINDS = {".h5": "prediction file (HDF5)", ".tif": "raster", ".gpkg": "vectors, for GIS", ".png": "picture", ".csv": "table"}


def write_page(out: Path, template: str, **values: Any) -> None:
    """Fill a template of hpcseg/products/templates; the page appears whole or not at all. Raises UsageError if it cannot be written."""
    environment = Environment(
        loader=PackageLoader("hpcseg.products"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "whole": whole, "figure": figure, "seconds": seconds, "percent": percent, "area": area, "size": size, "svg": svg, "png": png,
    }  # fmt: skip
    text = environment.get_template(template).render(version=__version__, **values)
    with publishing(out) as part:
        part.write_text(text, encoding="utf-8")


def whole(value: float) -> str:
    """A count: 1,440."""
    return f"{value:,.0f}"


def figure(value: float | None, digits: int = 3) -> str:
    """A measured number to some digits: 71,600, 5.25, 0.0123; a dash for none."""
    if value is None or not math.isfinite(value):
        return _NONE
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):,.{max(0, places)}f}"


def seconds(value: float | None) -> str:
    """A length of time: 0.43 s, 12.3 s, 4 min 12 s, 3 h 05 min, 2 d 4 h."""
    if value is None or not math.isfinite(value):
        return _NONE
    if value < 100:
        return f"{figure(value)} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours_left} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def percent(share: float | None) -> str:
    """A share of 1: 12.3 %, < 0.1 %."""
    if share is None or not math.isfinite(share):
        return _NONE
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def area(square_metres: float | None) -> str:
    """Ground: 1,230 km², 0.52 km², 830 m²."""
    if square_metres is None or not math.isfinite(square_metres):
        return _NONE
    return f"{figure(square_metres / 1e6, 4)} km²" if square_metres >= 1e4 else f"{figure(square_metres, 3)} m²"


def size(count: float) -> str:
    """Bytes: 512 B, 1.20 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{figure(count / factor)} {unit}"
    return f"{count:.0f} B"


def files_of(folder: Path, what: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The files of a folder that are to be fetched: name, size and what they are; maps last, at most a thousand, without pages."""
    paths = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".") and path.suffix != ".html"]
    paths.sort(key=lambda path: path.suffix == ".h5")
    return [(path.name, size(path.stat().st_size), what.get(path.name, _KINDS.get(path.suffix, ""))) for path in paths[:_FILES]]


def svg(chart: Chart) -> str:
    """A chart as an address that holds all of it."""
    return "data:image/svg+xml;base64," + base64.b64encode(chart.svg.encode()).decode()


def png(data: bytes) -> str:
    """A picture as an address that holds all of it."""
    return "data:image/png;base64," + base64.b64encode(data).decode()
