"""Tables as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpcseg.products.cog import publishing


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a table; the file appears whole or not at all. Returns `path`. Raises UsageError."""
    with publishing(path) as part, part.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path
