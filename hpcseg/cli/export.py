"""hpcseg export: products from prediction files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import config_option, prediction_files
from hpcseg.products import export

_SUFFIX = {"cog": ".tif", "gpkg": ".gpkg", "png": ".png"}


@click.command("export")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.option("--to", "kind", type=click.Choice(list(_SUFFIX)), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for the products. Default: beside the maps.")
@click.option("--scene", type=click.Path(exists=True, path_type=Path), default=None, help="With png: the scene, shown beside its map.")
@click.option("--title", default="", help="With png. Default: the scene's name.")
@click.option("--min-area-px", type=click.IntRange(0), default=0, help="With gpkg: smaller patches are merged into their neighbours.")
@click.option("--connectivity", type=click.Choice(["4", "8"]), default="4", show_default=True,
              help="With gpkg: 8 = pixels that touch at a corner belong to one patch.")  # fmt: skip
@config_option
@click.pass_obj
def command(comm: Any, directory: Path, kind: Any, out: Path | None, connectivity: Any, **arguments: Any) -> int:
    """Export the maps in DIRECTORY: cog = compressed GeoTIFF with overviews, gpkg = polygons, png = quicklook with legend."""
    for path in prediction_files(directory):
        folder = out or path.parent
        folder.mkdir(parents=True, exist_ok=True)
        product = export(path, kind, folder / f"{path.stem}{_SUFFIX[kind]}", connectivity=8 if connectivity == "8" else 4, **arguments)
        print(f"wrote {product.path}")
        for note in product.notes:
            print(f"note: {note}")
    return 0
