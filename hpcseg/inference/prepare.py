"""All that is settled before the first tile is mapped: scenes, earlier results, precision, normalisation, the plan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hpcseg import device, store
from hpcseg.area import pixel_width_m
from hpcseg.config import ModelSpec
from hpcseg.environment import phase
from hpcseg.errors import ReadError, SceneError, UsageError
from hpcseg.inference.engine import CpuEngine, Recipe, make_engine, scores_of, window_tensor, write_planes
from hpcseg.inference.options import Options, choose_core, fixed_values, identity_of
from hpcseg.inference.route import Route
from hpcseg.kernels.filters import Prefilter
from hpcseg.kernels.heat import FLOOR, level_of
from hpcseg.kernels.labels import NODATA
from hpcseg.mapping import settle as mapping
from hpcseg.mapping.options import describe_entry, layout_of
from hpcseg.mapping.settle import check_identities, check_space, check_stripe, find_done, find_earlier, list_part, open_scenes, plan_tiles
from hpcseg.models import Model
from hpcseg.models.optimise import Precision
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.prefilter import check_scene, fit_prefilters
from hpcseg.raster import CellCache, Entry, NodataRule, Scene, Values, open_reader
from hpcseg.statistics import BandStatistics, statistics
from hpcseg.tiles import Grid, Window, hilbert_order

_AGREEMENT = 0.999
_RESOLUTION = 1.5
_SAMPLE_CORE = 256
_SAMPLES = 4
_SEARCH = 4096


@dataclass(frozen=True)
class Settled(mapping.Settled):
    """A run of a network, ready to start; the same on all ranks."""

    recipe: Recipe


def fitting(entry: Entry, scene: Scene, options: Options, spec: ModelSpec) -> Scene:
    """The scene, resampled if asked for, if the network and its filter can take it. Raises SceneError."""
    if len(scene.bands) != spec.bands:
        raise SceneError(f"gives {len(scene.bands)} bands of its {scene.count}, the network takes {spec.bands}: choose them with --bands")
    check_scene(scene, spec.prefilter)
    metres = pixel_width_m(scene.place, scene.height, scene.width) if spec.resolution else None
    if metres is None or options.any_resolution or 1 / _RESOLUTION < metres / spec.resolution < _RESOLUTION:
        return scene
    if options.resample and scene.place.transform is not None:
        return describe_entry(entry, options, math.hypot(*scene.place.transform[1:5:3]) * spec.resolution / metres)
    raise SceneError(f"has pixels of {metres:.3g} m, the model was trained on {spec.resolution:g} m: --resample or --any-resolution")


def settle(comm: Comm, pulse: Pulse, options: Options, route: Route) -> Settled:
    """Decide everything that all ranks must agree on. Collective. Raises UsageError or StoreError, shared by all ranks."""
    model = route.model
    notes: list[str] = []
    entries = list_part(comm, options)
    scenes, refused = open_scenes(comm, entries, options, lambda entry, scene: fitting(entry, scene, options, model.spec))
    pulse.step()
    core = on_root(comm, lambda: choose_core(options, model))
    of_class = on_root(comm, lambda: options.of_class(model.spec))
    planes = on_root(comm, lambda: options.planes(model.spec))
    values, unread = normalisation(comm, pulse, model, scenes, options)
    refused += unread
    recipe = Recipe(model, core, "fp32", planes, of_class, options.batch, options.compile)
    recipe, choice = _choose_halo(comm, options, recipe, scenes, values)
    notes += choice
    paths = [options.out / f"{scene.name}.h5" for scene in scenes]
    stored = find_earlier(comm, options.out, paths, options.overwrite)
    precision, choice = _choose_precision(comm, options, recipe, scenes, values, stored)
    notes += choice
    recipe = dataclasses.replace(recipe, precision=precision)
    layouts = [layout_of(scene, core, recipe.model.halo, planes, route.cell) for scene in scenes]
    identities = [
        identity_of(scene, recipe.model, layout, options, precision, value.prefilter)
        for scene, layout, value in zip(scenes, layouts, values, strict=True)
    ]
    on_root(comm, lambda: check_stripe(layouts, options.stripe))
    on_root(comm, lambda: check_identities(paths, identities, stored))
    pulse.step()
    done = find_done(comm, pulse, layouts, stored)
    new = [layout for layout, old in zip(layouts, stored, strict=True) if old is None]
    on_root(comm, lambda: check_space(options.out, new, paths if options.overwrite else ()))
    plan = plan_tiles(comm, scenes, layouts, done, route.price)
    asked = {entry.name: entry for entry in entries}
    return Settled(scenes, layouts, identities, values, paths, plan, refused, asked, notes, recipe)


@phase("normalisation")
def normalisation(
    comm: Comm, pulse: Pulse, model: Model, scenes: Sequence[Scene], options: Options
) -> tuple[list[Values], list[tuple[str, str]]]:
    """How each scene's values become input: the model's constants, or the scene's own percentiles by one reduce. Collective."""
    norm, rule = model.spec.normalisation, options.nodata_rule
    filters, failures = fit_prefilters(comm, pulse, model.spec.prefilter, scenes, options)
    unread = [("prefilter", text) for text in failures]
    if norm.kind == "fixed":
        return [fixed_values(norm, rule)._replace(prefilter=each) for each in filters], unread
    found, failures = statistics(comm, pulse, scenes, rule, norm.percentiles, options.threads, options.cache, filters)
    return percentile_values(found, rule, filters), [*unread, *(("statistics", text) for text in failures)]


def percentile_values(
    found: Sequence[Sequence[BandStatistics]], rule: NodataRule, filters: Sequence[Prefilter | None]
) -> list[Values]:
    """Normalisation of each scene by the two percentiles of its bands. filters: by scene number."""
    values = []
    for bands, prefilter in zip(found, filters, strict=True):
        low, high = (np.array([band.percentiles[k] for band in bands]) for k in (0, 1))
        span = np.where(high > low, high - low, 1.0)
        values.append(Values(tuple(1 / span), tuple(-low / span), rule, prefilter=prefilter))
    return values


def _choose_halo(
    comm: Comm, options: Options, recipe: Recipe, scenes: Sequence[Scene], values: Sequence[Values]
) -> tuple[Recipe, list[str]]:
    """The network's own halo, or the user's with the seam error that it costs."""
    model = recipe.model
    if options.halo < 0 or options.halo == model.halo:
        return recipe, []

    def measure() -> float | None:
        if options.halo % model.stride or model.window:
            raise UsageError(f"--halo {options.halo}: wanted a multiple of the network's stride {model.stride}, and no fixed-shape network")
        margin = model.halo - options.halo
        return agreement(recipe, scenes, values, lambda x: _cut(recipe, x, margin)) if margin > 0 else 1.0

    share = on_root(comm, measure)
    error = "unknown (no valid pixels)" if share is None else f"{100 * (1 - share):.4f} %"
    text = f"halo {options.halo} instead of {model.halo}: seam error {error} of pixels"
    return dataclasses.replace(recipe, model=dataclasses.replace(model, halo=options.halo)), [text]


def _cut(recipe: Recipe, window: torch.Tensor, margin: int) -> torch.Tensor:
    """Logits of a window computed with a smaller halo, at their place in the whole one."""
    network = CpuEngine(recipe, [], 1).network
    inner = window[:, :, margin:-margin, margin:-margin].contiguous(memory_format=torch.channels_last)
    return torch.nn.functional.pad(network(inner), (margin,) * 4)


def sample_windows(recipe: Recipe, scenes: Sequence[Scene], values: Sequence[Values]) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """The first windows that have valid pixels, in scene and Hilbert order: (float32 input, validity); the same for any ranks."""
    halo, left = recipe.model.halo, _SAMPLES
    core = recipe.core if recipe.model.window else -(-_SAMPLE_CORE // recipe.model.stride) * recipe.model.stride
    edge = core + 2 * halo
    cache = CellCache(64 << 20)
    for scene, value in zip(scenes, values, strict=True):
        grid, reader = Grid(scene.height, scene.width, core, halo), open_reader(scene, value, cache)
        for tile in hilbert_order(*grid.shape)[:_SEARCH]:
            tensor, array = window_tensor(edge, recipe.model.spec.bands, "fp32")
            valid = np.empty((edge, edge), np.uint8)
            try:
                reader.read(grid.window(int(tile)), halo, array, valid)
            except ReadError:
                continue
            if valid[halo : halo + core, halo : halo + core].any():
                yield tensor, valid
                left -= 1
            if not left:
                return


def agreement(recipe: Recipe, scenes: Sequence[Scene], values: Sequence[Values], other) -> float | None:
    """Share of valid pixels in the first windows whose label is the same by `other` (window -> logits) and by fp32 on the CPU.

    Of a detector: of pixels that both or one find to be near an object, the share where both find or miss its threshold. None if there
    is no such pixel.
    """
    device.settle_threads()
    engine = CpuEngine(dataclasses.replace(recipe, precision="fp32"), [], 1)
    same = total = 0
    h = recipe.model.halo
    with torch.inference_mode():
        for window, valid in sample_windows(recipe, scenes, values):
            core = Window(h, h, valid.shape[0] - 2 * h, valid.shape[1] - 2 * h)
            each = (_verdicts(recipe, logits, valid, core) for logits in (engine.logits(window), other(window)))
            (first, near), (second, close) = each
            same += int(((first == second) & (near | close)).sum())
            total += int((near | close).sum())
    return same / total if total else None


def _verdicts(recipe: Recipe, logits: torch.Tensor, valid: np.ndarray, core: Window) -> tuple[np.ndarray, np.ndarray]:
    """What is said of each pixel of a core, and bool, where that matters; (h, w), of a detector (kinds, h, w)."""
    planes = np.empty((len(recipe.planes), core.height, core.width), np.uint8)
    write_planes(recipe, scores_of(logits[0].float().cpu()), valid, core, list(planes))
    if recipe.model.spec.task == "points":
        return planes >= level_of(recipe.model.spec.threshold), (planes >= FLOOR) & (planes != NODATA)
    return planes[0], planes[0] != NODATA


@phase("precision")
def _choose_precision(
    comm: Comm, options: Options, recipe: Recipe, scenes: Sequence[Scene], values: Sequence[Values], stored: Sequence[store.Stored | None]
) -> tuple[Precision, list[str]]:
    """The precision asked for, or that of an earlier run of this network, or bf16 where the hardware has it and labels agree.

    Never decided by a stopwatch: a run repeated on the same machine must make the same map.
    """
    if options.precision != "auto":
        return options.precision, []
    for old in stored:
        if old is not None and old.identity.get("network") == recipe.model.digest:
            return old.identity["precision"], []

    def measure() -> float | None:
        if not device.has_bfloat16():
            return None
        where = device.choose()
        trial = dataclasses.replace(recipe, precision="bf16", batch=1)
        network = make_engine(trial, [], where, 1).network
        return agreement(recipe, scenes, values, lambda x: network(x.to(where, torch.bfloat16)))

    share = on_root(comm, measure)
    if share is None:
        return "fp32", []
    choice: Precision = "bf16" if share >= _AGREEMENT else "fp32"
    return choice, [f"precision {choice}: bf16 gives the same label as fp32 in {100 * share:.3f} % of sampled pixels"]
