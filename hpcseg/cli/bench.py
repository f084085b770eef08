"""hpcseg bench: how fast each stage is here, alone and together."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from hpcseg.cli import config_option, threads_option
from hpcseg.gallery.bench import SearchTimes, random_codes, time_search
from hpcseg.inference import bench
from hpcseg.kernels.rays import MODES, Sfs
from hpcseg.labels.bench import speckled, time_sfs
from hpcseg.mapping.report import report_lines
from hpcseg.mpi import on_root, patient_barrier, self_comm
from hpcseg.objects.bench import component_lines
from hpcseg.training import bench as train_bench


@click.command("bench")
@click.argument("what", type=click.Choice(["forward", "read", "write", "pipeline", "train", "sfs", "search", "components"]))
@click.option("--network", default="", help="unet, unet-light (default) or one-convolution; with train any, default: the paper's four.")
@click.option("--size", type=click.IntRange(0), default=0, help="Edge in pixels. Default: by network; sfs 1024, components 4096.")
@click.option("--codes", type=click.IntRange(1), default=10_000_000, show_default=True, help="With search: how many codes of 64 bits.")
@click.option("--core", type=click.IntRange(64), default=1024, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--readers", type=click.IntRange(0), default=0, help="Reader threads of a rank. Default: 1 on a CPU, more on a GPU.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Rounds; all figures are medians over them.")
@click.option("--plain", is_flag=True, help="With pipeline, on one rank: also time a plain read-forward-write loop.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="With train: samples of a rank's step.")
@click.option("--steps", type=click.IntRange(1), default=3, show_default=True, help="With train: steps of a round.")
@click.option("--curves", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="With train: instead draw loss and F1 by epoch of all training runs in DIR, DIR/*/history.csv.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("out/bench"), help="Where scenes and maps go.")
@threads_option
@config_option
@click.pass_obj
def command(
    comm: Any, what: str, network: str, codes: int, repeat: int, plain: bool, batch: int, steps: int, curves: Path | None, **arguments: Any
) -> int:
    """Time stages on a synthetic scene (DEFLATE, 512x512 blocks, u8 RGB): forward, read or write alone, the whole pipeline, steps of
    training, the features of a Structural Feature Set (sfs) of a speckled image in memory, the search of codes in memory, or the connected
    components of a map, beside SciPy's."""
    if what == "components":
        on_root(comm, lambda: print("\n".join(component_lines(arguments["folder"], arguments["size"] or 4096, repeat))))
        return 0
    if what == "search":
        on_root(comm, lambda: _search(codes, repeat))
        return 0
    if what == "sfs":
        on_root(comm, lambda: _sfs(arguments["size"] or 1024, arguments["threads"], repeat))
        return 0
    if what == "train":
        networks = (network,) if network else train_bench.NETWORKS
        if curves:
            picture = on_root(comm, lambda: train_bench.draw_together(curves))
            if comm.rank == 0:
                print(f"picture={picture}")
            return 0
        for each in networks:
            precision: Any = "bf16" if arguments["precision"] == "bf16" else "fp32"
            _train(comm, train_bench.Course(each, arguments["folder"], arguments["threads"], batch, steps, precision), repeat)
        return 0
    setting = bench.Setting(network or "unet-light", **arguments)
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


def _sfs(size: int, threads: int, repeat: int) -> None:
    """Measure both modes of the features with one thread and with all, in turn, and print medians over the rounds."""
    image = speckled(size)
    for mode in MODES:
        time_sfs(image[:64], Sfs(mode=mode), 1)
    rounds = [{(mode, n): time_sfs(image, Sfs(mode=mode), n)[0] for mode in MODES for n in {1, threads}} for _ in range(repeat)]
    lines = [f"image={size}x{size} px", f"threads={threads}", f"rounds={repeat}"]
    for mode in MODES:
        seconds = median(each[mode, 1] for each in rounds)
        lines += [f"{mode}={seconds:.3f} s", f"{mode}_rate={size**2 / 1e6 / seconds:.3f} Mpx/s"]
        if threads > 1:
            lines.append(f"{mode}_speedup={median(each[mode, 1] / each[mode, threads] for each in rounds):.3f}")
    print("\n".join(lines))


def _search(n: int, repeat: int) -> None:
    """Find the 12 nearest of many codes on one core, beside the bandwidth of memory and NumPy; medians over the rounds."""
    codes = random_codes(n)
    time_search(codes, codes[0], 12)
    rounds = [time_search(codes, codes[k % n] ^ np.uint64(0xFF), 12) for k in range(repeat)]
    times = SearchTimes(*(1e3 * median(each) for each in zip(*rounds, strict=True)))
    lines = [f"codes={n}", f"rounds={repeat}", *(f"{name}={value:.3f} ms" for name, value in times._asdict().items())]
    print("\n".join([*lines, f"over_numpy={times.numpy / times.search:.1f}", f"over_floor={times.search / times.floor:.2f}"]))


def _train(comm: Any, course: train_bench.Course, repeat: int) -> None:
    """Measure the training of one network and print medians over the rounds."""
    rounds = train_bench.compare_ranks(comm, course, repeat)
    if comm.rank:
        return
    seconds = median(every.seconds for every, _ in rounds)
    lines = [f"network={course.network}", f"ranks={comm.size}", f"threads={course.threads}", f"precision={course.precision}",
             f"sample={course.edge}x{course.edge}x3 px", f"batch_per_rank={course.batch}",
             f"seconds_per_sample={seconds:.4f} s"]  # fmt: skip
    lines += [f"{name}_share={100 * median(every.shares[name] for every, _ in rounds):.2f} %" for name in rounds[0][0].shares]
    if comm.size > 1:
        lines.append(f"speedup={median(one.seconds / every.seconds for every, one in rounds if one):.4f}")
    print("\n".join(lines), flush=True)


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
