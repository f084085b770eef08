"""A study in stable `key=value unit` lines: medians, speed-up, efficiency, balance, and what a fit says of more ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from hpcseg.scaling.costs import Rates
from hpcseg.scaling.model import comparable_seconds, efficiency, fit, group, karp_flatt, pop_of, spread_of
from hpcseg.scaling.records import Case, Row
from hpcseg.scaling.simulate import Archive, Scheme, saturation, simulate


def curves(rows: Iterable[Row]) -> dict[Case, dict[int, list[Row]]]:
    """Counted runs by what is alike but for ranks (0 in the key; scenes of a weak study are those of a rank), then by ranks, rising."""
    found: dict[Case, dict[int, list[Row]]] = {}
    for case, runs in group(rows).items():
        scenes = case.scenes // case.ranks if case.mode == "weak" else case.scenes
        found.setdefault(msgspec.structs.replace(case, ranks=0, scenes=scenes), {})[case.ranks] = runs
    return {case: dict(sorted(by_ranks.items())) for case, by_ranks in found.items()}


def study_lines(rows: Iterable[Row]) -> list[str]:
    """All curves of a study, one line for each number of ranks and one for each fit. Speed-ups are of the tile loops or epochs."""
    return [line for case, by_ranks in curves(rows).items() for line in _curve_lines(case, by_ranks)]


def _curve_lines(case: Case, by_ranks: dict[int, list[Row]]) -> list[str]:
    what = f"mode={case.mode}  stage={case.stage}  model={case.model}  tile={case.tile} px  precision={case.precision}  "
    what += f"partition={case.partition}  threads={case.threads}"
    base, work = min(by_ranks), {ranks: spread_of(row.work for row in runs) for ranks, runs in by_ranks.items()}
    judged = {ranks: median(comparable_seconds(runs, by_ranks[base])) for ranks, runs in by_ranks.items()}
    lines = []
    for ranks, runs in by_ranks.items():
        share = efficiency(case.mode, judged[base], judged[ranks], ranks, base)
        speed = share * ranks
        balance = [pop_of(row) for row in runs]
        figures = [
            f"ranks={ranks}", f"runs={len(runs)}", f"work={work[ranks].median:.3f} s", f"least={work[ranks].least:.3f} s",
            f"most={work[ranks].most:.3f} s", f"seconds={median(row.seconds for row in runs):.3f} s",
            f"throughput={median(row.mpx_per_s for row in runs):.3f} Mpx/s", f"ground={median(row.km2_per_s for row in runs):.3f} km2/s",
            f"base={base} ranks", f"speedup={speed:.4f}", f"efficiency={share:.4f}", f"karp_flatt={karp_flatt(speed, ranks):.4f}",
            f"load_balance={median(each.balance for each in balance):.4f}",
            f"communication_efficiency={median(each.communication for each in balance):.4f}",
        ]  # fmt: skip
        if case.stage == "label":
            figures += [f"{name}={median(value(row) for row in runs):.3f} s" for name, value in PARTS.items()]
        lines.append("  ".join([what, *figures]))
    if len(by_ranks) > 1:
        found = fit(case.mode, list(judged), list(judged.values()))
        more = 2 * max(by_ranks)
        lines.append(
            f"{what}  fit_a={found.a:.4f} s  fit_b={found.b:.4f} s  left_out_error={100 * found.error:.2f} %  "
            f"predicted_ranks={more}  predicted_work={found.seconds(more):.3f} s"
        )
    return lines


def simulation_lines(
    archive: Archive, rates: Rates, ranks: Sequence[int], schemes: Sequence[Scheme], limit: float, seed: int
) -> list[str]:
    """A simulation as lines: the archive, the rates, where the file system saturates, and each run. limit: bytes/s."""
    pixels = archive.scenes * float(archive.core_pixels()[archive.work().cost > 0].sum())
    lines = [
        "simulated=1",
        f"scenes={archive.scenes}  height={archive.height} px  width={archive.width} px  core={archive.core} px  halo={archive.halo} px",
        f"pixels={pixels / 1e6:.0f} Mpx  tiles={archive.scenes * int(archive.work().cost.sum())}",
        "  ".join(f"{name}={1e9 * getattr(rates, name):.3f} ns/px" for name in ("decode", "prepare", "forward", "write", "touch")),
        f"stored={rates.stored:.3f} B/px  spread={100 * rates.spread:.2f} %  start={rates.start:.2f} s",
    ]
    if math.isfinite(limit):
        lines.append(f"file_system={limit / 1e9:g} GB/s  scheme=spans  saturated_from={saturation(archive, rates, limit):.0f} ranks")
    for p in ranks:
        for each in (simulate(archive, rates, p, scheme, limit, seed) for scheme in schemes):
            lines.append(
                f"ranks={p}  scheme={each.scheme}  makespan={each.makespan:.2f} s  loops={each.loops:.2f} s  "
                f"throughput={pixels / each.makespan / 1e6:.3f} Mpx/s  load_balance={each.balance:.4f}  "
                f"held_by_files={100 * each.io:.1f} %  read={each.read_gb:.1f} GB  demand={each.demand / 1e9:.3f} GB/s"
            )
    return lines


# Of labelling, as the sea-ice paper tells them apart: seconds of a rank.
PARTS = {
    "load": lambda row: row.read / row.ranks,
    "map": lambda row: row.forward / (row.ranks * row.threads),
    "reduce": lambda row: row.reduce,
}
