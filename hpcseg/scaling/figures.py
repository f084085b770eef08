"""The charts of a study: each a plain function from its curves to what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

import numpy as np

from hpcseg.products.charts import Axis, Chart, Series, draw_lines, draw_shares
from hpcseg.scaling.model import Fit, Spread, comparable_seconds, efficiency, fit, karp_flatt, pop_of, spread_of
from hpcseg.scaling.records import Case, Mode, Row, Stage
from hpcseg.scaling.told import PARTS

SHOWN = 6
_NAMED = {"tile": "{} px", "precision": "{}", "partition": "{}", "threads": "{} threads", "model": "{}", "scenes": "{} scenes",
          "size": "{} px scenes", "extra": "{}"}  # fmt: skip
Value = Callable[[Row], float]


class Point(NamedTuple):
    """A number of ranks. Spreads are over repeats. wall: from the launcher's start to its end. speed: efficiency * ranks. judged: seconds
    that the efficiency is of, see comparable_seconds."""

    ranks: int
    runs: list[Row]
    work: Spread
    judged: Spread
    wall: Spread
    mpx: Spread
    km2: Spread
    speed: Spread
    efficiency: float
    karp_flatt: float
    balance: float
    communication: float


class Curve(NamedTuple):
    """What is alike but for ranks. name: how it differs from the others beside it. fit: None below two numbers of ranks."""

    case: Case
    name: str
    points: list[Point]
    fit: Fit | None


def make_curves(found: Mapping[Case, Mapping[int, list[Row]]]) -> list[Curve]:
    """Curves of one mode and stage, from told.curves."""
    return [_curve(case, name, by_ranks) for name, (case, by_ranks) in zip(_names(list(found)), found.items(), strict=True)]


def _names(cases: Sequence[Case]) -> list[str]:
    """By the fields in which these cases differ."""
    varied = [name for name in _NAMED if len({getattr(case, name) for case in cases}) > 1] or ["tile"]
    return [", ".join(_NAMED[name].format(getattr(case, name)) for name in varied if getattr(case, name) != "-") for case in cases]


def _curve(case: Case, name: str, by_ranks: Mapping[int, list[Row]]) -> Curve:
    base = min(by_ranks)
    points = [_point(case.mode, ranks, runs, base, by_ranks[base]) for ranks, runs in by_ranks.items()]
    found = fit(case.mode, [p.ranks for p in points], [p.judged.median for p in points]) if len(points) > 1 else None
    return Curve(case, name, points, found)


def _point(mode: Mode, ranks: int, runs: list[Row], base: int, first: list[Row]) -> Point:
    """first: the runs on the fewest ranks, `base`."""
    judged, pops = spread_of(comparable_seconds(runs, first)), [pop_of(row) for row in runs]
    of_base = median(comparable_seconds(first, first))
    speeds = [ranks * efficiency(mode, of_base, each, ranks, base) for each in (judged.median, judged.most, judged.least)]
    speed = Spread(speeds[0], speeds[1], speeds[2], len(runs))
    return Point(
        ranks, runs, spread_of(row.work for row in runs), judged, spread_of(row.wall for row in runs),
        spread_of(row.mpx_per_s for row in runs), spread_of(row.km2_per_s for row in runs), speed, speed.median / ranks,
        karp_flatt(speed.median, ranks), median(each.balance for each in pops), median(each.communication for each in pops),
    )  # fmt: skip


def main_curve(curves: Sequence[Curve]) -> Curve:
    """The curve with most numbers of ranks, of these the fastest: what single charts show."""
    return max(curves, key=lambda each: (len(each.points), each.points[-1].mpx.median))


def draw_curves(mode: Mode, stage: Stage, curves: Sequence[Curve], published: Sequence[Series] = ()) -> dict[str, Chart]:
    """All charts of one mode and stage, by name. published: others' speed-ups."""
    main, shown = main_curve(curves), curves[:SHOWN]
    charts = {"time": _draw_time(mode, shown), "throughput": _draw_throughput(shown)}
    if any(len(each.points) > 1 for each in curves):
        if mode == "strong":
            charts |= {"speed-up": _draw_speed_up(shown, published), "karp-flatt": _draw_karp_flatt(shown)}
        charts |= {"efficiency": _draw_efficiency(mode, shown)}
    charts |= {"pop": _draw_pop(main), "stages": _draw_stages(stage, main)}
    if stage == "label":
        charts["parts"] = _draw_parts(main)
    return charts


def _ranks_axis(curves: Sequence[Curve], more: Sequence[float] = ()) -> Axis:
    return Axis("ranks", log=True, ticks=sorted({float(p.ranks) for each in curves for p in each.points} | set(more)))


def _series(curve: Curve, value: Callable[[Point], Spread]) -> Series:
    found = [value(point) for point in curve.points]
    ranks = [float(point.ranks) for point in curve.points]
    return Series(curve.name, ranks, [s.median for s in found], [s.least for s in found], [s.most for s in found])


def _ideal(curve: Curve, value: Callable[[Point], float], power: int) -> Series:
    """From the first point on: 1 rises with ranks, -1 falls, 0 stays."""
    ranks = [float(point.ranks) for point in curve.points]
    return Series("ideal", ranks, [value(curve.points[0]) * (p / ranks[0]) ** power for p in ranks], style="ideal")


def _draw_time(mode: Mode, curves: Sequence[Curve]) -> Chart:
    main = main_curve(curves)
    series = [_series(each, lambda point: point.work) for each in curves]
    series.append(_ideal(main, lambda point: point.work.median, -1 if mode == "strong" else 0))
    return draw_lines("Time", _ranks_axis(curves), Axis("seconds", log=mode == "strong", least=None if mode == "strong" else 0), series)


def _draw_throughput(curves: Sequence[Curve]) -> Chart:
    """Mpx/s, and km2/s at the right where the ground of a pixel is the same in all."""
    main = main_curve(curves)
    series = [_series(each, lambda point: point.mpx) for each in curves]
    series.append(_ideal(main, lambda point: point.mpx.median, 1))
    ground = [row.km2 / row.mpx for each in curves for point in each.points for row in point.runs if row.mpx]
    alike = bool(ground) and min(ground) > 0 and max(ground) < 1.001 * min(ground)
    right = ("km²/s", median(ground)) if alike else None
    return draw_lines("Throughput", _ranks_axis(curves), Axis("Mpx/s", log=True, right=right), series)


def _draw_speed_up(curves: Sequence[Curve], published: Sequence[Series]) -> Chart:
    main = main_curve(curves)
    most = max(point.ranks for each in curves for point in each.points)
    near = [_up_to(each, max(8, 2 * most)) for each in published]
    series = [_series(each, lambda point: point.speed) for each in curves]
    if main.fit is not None and main.fit.error == main.fit.error:
        ranks = np.geomspace(main.points[0].ranks, most, 30)
        base = main.fit.seconds(main.points[0].ranks) * main.points[0].ranks
        series.append(Series("fit a + b/p", ranks.tolist(), [base / main.fit.seconds(p) for p in ranks], style="fit"))
    series += [*near, _ideal(main, lambda point: float(point.ranks), 1)]
    return draw_lines("Speed-up", _ranks_axis(curves, [x for each in near for x in each.x]), Axis("speed-up", log=True), series)


def _up_to(series: Series, most: float) -> Series:
    """A series, its x rising, up to some x."""
    count = sum(x <= most for x in series.x)
    return Series(series.name, series.x[:count], series.y[:count], style=series.style)


def _draw_efficiency(mode: Mode, curves: Sequence[Curve]) -> Chart:
    series = [Series(c.name, [float(p.ranks) for p in c.points], [p.efficiency for p in c.points]) for c in curves]
    series.append(_ideal(main_curve(curves), lambda point: 1.0, 0))
    most = 1.08 * max(y for each in series for y in each.y)
    return draw_lines(f"Efficiency, {mode}", _ranks_axis(curves), Axis("efficiency", least=0, most=most), series)


def _draw_karp_flatt(curves: Sequence[Curve]) -> Chart:
    told = [(c.name, [p for p in c.points if p.ranks > c.points[0].ranks]) for c in curves]
    series = [Series(name, [float(p.ranks) for p in points], [p.karp_flatt for p in points]) for name, points in told if points]
    least = min([0.0, *(y for each in series for y in each.y)])
    return draw_lines("Serial share after Karp and Flatt", _ranks_axis(curves), Axis("share", least=least), series)


def _draw_pop(curve: Curve) -> Chart:
    ranks = [float(p.ranks) for p in curve.points]
    series = [
        Series("load balance", ranks, [p.balance for p in curve.points]),
        Series("communication efficiency", ranks, [p.communication for p in curve.points]),
        Series("parallel efficiency", ranks, [p.balance * p.communication for p in curve.points]),
    ]
    return draw_lines(f"POP efficiencies, {curve.name}", _ranks_axis([curve]), Axis("share", least=0, most=1.05), series)


def _draw_stages(stage: Stage, curve: Curve) -> Chart:
    """Shares of the busy time, medians of the runs."""
    keys = ("forward", "averaging", "wait") if stage == "train" else ("decode", "preprocess", "forward", "write", "wait")
    spent = {key: [median(getattr(row, key) for row in p.runs) for p in curve.points] for key in keys}
    total = [max(sum(values), 1e-9) for values in zip(*spent.values(), strict=True)]
    words = {"forward": "compute", "wait": "data"} if stage == "train" else {}
    parts = {words.get(key, key): [100 * v / t for v, t in zip(values, total, strict=True)] for key, values in spent.items()}
    return draw_shares(f"Busy time by stage, {curve.name}", "percent", _rank_names(curve), parts)


def _draw_parts(curve: Curve) -> Chart:
    """Seconds of loading, mapping and reducing apart, as the sea-ice paper tells them."""
    parts = {name: [median(value(row) for row in p.runs) for p in curve.points] for name, value in PARTS.items()}
    return draw_shares(f"Load, map and reduce apart, {curve.name}", "seconds of a rank", _rank_names(curve), parts)


def _rank_names(curve: Curve) -> list[str]:
    return [f"{point.ranks} rank{'s' if point.ranks > 1 else ''}" for point in curve.points]


def draw_sweep(curves: Sequence[Curve], published: Series) -> dict[str, Chart]:
    """Throughput over the tile's edge, for each number of ranks, of curves that differ in it; and beside a published sweep, each relative
    to its own best. {} below two edges."""
    main = main_curve(curves).case
    alike = [c for c in curves if (c.case.precision, c.case.partition, c.case.threads) == (main.precision, main.partition, main.threads)]
    alike.sort(key=lambda curve: curve.case.tile)
    if len({curve.case.tile for curve in alike}) < 2:
        return {}
    ground = all(p.km2.median > 0 for c in alike for p in c.points)
    ranks = sorted({point.ranks for curve in alike for point in curve.points})[-SHOWN:]
    series = [_tile_series(alike, p, ground) for p in ranks]
    edges, unit = sorted({float(c.case.tile) for c in alike}), "km²/s" if ground else "Mpx/s"
    absolute = draw_lines("Tile size", Axis("tile's edge, px", log=True, ticks=edges), Axis(unit, least=0), series)
    pair = [_relative(series[-1], "here", ""), _relative(published, published.name, "published")]
    both = Axis("tile's edge, px", log=True, ticks=sorted({x for each in pair for x in each.x}))
    beside = draw_lines("Tile size, each relative to its best", both, Axis("share of the best", least=0), pair)
    return {"tiles": absolute, "tiles-published": beside}


def _tile_series(curves: Sequence[Curve], ranks: int, ground: bool) -> Series:
    """Throughput on so many ranks over the tile's edge."""
    points = [(float(c.case.tile), p.km2 if ground else p.mpx) for c in curves for p in c.points if p.ranks == ranks]
    spreads = [spread for _, spread in points]
    return Series(
        f"{ranks} rank{'s' if ranks > 1 else ''}", [tile for tile, _ in points],
        [s.median for s in spreads], [s.least for s in spreads], [s.most for s in spreads],
    )  # fmt: skip


def _relative(series: Series, name: str, style: Literal["", "published"]) -> Series:
    return Series(name, series.x, [y / max(series.y) for y in series.y], style=style)
