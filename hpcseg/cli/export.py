"""hpcseg export: products from prediction files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import config_option, prediction_files
from hpcseg.products import export


@click.command("export")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@click.option("--to", "kind", type=click.Choice(["cog", "gpkg", "png"]), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Folder for the products. Default: beside the maps.")
@click.option("--scene", type=click.Path(exists=True, path_type=Path), default=None, help="With png: the scene, shown beside its map.")
@config_option
@click.pass_obj
def command(comm: Any, directory: Path, kind: Any, out: Path | None, scene: Path | None) -> int:
    """Export the maps in DIRECTORY: cog = compressed GeoTIFF with overviews, gpkg = polygons, png = quicklook with legend."""
    for path in prediction_files(directory):
        product = export(path, kind, out or path.parent, scene=scene)
        print(f"wrote {product.path}")
        for note in product.notes:
            print(f"note: {note}")
    return 0
