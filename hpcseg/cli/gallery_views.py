"""hpcseg gallery search, show: what is in a gallery, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import Words, config_option, scene_options, stall_option, threads_option
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.gallery import search as searching
from hpcseg.gallery import show as showing
from hpcseg.gallery.spec import read_gallery
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Pulse, on_root

file_path = click.Path(dir_okay=False, path_type=Path)


@click.command("search")
@click.argument("gallery", type=click.Path(path_type=Path))
@click.argument("query")
@click.option("--window", type=Words(int, "1024,512"), default=None, metavar="ROW,COL",
              help="The query is the cell that holds this pixel. Default: the cell in the middle.")
@click.option("-k", "count", type=click.IntRange(1), default=12, show_default=True, help="How many cells to find.")
@click.option("--out", type=file_path, default=None, metavar="FILE.png", help="A contact sheet of them.")
@click.option("--csv", "table", type=file_path, default=None, metavar="FILE.csv", help="All that is known of them.")
@scene_options
@threads_option
@stall_option
@config_option
@click.pass_obj
def search(
    comm: Any, gallery: Path, query: str, window: tuple[int, ...] | None, count: int, out: Path | None, table: Path | None, **arguments: Any
) -> int:
    """Find the cells of GALLERY that are most similar to a window of QUERY, a scene or the name of one in the gallery, or to a picture."""
    on_root(comm, lambda: _check(window))
    options = MapOptions((query,), **arguments)
    place = (window[0], window[1]) if window else None
    with Pulse(comm, options.stall, stop_requested) as pulse:
        asked = searching.read_query(comm, pulse, gallery, query, place, options)
        hits = searching.find_similar(comm, gallery, asked.code, count)

    def report() -> None:
        print("\n".join(searching.hit_lines(asked, hits)))
        if table is not None:
            searching.write_hits(table, hits)
        if out is not None:
            searching.draw_hits(out, asked, hits, read_gallery(gallery))
        for path in filter(None, (table, out)):
            print(f"wrote {path}")

    on_root(comm, report)
    return 0


@click.command("show")
@click.argument("gallery", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the pictures and buckets.csv.")
@click.option("--scene", "scenes", multiple=True, metavar="NAME", help="Draw the map of buckets over this scene too; may be repeated.")
@config_option
@click.pass_obj
def show(comm: Any, gallery: Path, out: Path, scenes: tuple[str, ...]) -> int:
    """Print the sizes of GALLERY's buckets, and draw a contact sheet of each: members from its centroid outwards."""
    sizes, files = showing.show(comm, gallery, out, scenes)
    if comm.rank == 0:
        print("\n".join([*showing.table_lines(sizes), *(f"wrote {path}" for path in files)]))
    return 0


def _check(window: tuple[int, ...] | None) -> None:
    if window is not None and len(window) != 2:
        raise UsageError(f"--window {','.join(map(str, window))}: wanted ROW,COL")
