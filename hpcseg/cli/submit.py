"""hpcseg submit: the batch script of a stage, with time and nodes that fit it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hpcseg.cli import config_option, count, evaluate, export, gallery, label, predict, stats, train, verify
from hpcseg.errors import UsageError
from hpcseg.inference.options import Options
from hpcseg.mapping.options import MapOptions
from hpcseg.submission.demand import Known, of_network, of_teacher, of_training
from hpcseg.submission.estimate import Ask, Demand, fit
from hpcseg.submission.machines import MACHINES, Resources, submit, write_script

STAGES = {module.command.name: module.command for module in (count, evaluate, export, gallery, label, predict, stats, train, verify)}


class Duration(click.ParamType):
    """A time as schedulers write it, in seconds."""

    name = "H:MM:SS"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        found = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d)(?::([0-5]\d))?", str(value))
        if not found:
            self.fail(f"{value!r}: wanted H:MM or H:MM:SS, such as 4:00:00", parameter, context)
        days, hours, minutes, seconds = (int(each or 0) for each in found.groups())
        return 86400 * days + 3600 * hours + 60 * minutes + seconds


@click.command("submit", context_settings={"allow_interspersed_args": False})
@click.option("--machine", type=click.Choice(list(MACHINES)), default="cluster", show_default=True, help="Which script of slurm/.")
@click.option("--nodes", type=click.IntRange(0), default=0, help="Default: as many as --time-limit takes, else 1.")
@click.option("--ranks-per-node", type=click.IntRange(1), default=None, help="Default: one a GPU, else 1.")
@click.option("--gpus-per-node", type=click.IntRange(0), default=None, help="Default: the machine's; on a cluster none.")
@click.option("--cpus-per-task", type=click.IntRange(1), default=None, help="Cores of a rank. Default: the machine's; on a cluster 1.")
@click.option("--memory-per-node", type=click.FloatRange(0), default=None, metavar="GB", help="Asked of each node under Slurm.")
@click.option("--time-limit", type=Duration(), default="0:00", help="Longest that the queue gives a job.")
@click.option("--time", "asked", type=Duration(), default="0:00", help="Ask for this time; nothing is estimated.")
@click.option("--repeats", type=click.IntRange(0), default=0, help="A job may outlast its limit, and resume so many times.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=None, help="Mpx/s of a rank, samples/s in training, if known.")
@click.option("--like", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of an earlier run: it tells the pace.")
@click.option("--account", default="", help="Whose time it is.")
@click.option("--queue", "--partition", default="", help="Where it waits.")
@click.option("--now", is_flag=True, help="Submit it, and print the job's number.")
@config_option
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def command(comm: Any, machine: str, now: bool, words: tuple[str, ...], **options: Any) -> int:
    """Print the batch script of a stage: WORDS are what would follow `hpcseg`, or a recipe of run/ with its arguments. Time and nodes are
    estimated from the plan and from an earlier run of the stage (in its --out, or --like), else from a short trial on this machine."""
    where = MACHINES[machine]
    resources = _resources(machine, options)
    ask = Ask(resources.nodes, resources.ranks, options["asked"], options["time_limit"], 1e9 * resources.memory, resources.repeats)
    known = Known(options["rate"] or 0.0, options["like"], resources.cpus, resources.gpus > 0, bool(options["asked"]))
    found = fit(_demand(words, known), ask)
    for line in found.told:
        if line.startswith("warning"):
            print(f"hpcseg: {line}", file=sys.stderr)
    resources = resources._replace(nodes=found.nodes, seconds=found.seconds, memory=options["memory_per_node"] or 0.0)
    script = write_script(where, resources, words, found.told)
    if not now:
        print(script, end="")
        return 0
    job, path = submit(where, script, Path(words[0]).stem)
    print(f"job={job}\nscript={path}")
    return 0


def _resources(name: str, options: dict[str, Any]) -> Resources:
    """What is asked for by name, else what the machine has; memory is that of its nodes. Raises UsageError."""
    machine = MACHINES[name]
    gpus = machine.gpus if options["gpus_per_node"] is None else options["gpus_per_node"]
    ranks = options["ranks_per_node"] or gpus or 1
    cpus = options["cpus_per_task"] or machine.cpus
    if machine.fixed and (ranks, gpus, cpus) != (machine.gpus, machine.gpus, machine.cpus):
        raise UsageError(
            f"slurm/{machine.script} starts {machine.gpus} ranks a node, with a GPU and {machine.cpus} cores each:"
            " leave --ranks-per-node, --gpus-per-node and --cpus-per-task away, or change the script"
        )
    memory = options["memory_per_node"] or machine.memory
    return Resources(options["nodes"], ranks, gpus, cpus, 0, memory, options["account"], options["queue"], options["repeats"])


def _demand(words: tuple[str, ...], known: Known) -> Demand:
    """What a stage takes, its arguments checked as it would do itself. Raises UsageError."""
    name, *arguments = words
    if name.endswith(".sh"):
        if not Path(name).is_file():
            raise UsageError(f"{name}: no such recipe; wanted one such as run/buildings.sh, from the repository")
        return Demand()
    if name not in STAGES:
        raise UsageError(f"no stage {name!r}; wanted one of {', '.join(sorted(STAGES))}, or a recipe such as run/buildings.sh")
    with _parse(STAGES[name], name, arguments) as context:
        return _DEMANDS.get(name, lambda context, known: Demand())(context, known)


def _parse(stage: click.Command, name: str, words: list[str]) -> click.Context:
    """The context of a stage, or of a group's command, its arguments read but not run."""
    if isinstance(stage, click.Group):
        part = stage.commands.get(words[0]) if words else None
        if part is None:
            raise UsageError(f"{name} {' '.join(words[:1])}: wanted one of {', '.join(sorted(stage.commands))}")
        return _parse(part, f"{name} {words[0]}", words[1:])
    return stage.make_context(f"hpcseg {name}", words)


def _of_network(context: click.Context, known: Known) -> Demand:
    given = context.params
    names = {each.name for each in fields(Options)}
    options = Options(cache=given["cache_mb"] << 20, **{key: value for key, value in given.items() if key in names})
    return of_network(options, _with_threads(context, known))


def _of_teacher(context: click.Context, known: Known) -> Demand:
    given = context.params
    names = {each.name for each in fields(MapOptions)}
    options = MapOptions(cache=given["cache_mb"] << 20, **{key: value for key, value in given.items() if key in names})
    return of_teacher(options, given["out"], _with_threads(context, known))


def _of_training(context: click.Context, known: Known) -> Demand:
    settings = train.read_flags(**context.params)
    return of_training(settings, _with_threads(context, known))


def _with_threads(context: click.Context, known: Known) -> Known:
    """The threads of a rank: --threads of the stage, else its cores."""
    if context.get_parameter_source("threads") is not ParameterSource.COMMANDLINE:
        return known
    return known._replace(threads=context.params["threads"])


_DEMANDS: dict[str, Callable[[click.Context, Known], Demand]] = {
    "predict": _of_network, "count": _of_network, "label": _of_teacher, "train": _of_training,
}  # fmt: skip
