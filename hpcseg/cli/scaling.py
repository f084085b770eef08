"""hpcseg scaling: how a stage scales here, and how it would elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hpcseg.cli import Words, config_option
from hpcseg.cli.scaling_report import report
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.raster import list_scenes
from hpcseg.scaling.costs import calibrate, the_kind
from hpcseg.scaling.records import STAGES, TABLE, Mode, Row, read_rows
from hpcseg.scaling.resflow import case_lines
from hpcseg.scaling.simulate import SCHEMES, Archive
from hpcseg.scaling.stages import Data
from hpcseg.scaling.study import Study, run_study
from hpcseg.scaling.told import simulation_lines, study_lines
from hpcseg.scaling.validate import check_lines, validate
from hpcseg.synthetic.scene import TILT


@click.group("scaling")
def command() -> None:
    """Show how hpcseg scales: run a stage over ranks and tile sizes, or look past the machine."""


command.add_command(report)


def study_options(function: Callable) -> Callable:
    """What strong and weak studies take."""
    for option in reversed((
        click.argument("stages", type=Words(str, "predict,label,train")),
        click.argument("scenes", nargs=-1),
        click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the table, study.csv."),
        click.option("--ranks", type=Words(int, "1,2,4"), default="1,2", show_default=True, metavar="N,..."),
        click.option("--tiles", type=Words(int, "256,512"), default="512", show_default=True, metavar="PX,...",
                     help="Edges of what a tile writes."),
        click.option("--precisions", type=Words(str, "bf16,fp32"), default="fp32", show_default=True, metavar="NAME,..."),
        click.option("--partitions", type=Words(str, "hilbert,rows"), default="hilbert", show_default=True, metavar="NAME,...",
                     help="Order of tiles that is cut into spans: of scenes in blocks (hilbert) or in strips (rows)."),
        click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Runs of each combination."),
        click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of a rank."),
        click.option("--labels", multiple=True, help="With train and given SCENES: their labels, in the same order."),
        click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Synthetic scenes; weak: of a rank."),
        click.option("--size", type=click.IntRange(0), default=0, help="Edge of synthetic scenes. Default: by stage."),
        click.option("--model", default="", help="Model, network or teacher. Default: sea-ice; train: unet-light; label: ice."),
        click.option("--sample", type=click.IntRange(16), default=256, show_default=True, help="Edge of training samples."),
        click.option("--launch", default="", metavar="WORDS", help='How ranks are started, such as "mpirun --bind-to core -n {ranks}". '
                     "Default: srun within Slurm, else mpirun."),
        click.option("--limit", type=click.FloatRange(1), default=600.0, show_default=True, help="Seconds after which a run has failed."),
        click.option("--extra", default="", metavar="WORDS", help='Further words of each run\'s command, such as "--filter none".'),
        config_option,
    )):  # fmt: skip
        function = option(function)
    return function


@command.command("strong")
@study_options
def strong(**given: Any) -> int:
    """The same work on more ranks: STAGES of predict, label, train, count over SCENES, or over synthetic ones. Resumes."""
    return _run("strong", **given)


@command.command("weak")
@study_options
def weak(**given: Any) -> int:
    """As many scenes as ranks: STAGES of predict, label, train, count over SCENES, or over synthetic ones. Resumes."""
    return _run("weak", **given)


def _run(mode: Mode, stages: tuple[Any, ...], scenes: tuple[str, ...], labels: tuple[str, ...], **given: Any) -> int:
    _check(stages, STAGES, "stage")
    _check(given["partitions"], ("hilbert", "rows"), "--partitions")
    _check(given["precisions"], ("fp32", "bf16", "fp16"), "--precisions")
    if min((*given["ranks"], *given["tiles"])) < 1:
        raise UsageError(f"--ranks {given['ranks']} --tiles {given['tiles']}: wanted numbers of 1 or more")
    data = _data(stages, scenes, labels, given["partitions"]) if scenes else None
    study = Study(mode, stages, data=data, **given)
    study.work.mkdir(parents=True, exist_ok=True)
    failed = run_study(study, stop_requested)
    if (study.out / TABLE).exists():
        print("\n".join(study_lines(read_rows(study.out))))
    print("\n".join([*failed, f"table={study.out / TABLE}", f"failed_runs={len(failed)}"]))
    return 3 if failed else 0


def _data(stages: tuple[str, ...], scenes: tuple[str, ...], labels: tuple[str, ...], partitions: tuple[str, ...]) -> Data:
    """Given scenes; their order of tiles is what their files make it."""
    if len(partitions) > 1:
        raise UsageError(f"--partitions {','.join(partitions)}: given scenes are in blocks or in strips already; wanted one name")
    found = tuple("+".join(entry.parts) for entry in list_scenes(list(scenes)))
    if "train" in stages and len(labels) != len(found):
        raise UsageError(f"train: {len(found)} scenes and {len(labels)} --labels, wanted labels of each")
    return Data(found, labels)


def _check(given: tuple[Any, ...], known: tuple[str, ...], what: str) -> None:
    wrong = [each for each in given if each not in known]
    if wrong or not given:
        raise UsageError(f"{what} {wrong[0] if wrong else ''!r}: wanted some of {', '.join(known)}")


@command.command("simulate")
@click.option("--case", type=click.Choice(["resflow"]), default=None, help="Instead: RESFlow's 1,440 scenes on 28 GPUs, from its tables.")
@click.option("--calibrate", "study", type=click.Path(exists=True, path_type=Path), default=None, metavar="DIR",
              help="A study with runs of predict on one rank: gives the rates.")
@click.option("--tile", type=click.IntRange(1), default=512, show_default=True, help="The one size of tile whose runs give the rates.")
@click.option("--validate", "checked", is_flag=True, help="Instead: foretell all runs of the study from those, and print the errors.")
@click.option("--precision", default="", help="Of the runs that give the rates, if there are several.")
@click.option("--partition", default="", help="Likewise: hilbert or rows.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Likewise: of a rank.")
@click.option("--ranks", type=Words(int, "1,28"), default="1,28,1024,27360", show_default=True, metavar="N,...")
@click.option("--schemes", type=Words(str, "spans,cyclic"), default=",".join(SCHEMES), show_default=True, metavar="NAME,...",
              help="Who gets which tile: spans, as hpcseg does; one in turn (cyclic); whoever is free (dynamic).")
@click.option("--scenes", type=click.IntRange(1), default=1440, show_default=True)
@click.option("--height", type=click.IntRange(1), default=40_000, show_default=True, help="Of a scene in pixels.")
@click.option("--width", type=click.IntRange(1), default=35_000, show_default=True)
@click.option("--core", type=click.IntRange(1), default=1024, show_default=True, help="Edge of what a tile writes.")
@click.option("--halo", type=click.IntRange(0), default=None, help="Default: that of the runs.")
@click.option("--swath", is_flag=True, help="Scenes are tilted within their frame: the corners hold no data.")
@click.option("--pace", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="How many times as fast as measured the network is there, such as on a GPU.")
@click.option("--file-system", type=click.FloatRange(0), default=0.0, show_default=True, metavar="GB/s",
              help="What all ranks share; 0 = no limit.")
@click.option("--start-log", type=click.FloatRange(0), default=0.0, show_default=True, help="Seconds of start for each doubling of ranks.")
@click.option("--tile-spread", type=click.FloatRange(0), default=0.0, show_default=True, help="Deviation of the log of a tile's time.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@config_option
def simulated(case: str | None, study: Path | None, tile: int, checked: bool, seed: int, **given: Any) -> int:
    """How long an archive takes on more ranks than there are here: makespan, balance, where the file system saturates."""
    if case:
        print("\n".join(case_lines(seed)))
        return 0
    if study is None:
        raise UsageError("wanted --calibrate DIR, a study made by hpcseg scaling strong predict, or --case resflow")
    rows = read_rows(study)
    print("\n".join(check_lines(validate(rows, tile)) if checked else _foretell(rows, tile, seed, **given)))
    return 0


def _foretell(rows: list[Row], tile: int, seed: int, schemes: tuple[Any, ...], ranks: tuple[int, ...], **given: Any) -> list[str]:
    """The lines of a simulation."""
    _check(schemes, SCHEMES, "--schemes")
    if min(ranks) < 1:
        raise UsageError(f"--ranks {','.join(map(str, ranks))}: wanted numbers of 1 or more")
    kind, own = the_kind(rows, **{name: given[name] for name in ("precision", "partition", "threads")})
    found = calibrate(own, tile)
    network = {name: getattr(found, name) / given["pace"] for name in ("forward", "touch")}
    rates = replace(found, **network, start_log=given["start_log"], tile_spread=given["tile_spread"])
    halo = own[0].halo if given["halo"] is None else given["halo"]
    tilt = TILT if given["swath"] else 0.0
    archive = Archive(given["scenes"], given["height"], given["width"], given["core"], halo, tilt, kind.partition == "rows")
    return simulation_lines(archive, rates, ranks, schemes, given["file_system"] * 1e9 or math.inf, seed)
