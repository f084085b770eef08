"""hpcseg verify: every tile present and its CRC right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from hpcseg import store
from hpcseg.cli import config_option, prediction_files, stall_option
from hpcseg.environment import stop_requested
from hpcseg.mpi import Pulse, on_root, share_out

_BATCH = 32


@click.command("verify")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@stall_option
@config_option
@click.pass_obj
def command(comm: Any, directory: Path, stall: float) -> int:
    """Compare every tile in DIRECTORY with its CRC; ranks share out the reading. Exit code 3 if a tile is missing or wrong."""
    with Pulse(comm, stall, stop_requested) as pulse:
        paths = on_root(comm, lambda: prediction_files(directory))
        files = share_out(comm, paths, store.read)
        items = [(k, start) for k, each in enumerate(files) for start in range(0, each.layout.grid.size, _BATCH)]

        def look(item: tuple[int, int]) -> np.ndarray:
            scene, start = item
            pulse.step()
            return store.check(files[scene], np.arange(start, min(start + _BATCH, files[scene].layout.grid.size)))

        right = share_out(comm, items, look)
    bad = sum(int((~each).sum()) for each in right)
    if comm.rank == 0:
        for k, path in enumerate(paths):
            parts = [r for (scene, _), r in zip(items, right, strict=True) if scene == k]
            wrong = np.flatnonzero(~np.concatenate(parts))
            status = files[k].status.ravel()
            for tile in wrong:
                window = files[k].layout.grid.core_window(int(tile))
                name = store.STATUS_NAMES[status[tile]]
                print(f"{path.stem} {window}: {name if status[tile] in (store.MISSING, store.FAILED) else 'bytes differ from their CRC'}")
        print(f"files={len(paths)}\ntiles={sum(map(len, right))}\nwrong_tiles={bad}")
    return 3 if bad else 0
