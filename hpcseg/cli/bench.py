"""hpcseg bench: how fast each stage is here, alone and together."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import click

from hpcseg.cli import config_option, threads_option
from hpcseg.inference import bench
from hpcseg.inference.predict import report_lines
from hpcseg.mpi import on_root, patient_barrier, self_comm


@click.command("bench")
@click.argument("what", type=click.Choice(["forward", "read", "write", "pipeline"]))
@click.option("--network", default="unet-light", show_default=True, help="unet, unet-light or one-convolution.")
@click.option("--size", type=click.IntRange(0), default=0, help="Edge of the scene in pixels. Default: by network.")
@click.option("--core", type=click.IntRange(64), default=1024, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--readers", type=click.IntRange(0), default=0, help="Reader threads of a rank. Default: 1 on a CPU, more on a GPU.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Rounds; all figures are medians over them.")
@click.option("--plain", is_flag=True, help="With pipeline, on one rank: also time a plain read-forward-write loop.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("out/bench"), help="Where scenes and maps go.")
@threads_option
@config_option
@click.pass_obj
def command(comm: Any, what: str, repeat: int, plain: bool, **arguments: Any) -> int:
    """Time stages on a synthetic scene (DEFLATE, 512x512 blocks, u8 RGB): forward, read or write alone, or the whole pipeline."""
    setting = bench.Setting(**arguments)
    on_root(comm, lambda: bench.check_network(setting.network))
    bench.prepare(comm, setting)
    settled = bench.settled_run(comm, setting, "settled")
    rounds = [_round(comm, setting, settled, what) for _ in range(repeat)]
    lines = [
        f"network={setting.network}",
        f"ranks={comm.size}",
        f"threads={setting.threads}",
        f"precision={settled.recipe.precision}",
        f"scene={setting.edge}x{setting.edge} px",
        f"tiles={settled.plan.size}",
        f"rounds={repeat}",
    ]
    for name in rounds[0]:
        seconds = median(each[name] for each in rounds)
        lines.append(f"{name}={seconds:.3f} s")
        if name != "allocation":
            lines.append(f"{name}_rate={setting.edge**2 / 1e6 / seconds:.3f} Mpx/s")
    if what == "pipeline":
        lines += _ratios(rounds) + _comparisons(comm, setting, settled, rounds, plain)
    if comm.rank == 0:
        print("\n".join(lines))
    return 0


def _round(comm: Any, setting: bench.Setting, settled: Any, what: str) -> dict[str, float]:
    """Seconds of each stage, one after the other, so that ratios compare the same minutes of the machine."""
    seconds: dict[str, float] = {}
    if what in ("read", "pipeline"):
        seconds["read"] = bench.time_read(comm, setting, settled)
    if what in ("write", "pipeline"):
        seconds["write"], seconds["allocation"] = bench.time_write(comm, setting, settled)
    if what in ("forward", "pipeline"):
        seconds["forward"] = bench.time_forward(comm, setting, settled)
    if what == "pipeline":
        seconds["pipeline"], summary = bench.run_pipeline(comm, setting, "pipeline")
        if summary is not None:
            print(report_lines(summary)[0], flush=True)
    if what == "pipeline" and comm.size > 1:
        if comm.rank == 0:
            seconds["one_rank"] = bench.run_pipeline(self_comm(), setting, "alone")[0]
        patient_barrier(comm)
        seconds["one_rank"] = comm.bcast(seconds.get("one_rank"))
    return seconds


def _ratios(rounds: list[dict[str, float]]) -> list[str]:
    """The whole run against its stages: medians of each round's ratio."""

    def ratio(above: Any, below: Any) -> float:
        return median(above(each) / max(below(each), 1e-9) for each in rounds)

    stages = {name: median(each[name] for each in rounds) for name in ("read", "forward", "write")}
    lines = [
        f"efficiency={ratio(lambda r: r['forward'], lambda r: r['pipeline']):.4f}",
        f"of_slower_of_read_and_write={ratio(lambda r: max(r['read'], r['write']), lambda r: r['pipeline']):.4f}",
        f"allocation_over_write={ratio(lambda r: r['allocation'], lambda r: r['write']):.3f}",
        f"bottleneck={max(stages, key=lambda name: stages[name])}",
    ]
    if "one_rank" in rounds[0]:
        lines.append(f"speedup={ratio(lambda r: r['one_rank'], lambda r: r['pipeline']):.4f}")
    return lines


def _comparisons(comm: Any, setting: bench.Setting, settled: Any, rounds: list[dict[str, float]], plain: bool) -> list[str]:
    """The same work by the loop that people write first."""
    if not plain or comm.size > 1:
        return []
    loop, path = bench.time_plain(setting, settled)
    agreement = bench.labels_agree(path, setting.folder / "pipeline" / "ice_000.h5")
    over = loop / median(each["pipeline"] for each in rounds)
    return [f"plain_loop={loop:.3f} s", f"over_plain_loop={over:.3f}", f"plain_agreement={100 * agreement:.4f} %"]
