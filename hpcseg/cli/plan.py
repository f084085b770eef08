"""hpcseg plan: the partition before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from hpcseg.cli import config_option, scene_options
from hpcseg.gallery.members import is_gallery
from hpcseg.gallery.predict import read_gallery_route
from hpcseg.inference.options import Options, choose_core
from hpcseg.inference.route import read_route
from hpcseg.planning import halo_share, look_ahead, way_of, window_bytes, write_spans


@click.command("plan")
@click.argument("scenes", nargs=-1, required=True)
@click.option("--ranks", type=click.IntRange(1), required=True, help="Number of MPI ranks.")
@click.option("--model", default="sea-ice", show_default=True, help="Decides halo and bands; a gallery also costs.")
@click.option("--core", type=click.IntRange(0), default=0, help="Edge of what a tile writes. Default 1024.")
@click.option("--confidence", is_flag=True)
@click.option("--spans", type=click.Path(path_type=Path), default=None, help="Write who maps what to this CSV file.")
@scene_options
@config_option
@click.pass_obj
def command(comm: Any, ranks: int, spans: Path | None, **arguments: Any) -> int:
    """Print how SCENES would be shared out. A CSV manifest with the columns scene,height,width[,footprint,transform] opens no raster."""
    options = Options(out=Path(), **arguments)
    route = read_gallery_route(options) if is_gallery(options.model) else read_route(options)
    model = route.model
    core = choose_core(options, model)
    outlook = look_ahead(options, way_of(options, route, core), ranks)
    load, bands = outlook.plan.load / outlook.unit, options.bands or range(model.spec.bands)
    for name, reason in outlook.refused:
        print(f"skipped {name}: {reason}")
    print(f"scenes={len(outlook.works)}")
    print(f"tiles={outlook.plan.size}")
    print(f"forward_passes={load.sum():.10g}")
    print(f"ranks={ranks}")
    print(f"forward_passes_per_rank={load.mean():.2f} (least {load.min():.10g}, most {load.max():.10g})")
    print(f"ranks_without_work={int((np.bincount(np.concatenate(outlook.plan.ranks), minlength=ranks) == 0).sum())}")
    print(f"shared_files={len(outlook.plan.shared_scenes())}")
    print(f"core={core} px")
    print(f"halo={model.halo} px")
    print(f"computed_over_kept={halo_share(core, model.halo):.3f}")
    print(f"buffer={window_bytes(core, model.halo, len(bands), len(options.planes(model.spec))) / 1e6:.1f} MB")
    print(f"output={outlook.output / 1e9:.3f} GB")
    print(f"imbalance={outlook.plan.imbalance:.4f}")
    if spans is not None:
        write_spans(outlook, spans)
    return 3 if outlook.refused else 0
