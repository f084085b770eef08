"""hpcseg evaluate: maps judged against truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from hpcseg.cli import Words, config_option, prediction_files, stall_option, threads_option
from hpcseg.config import LabelSpec, decode_toml
from hpcseg.environment import stop_requested
from hpcseg.errors import UsageError
from hpcseg.evaluation import Evaluation, evaluate, write_json, write_pictures
from hpcseg.mpi import Pulse, on_root
from hpcseg.objects.judging import PointEvaluation, Rule, evaluation_lines, judge_points, write_evaluation
from hpcseg.raster import list_scenes
from hpcseg.scorecard import table_lines, value_lines
from hpcseg.tally import Settings


class ClassesMap(click.ParamType):
    """What label values mean: "0=background,255=building,7=ignore", a TOML file with a table [labels], or a table of a configuration."""

    name = "map"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> LabelSpec:
        if isinstance(value, LabelSpec):
            return value
        if isinstance(value, str) and value.endswith(".toml"):
            return decode_toml(Path(value), _Labels).labels
        pairs = value.items() if isinstance(value, dict) else [each.strip().partition("=")[::2] for each in value.split(",")]
        if not all(key and wanted != "" for key, wanted in pairs):
            self.fail(f"{value!r}: wanted VALUE=CLASS,... or a TOML file with a table [labels]", parameter, context)
        return LabelSpec(map={str(key).strip(): _number_or_name(wanted) for key, wanted in pairs})


class _Labels(msgspec.Struct):
    """The part of a configuration that is about labels."""

    labels: LabelSpec


def _number_or_name(wanted: Any) -> str | int:
    text = str(wanted).strip()
    return int(text) if text.isdigit() else text


def truth_options(command: Callable) -> Callable:
    """The options that say what the truth is."""
    for option in reversed((
        click.option("--labels", multiple=True, metavar="PATH",
                     help="Rasters, prediction files, vector files, globs or folders; they pair by the maps' names. Repeat for more. "
                          "Default: the column label of the maps' manifest."),
        click.option("--classes-map", "spec", type=ClassesMap(), default=LabelSpec(), show_default="values are class numbers",
                     help="VALUE=CLASS,... or #rrggbb=CLASS,..., or a TOML file with a table [labels]."),
        click.option("--ignore", type=Words(int, "255"), default="", metavar="VALUE,...", help="Label values that are not judged."),
        click.option("--field", default="", help="Attribute of vector labels that the map looks up."),
        click.option("--border", type=click.IntRange(0, 512), default=0, show_default=True,
                     help="Pixels on each side of the truth's class borders that are not judged."),
    )):  # fmt: skip
        command = option(command)
    return command


@click.command("evaluate")
@click.argument("directory", type=click.Path(exists=True, path_type=Path))
@truth_options
@click.option("--points", multiple=True, metavar="PATH",
              help="Judge counted objects against marked ones: vector files, tables, Pascal VOC, folders; with --distance.")  # fmt: skip
@click.option("--distance", "distances", type=Words(float, "2,1"), default="", metavar="D,...",
              help="At which counted and marked objects match at most, in metres (pixels where nothing says metres).")  # fmt: skip
@click.option("--pixel-size", type=click.FloatRange(0), default=0.0, help="With --points: metres of a pixel of maps that do not say it.")
@click.option("--block", type=click.IntRange(0), default=0, show_default="scenes; blocks of 256 where there is one scene",
              help="Edge in pixels of the blocks that intervals are resampled over.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), default=None,
              help="File for all counts and figures. Default: evaluation.json beside the maps.")  # fmt: skip
@click.option("--png", is_flag=True, help="Draw scene, truth, map and errors of each map: <map>_evaluation.png.")
@click.option("--png-scenes", type=click.IntRange(1), default=12, show_default=True, help="Draw the first N maps at most.")
@click.option("--scenes", multiple=True, metavar="PATH", help="With --png: the scenes, by the maps' names, drawn too.")
@threads_option
@stall_option
@config_option
@click.pass_obj
def command(
    comm: Any, directory: Path, labels: tuple[str, ...], points: tuple[str, ...], json_path: Path | None, scenes: tuple[str, ...],
    **arguments: Any,
) -> int:  # fmt: skip
    """Judge the maps in DIRECTORY against truth: confusion matrix, IoU, F1, precision, recall, accuracy, with 95 % intervals."""
    stall, distances, pixel_size = (arguments.pop(key) for key in ("stall", "distances", "pixel_size"))
    settings = read_settings(**arguments)
    on_root(comm, lambda: _check_points(points, distances, labels))
    with Pulse(comm, stall, stop_requested) as pulse:
        maps = on_root(comm, lambda: prediction_files(directory))
        path = json_path or maps[0].parent / "evaluation.json"
        images = on_root(comm, lambda: _prepare(path, scenes))
        if points:
            judged = judge_points(comm, pulse, maps, points, Rule(distances, pixel_size, settings.spec))
            return on_root(comm, lambda: _publish_points(judged, path))
        found = evaluate(comm, pulse, maps, labels, settings)
        return on_root(comm, lambda: _publish(found, path, images, pulse))


def read_settings(spec: LabelSpec, ignore: tuple[int, ...], field: str, png: bool, png_scenes: int, **numbers: int) -> Settings:
    """What the options say; flags win over the specification."""
    spec = msgspec.structs.replace(spec, ignore=list(ignore) or spec.ignore, field=field or spec.field)
    return Settings(spec, pictures=png_scenes if png else 0, **numbers)


def _check_points(points: tuple[str, ...], distances: tuple[float, ...], labels: tuple[str, ...]) -> None:
    """Raises UsageError where objects are not to be judged as they can be."""
    if bool(points) != bool(distances) or (points and labels) or any(not each > 0 for each in distances):
        raise UsageError("to judge objects give --points PATH and --distance D,... of more than 0, without --labels")


def _publish_points(found: PointEvaluation | None, path: Path) -> int:
    """Write and print the verdict on objects, on rank 0. Returns the exit code."""
    assert found is not None
    files = write_evaluation(found, path)
    for note in found.notes:
        print(f"note: {note}")
    print("\n".join([*evaluation_lines(found), *(f"{each.suffix[1:]}={each}" for each in files)]))
    return 0


def _prepare(path: Path, scenes: tuple[str, ...]) -> dict[str, Path]:
    """The scenes' rasters by name, the first file of each. Raises UsageError if the report cannot be written where it is wanted."""
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: wanted a file in a folder that exists and is writable (--json)")
    return {each.name: Path(each.parts[0]) for each in list_scenes(scenes)} if scenes else {}


def _publish(found: Evaluation | None, path: Path, images: dict[str, Path], pulse: Pulse) -> int:
    """Write and print the verdict, on rank 0. Returns the exit code."""
    assert found is not None
    report = found.report()
    write_json(report, path)
    written = write_pictures(found, path.parent, images, pulse.step)
    for each in report["refused"]:
        print(f"skipped {each['name']}: {each['reason']}")
    for each in report["failed_tiles"]:
        print(f"failed {each['name']} {each['window']}: {each['reason']}")
    for note in found.notes + written:
        print(f"note: {note}")
    print("\n".join([*table_lines(report), "", *value_lines(report), f"json={path}"]))
    return found.exit_code
