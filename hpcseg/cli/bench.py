"""hpcseg bench: how fast each stage is here, alone and together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcseg.cli import config_option, threads_option
from hpcseg.inference import bench
from hpcseg.inference.predict import report_lines
from hpcseg.mpi import on_root, self_comm


@click.command("bench")
@click.argument("what", type=click.Choice(["forward", "read", "write", "pipeline"]))
@click.option("--network", default="unet-light", show_default=True, help="unet, unet-light or one-convolution.")
@click.option("--size", type=click.IntRange(0), default=0, help="Edge of the scene in pixels. Default: by network.")
@click.option("--core", type=click.IntRange(64), default=1024, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--readers", type=click.IntRange(1), default=1, show_default=True, help="Reader threads of a rank.")
@click.option("--plain", is_flag=True, help="With pipeline, on one rank: also time a plain read-forward-write loop.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("out/bench"), help="Where scenes and maps go.")
@threads_option
@config_option
@click.pass_obj
def command(comm: Any, what: str, plain: bool, **arguments: Any) -> int:
    """Time stages on a synthetic scene (DEFLATE, 512x512 blocks, u8 RGB): forward, read or write alone, or the whole pipeline."""
    setting = bench.Setting(**arguments)
    on_root(comm, lambda: bench.check_network(setting.network))
    bench.prepare(comm, setting)
    settled = bench.settled_run(comm, setting, "settled")
    megapixels = setting.edge**2 / 1e6
    seconds: dict[str, float] = {}
    if what in ("read", "pipeline"):
        seconds["read"] = bench.time_read(comm, setting, settled)
    if what in ("write", "pipeline"):
        seconds["write"], seconds["allocation"] = bench.time_write(comm, setting, settled)
    if what in ("forward", "pipeline"):
        seconds["forward"] = bench.time_forward(comm, setting, settled)
    lines = [f"network={setting.network}", f"ranks={comm.size}", f"threads={setting.threads}", f"precision={settled.recipe.precision}",
             f"scene={setting.edge}x{setting.edge} px", f"tiles={settled.plan.size}"]  # fmt: skip
    for name, value in seconds.items():
        lines += [f"{name}={value:.3f} s"] + ([f"{name}_rate={megapixels / value:.3f} Mpx/s"] if name != "allocation" else [])
    if what == "pipeline":
        lines += _pipeline(comm, setting, settled, seconds, plain)
    if comm.rank == 0:
        print("\n".join(lines))
    return 0


def _pipeline(comm: Any, setting: bench.Setting, settled: Any, seconds: dict[str, float], plain: bool) -> list[str]:
    """The whole run, and its ratios to the stages."""
    whole, summary = bench.run_pipeline(comm, setting, "pipeline")
    floor = max(seconds["read"], seconds["write"])
    stages = {name: seconds[name] for name in ("read", "forward", "write")}
    lines = [
        f"pipeline={whole:.3f} s",
        f"pipeline_rate={setting.edge**2 / 1e6 / whole:.3f} Mpx/s",
        f"efficiency={seconds['forward'] / whole:.4f}",
        f"of_slower_of_read_and_write={floor / whole:.4f}",
        f"allocation_over_write={seconds['allocation'] / max(seconds['write'], 1e-9):.3f}",
        f"bottleneck={max(stages, key=lambda name: stages[name])}",
    ]
    if summary is not None:
        lines += ["-- the run's own account --", *report_lines(summary)]
    if comm.size > 1:
        alone = [0.0]
        if comm.rank == 0:
            alone = [bench.run_pipeline(self_comm(), setting, "alone")[0]]
        bench.patient_barrier(comm)
        lines += [f"one_rank={alone[0]:.3f} s", f"speedup={alone[0] / whole:.4f}"]
    elif plain:
        loop, path = bench.time_plain(setting, settled)
        agreement = bench.labels_agree(path, setting.folder / "pipeline" / "ice_000.h5")
        lines += [f"plain_loop={loop:.3f} s", f"over_plain_loop={loop / whole:.3f}", f"plain_agreement={100 * agreement:.4f} %"]
    return lines
