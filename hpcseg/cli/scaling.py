"""hpcseg scaling: how a stage scales here, and how it would elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hpcseg.cli import Words, config_option
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.raster import list_scenes
from hpcseg.scaling.records import STAGES, TABLE, Mode, read_rows
from hpcseg.scaling.stages import Data
from hpcseg.scaling.study import Study, run_study
from hpcseg.scaling.told import study_lines


@click.group("scaling")
def command() -> None:
    """Show how hpcseg scales: run a stage over ranks and tile sizes, or look past the machine."""


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
    found = tuple(entry.source for entry in list_scenes(list(scenes)))
    if "train" in stages and len(labels) != len(found):
        raise UsageError(f"train: {len(found)} scenes and {len(labels)} --labels, wanted labels of each")
    return Data(found, labels)


def _check(given: tuple[Any, ...], known: tuple[str, ...], what: str) -> None:
    wrong = [each for each in given if each not in known]
    if wrong or not given:
        raise UsageError(f"{what} {wrong[0] if wrong else ''!r}: wanted some of {', '.join(known)}")
