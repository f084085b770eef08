"""What a stage takes: its work from the plan, its pace from an earlier run, from the user, or measured here. Without MPI."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from hpcseg import device
from hpcseg.errors import UsageError
from hpcseg.gallery.members import is_gallery
from hpcseg.gallery.predict import read_gallery_route
from hpcseg.inference.options import Options, choose_core
from hpcseg.inference.pace import measure_pace
from hpcseg.inference.prepare import fitting
from hpcseg.inference.route import read_route
from hpcseg.mapping.options import MapOptions
from hpcseg.mapping.report import Summary, read_record
from hpcseg.planning import Outlook, Way, look_ahead, way_of, window_bytes
from hpcseg.submission.estimate import Demand
from hpcseg.training.pace import make_outline, time_sample
from hpcseg.training.settings import Settings

_RANK, _GPU_RANK = 500e6, 3e9
"""Bytes of a rank that has loaded its libraries, and CUDA's."""
_LABEL_CORE = 1024
_NAMED = 10
_BANDS = 3
_GIVE = "give --like DIR of an earlier run, --rate of a rank, or --time H:MM:SS"


class Known(NamedTuple):
    """What is known of the pace. rate: of a rank, Mpx/s, in training samples/s; 0 = not given. like: folder of an earlier run. threads,
    gpu: of a rank of the job. given: the user says how long it takes."""

    rate: float = 0.0
    like: Path | None = None
    threads: int = 1
    gpu: bool = False
    given: bool = False


class Speed(NamedTuple):
    """Seconds of a tile on a rank, 0 = not asked for. peak: bytes of a rank, by an earlier run. forward: bytes that a forward pass
    takes for a while, as measured. text: where this comes from."""

    seconds: float = 0.0
    peak: float = 0.0
    forward: float = 0.0
    text: str = ""


class _Trained(msgspec.Struct):
    """What train.json says of a run's pace: the steps that its last start made, and the seconds of that start."""

    made: int
    ranks: int
    wall: float


def of_network(options: Options, known: Known) -> Demand:
    """Mapping or counting with a network or a gallery. Raises UsageError where the stage itself would, or where nothing tells the pace."""
    route = read_gallery_route(options) if is_gallery(options.model) else read_route(options)
    core = choose_core(options, route.model)
    options.of_class(route.model.spec)
    way = way_of(options, route, core)._replace(fit=lambda entry, scene: fitting(entry, scene, options, route.model.spec))
    outlook = _look(options, way, options.out)

    def measure() -> Speed:
        _check_device(known)
        pace = measure_pace(options, route, core)
        text = f"measured here on {device.name()}: forward {pace.forward:.3g} s, read {pace.read:.3g} s a window; other nodes may differ"
        return Speed(pace.seconds(known.threads), 0.0, pace.memory, text)

    found = _pace(options.out, core, known, measure)
    memory = found.peak or _rank_bytes(options, way, route.model.spec.bands, known, found.forward)
    return _demand(outlook, found._replace(peak=memory))


def of_teacher(options: MapOptions, out: Path, known: Known) -> Demand:
    """Labels by a rule. Raises UsageError where nothing tells the pace: it is not measured here."""

    def measure() -> Speed:
        raise UsageError(f"how fast this rule is is not known: {_GIVE}")

    way = Way(options.core or _LABEL_CORE)
    outlook = _look(options, way, out)
    return _demand(outlook, _pace(out, way.core, known._replace(gpu=False), measure))


def _look(options: MapOptions, way: Way, out: Path | None = None) -> Outlook:
    """The plan. Raises UsageError if there is no scene, or no room for the maps in `out`."""
    outlook = look_ahead(options, way, 1)
    if not outlook.works:
        raise UsageError(f"no scene can be mapped: {'; '.join(f'{name}: {reason}' for name, reason in outlook.refused[:3])}")
    if out:
        _check_room(out, outlook)
    return outlook


def _check_room(out: Path, outlook: Outlook) -> None:
    """Raises UsageError if what a run would write does not fit on the disk."""
    place = next(each for each in (out, *out.absolute().parents) if each.exists())
    there = sum(path.stat().st_size for name in outlook.names if (path := out / f"{name}.h5").is_file())
    need, free = outlook.output - there, shutil.disk_usage(place).free
    if need > free:
        raise UsageError(f"--out {out}: the maps need {need / 1e9:,.3f} GB, {free / 1e9:,.3f} GB are free: make room or choose another")


def _check_device(known: Known) -> None:
    if known.gpu and device.choose().type == "cpu":
        raise UsageError(f"the job has GPUs and this machine has none to measure their pace on: {_GIVE}")


def _pace(out: Path, core: int, known: Known, measure: Callable[[], Speed]) -> Speed:
    """The best that can be had: the user's, that of an earlier run, what `measure` finds."""
    if known.given:
        return Speed()
    if known.rate:
        return Speed(core**2 / 1e6 / known.rate, text=f"{known.rate:g} Mpx/s of a rank, as given")
    earlier = _earlier_run(known.like or out, wanted=known.like is not None)
    if earlier and known.like and known.gpu is bool(earlier.threads):
        raise UsageError(f"--like {known.like}: that run was on {'CPUs' if known.gpu else 'GPUs'}, the job is not: {_GIVE}")
    if earlier is None or known.gpu is bool(earlier.threads):
        return measure()
    mapped, busy = (sum(values) for values in zip(*((r.mapped_px, r.seconds.get("wall", 0.0)) for r in earlier.ranks), strict=True))
    busy *= earlier.threads / known.threads if earlier.threads else 1
    text = f"{mapped / busy / 1e6:.3g} Mpx/s of a rank, by {known.like or out}/run.json ({earlier.device}, {len(earlier.ranks)} ranks)"
    return Speed(core**2 * busy / mapped, 1e6 * max(rank.peak_memory_mb for rank in earlier.ranks), text=text)


def _earlier_run(folder: Path, wanted: bool) -> Summary | None:
    """What a run left in its folder, None if it mapped nothing. Raises UsageError if it is wanted."""
    try:
        found = msgspec.convert(read_record(folder), Summary)
    except (UsageError, msgspec.ValidationError):
        found = None
    if found and any(rank.mapped_px for rank in found.ranks):
        return found
    if wanted:
        raise UsageError(f"--like {folder}: no report (run.json) of a run that mapped anything")
    return None


def _rank_bytes(options: Options, way: Way, bands: int, known: Known, forward: float) -> float:
    """Main memory of a rank: libraries, buffers, the cache of cells and, on a CPU, what the forward passes of all threads take."""
    depth = 3 * options.batch if known.gpu else known.threads
    buffers = (depth + known.threads + 2) * window_bytes(way.core, way.halo, bands, len(way.planes))
    return (_GPU_RANK if known.gpu else _RANK + known.threads * forward) + buffers + options.cache


def _demand(outlook: Outlook, pace: Speed) -> Demand:
    units = outlook.plan.load.sum() / outlook.unit
    said = [f"scenes: {len(outlook.works)}, tiles with data: {units:,.0f}, maps: {outlook.output / 1e9:.3f} GB"]
    memories = [f"memory of a rank: about {pace.peak / 1e9:.2f} GB"] if pace.peak else []
    busy = sum(int((work.cost > 0).sum()) for work in outlook.works)
    return Demand(units, pace.seconds, max(1, busy), pace.peak, (*said, *_left_out(outlook), *[pace.text] * bool(pace.text), *memories))


def _left_out(outlook: Outlook) -> list[str]:
    """Warnings of scenes that cannot be opened, a few by name."""
    named = [f"warning: {name} is left out: {reason}" for name, reason in outlook.refused[:_NAMED]]
    return named + [f"warning: and {len(outlook.refused) - _NAMED} more"] * (len(outlook.refused) > _NAMED)


def of_training(settings: Settings, known: Known) -> Demand:
    """A training run: as if all its scenes were labelled everywhere. Raises UsageError where nothing tells the pace."""
    options = MapOptions(
        settings.scenes, bands=settings.bands, nodata=settings.nodata, nodata_rule=settings.nodata_rule, crs=settings.crs,
        resolution=settings.resolution, align=settings.align, aoi=settings.aoi, assets=settings.assets,
    )  # fmt: skip
    outlook = _look(options, Way(settings.tile, planes=()))
    samples = float(outlook.plan.load.sum()) * (1 - settings.validation - settings.test)
    said = [f"at most {samples:,.0f} samples an epoch, {settings.epochs} epochs", *_left_out(outlook)]
    make_outline(settings, len(settings.bands) or _BANDS)
    seconds, text = _training_pace(settings, known)
    return Demand(samples * settings.epochs, seconds, 0 if settings.batch_per_rank else settings.batch, 0.0, (*said, *[text] * bool(text)))


def _training_pace(settings: Settings, known: Known) -> tuple[float, str]:
    """Seconds of a sample on a rank, and words for the source."""
    if known.given:
        return 0.0, ""
    if known.rate:
        return 1 / known.rate, f"{known.rate:g} samples/s of a rank, as given"
    path = (known.like or settings.out) / "train.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Trained)
        if not found.made:
            raise UsageError("its last start made no step")
    except (OSError, msgspec.MsgspecError, UsageError) as error:
        if known.like:
            raise UsageError(f"--like {known.like}: no report of a training run (train.json) that tells its pace: {error}") from error
        return _measured_sample(settings, known)
    batch = settings.batch_per_rank * found.ranks or settings.batch
    text = f"{found.wall / found.made:.3g} s a step of {batch} on {found.ranks} ranks, by {path}"
    return found.wall * found.ranks / found.made / batch, text


def _measured_sample(settings: Settings, known: Known) -> tuple[float, str]:
    _check_device(known)
    seconds = time_sample(settings, len(settings.bands) or _BANDS, known.threads)
    return seconds, f"measured here on {device.name()}, {known.threads} threads: {seconds:.3g} s a sample; other nodes may differ"
