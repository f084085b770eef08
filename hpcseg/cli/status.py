"""hpcseg status: how far a run is, without MPI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg import store
from hpcseg.cli import prediction_files


@click.command("status")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def command(comm: Any, directory: Path) -> int:
    """Print the tiles of each prediction file in DIRECTORY by status, and of all together."""
    total = dict.fromkeys(store.STATUS_NAMES, 0)
    for path in prediction_files(directory):
        counts = store.read(path).counts()
        print(f"{path.stem}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
        total = {name: total[name] + count for name, count in counts.items()}
    tiles = sum(total.values())
    left = total["missing"] + total["failed"]
    print("\n".join(f"{name.replace(' ', '_')}_tiles={count}" for name, count in total.items()))
    print(f"complete={100 * (tiles - left) / max(1, tiles):.2f} %")
    return 0
