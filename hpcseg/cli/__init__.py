"""Command lines: one module a command, each a click command that parses, calls a stage and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from hpcseg.errors import HpcsegError, UsageError


def execute(command: click.Command, arguments: list[str], comm: Any, first: bool) -> int:
    """Run a command and return its exit code; an error that all ranks share is one line on the first of them."""
    try:
        return command.main(arguments, prog_name=f"hpcseg {command.name}", standalone_mode=False, obj=comm) or 0
    except click.ClickException as error:
        return _say(error.format_message(), UsageError.exit_code, first)
    except HpcsegError as error:
        if comm is not None and comm.size > 1 and not getattr(error, "shared", False):
            raise
        return _say(str(error), error.exit_code, first)


def _say(message: str, code: int, first: bool) -> int:
    if first:
        print(f"hpcseg: {' '.join(message.split())}", file=sys.stderr)
    return code


def _read_config(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Make the keys of a TOML file the defaults of the command: flags win, unknown keys are refused by name."""
    if path is None:
        return
    try:
        values = msgspec.toml.decode(Path(path).read_bytes())
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise click.UsageError(f"{path}: {error}") from error
    known = {flag.removeprefix("--"): each for each in context.command.params if each.name != "config" for flag in each.opts}
    for key, value in values.items():
        name = key.replace("_", "-")
        if name not in known:
            raise click.UsageError(f"{path}: no key {key!r}; wanted one of {', '.join(sorted(known))}")
        if isinstance(known[name].type, click.Path) and not isinstance(value, (str, list)):
            raise click.UsageError(f"{path}: {key} is {value!r}, wanted a path")
        if getattr(known[name], "is_flag", False) and not isinstance(value, bool):
            raise click.UsageError(f"{path}: {key} is {value!r}, wanted true or false")
    context.default_map = {known[key.replace("_", "-")].name: value for key, value in values.items()}


config_option = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False), is_eager=True, expose_value=False, callback=_read_config,
    help="TOML file with these options as keys; flags win.",
)  # fmt: skip
threads_option = click.option(
    "--threads", type=click.IntRange(1), default=lambda: int(os.environ["HPCSEG_THREADS"]),
    show_default="cores of this rank", help="Tiles mapped at once on a CPU.",
)  # fmt: skip
stall_option = click.option(
    "--stall",
    type=click.FloatRange(1),
    default=600.0,
    show_default=True,
    help="Seconds without progress of any rank before the job ends.",
)


class Words(click.ParamType):
    """Several values of one kind: "3,2,1" on the command line, a list in a configuration."""

    name = "list"

    def __init__(self, kind: type, example: str) -> None:
        self._kind, self._example = kind, example

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[Any, ...]:
        words = [each.strip() for each in value.split(",") if each.strip()] if isinstance(value, str) else value
        try:
            return tuple(self._kind(each) for each in words)
        except (TypeError, ValueError):
            self.fail(f"{value!r}: wanted values such as {self._example}", parameter, context)


class Part(click.ParamType):
    """K/N, from 1/1 to N/N."""

    name = "part"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        number, _, of = str(value).partition("/")
        if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
            self.fail(f"{value!r}: wanted K/N, such as 3/10 for the third of ten parts", parameter, context)
        return int(number), int(of)


part_option = click.option(
    "--part", type=Part(), default=(1, 1), metavar="K/N", envvar="HPCSEG_PART", show_envvar=True,
    help="Only every N-th scene, from the K-th, of a manifest or of files by name: for N jobs of an array. They write run.KofN.json and "
    "failed.KofN.csv.",
)  # fmt: skip


def _check_hints(context: click.Context, parameter: click.Parameter, hints: tuple[str, ...]) -> tuple[str, ...]:
    for hint in hints:
        if not hint.partition("=")[0] or not hint.partition("=")[2]:
            raise click.BadParameter(f"{hint!r}: wanted KEY=VALUE, such as striping_factor=16")
    return tuple(hints)


def file_options(command: Callable) -> Callable:
    """The options that say how prediction files lie on a parallel file system. No map depends on them."""
    for option in reversed((
        click.option("--stripe", type=click.IntRange(0), default=0, metavar="MB",
                     help="Stripe (Lustre) or block (GPFS) of the file system: chunks of the maps begin at its multiples or fill it, so "
                     "that a write touches one. Needs a core of 1024 or its multiples."),
        click.option("--mpi-io", multiple=True, callback=_check_hints, metavar="KEY=VALUE",
                     help="Hint to MPI-IO, again and again: striping_factor=16, striping_unit=1048576, romio_ds_write=disable ... What "
                     "the MPI library does not know it ignores. Files are never locked, unless HDF5_USE_FILE_LOCKING says so."),
    )):  # fmt: skip
        command = option(command)
    return command


def scene_options(command: Callable) -> Callable:
    """The options that say how scenes are read."""
    for option in reversed((
        click.option("--bands", default="", type=Words(int, "3,2,1"), metavar="N,...", help="Bands, from 1. Default: all but alpha."),
        click.option("--nodata", type=float, default=None, help="Value of no data, instead of the file's own."),
        click.option("--nodata-rule", type=click.Choice(["all", "any"]), default="all", show_default=True,
                     help="A pixel is no data if all, or any, of its bands are."),
        click.option("--crs", default="", help="Read the scenes warped to this reference system (EPSG:n or WKT)."),
        click.option("--resolution", type=click.FloatRange(0), default=0.0, help="Read the scenes resampled to this pixel size."),
        click.option("--aoi", default="", help="Vector file of polygons: outside is no data and costs nothing."),
        click.option("--assets", default="", type=Words(str, "B04,B02"), metavar="NAME,...", help="Assets of STAC items, in this order."),
        click.option("--align", is_flag=True, help="Warp the parts of a stack onto the first one's grid."),
    )):  # fmt: skip
        command = option(command)
    return command


def run_options(command: Callable) -> Callable:
    """The options that say how a run over the tiles of scenes is done."""
    for option in reversed((
        click.option("--strict", is_flag=True, help="Stop at the first tile that cannot be read."),
        click.option("--readers", type=click.IntRange(0), default=0,
                     help="Reader threads of a rank. Default: 1, more for a network on a GPU."),
        click.option("--cache", "cache_mb", type=click.IntRange(1), default=64, show_default=True,
                     help="MB of decoded pixels that a rank keeps."),
        threads_option,
        stall_option,
        config_option,
    )):  # fmt: skip
        command = option(command)
    return command


def prediction_files(directory: Path) -> list[Path]:
    """The prediction files of a folder, or the one named. Raises UsageError if there is none."""
    found = [directory] if directory.is_file() else sorted(directory.glob("[!.]*.h5"))
    if not found:
        raise UsageError(f"{directory}: no prediction files (*.h5) here")
    return found
