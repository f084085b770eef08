"""The figures of RESFlow (Lunga, Gerrand, Yang, Layton, Stewart: Apache Spark Accelerated Deep Learning Inference for Large Scale Satellite
Image Analytics, IEEE JSTARS 13, 2020) as printed, what follows from them, and its large case simulated.

Tables III, V and VI are minutes by workload and GPUs. Its speed-ups count the scenes of a workload twice: 750 is 35 min * 12 scenes
* 12 / 6.71 min; those computed here are T(1) / T(p) within a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from hpcseg.scaling.costs import Rates
from hpcseg.scaling.model import Fit, fit, speed_up
from hpcseg.scaling.simulate import Archive, simulate

# Of the six workloads, one to twelve scenes.
GIGABYTES = (15.03, 47.78, 96.88, 130.07, 163.49, 197.13)
KM2 = (313.97, 1002.15, 2035.66, 2733.05, 3433.78, 4141.16)
SCENES_MOST = 12


@dataclass(frozen=True)
class Table:
    """minutes: by number of GPUs, of each workload."""

    name: str
    machine: str
    minutes: dict[int, tuple[float, ...]]

    def speed_ups(self) -> dict[int, tuple[float, ...]]:
        """T(1) / T(p) of each workload."""
        return {p: tuple(speed_up(one, each) for one, each in zip(self.minutes[1], row, strict=True)) for p, row in self.minutes.items()}

    def fitted(self, workload: int = -1) -> Fit:
        """a + b / p in minutes, of one workload; by default that of twelve scenes."""
        return fit("strong", list(self.minutes), [row[workload] for row in self.minutes.values()])


III = Table("III", "one DGX1", {
    1: (3.81, 7.92, 13.93, 17.43, 21.32, 23.81),
    3: (3.51, 5.35, 8.07, 11.22, 12.52, 12.77),
    6: (3.39, 4.38, 6.52, 8.17, 9.17, 11.09),
    8: (3.02, 4.52, 6.77, 8.92, 12.21, 12.12),
})  # fmt: skip
V = Table("V", "one DGX2-H", {
    1: (3.69, 7.55, 12.19, 16.43, 20.50, 23.53),
    3: (2.87, 4.81, 8.19, 9.79, 11.82, 15.6),
    6: (2.9, 3.99, 5.48, 6.24, 7.38, 10.08),
    8: (3.3, 3.88, 5.71, 7.34, 8.5, 11.89),
    12: (3.78, 4.52, 5.59, 6.94, 6.34, 7.73),
    16: (4.75, 5.71, 6.69, 6.82, 7.50, 9.32),
})  # fmt: skip
VI = Table("VI", "two DGX2", {
    1: (3.36, 7.76, 13.64, 17.04, 19.49, 23.49),
    3: (3.31, 4.89, 9.18, 10.79, 14.22, 14.51),
    6: (2.74, 3.64, 6.21, 6.09, 7.7, 10.01),
    8: (3.77, 3.72, 5.43, 8.11, 8.55, 12.14),
    12: (2.97, 3.61, 4.42, 5.24, 5.63, 7.04),
    16: (3.11, 3.17, 3.79, 6.63, 8.51, 8.66),
    21: (4.55, 4.68, 7.78, 5.22, 6.11, 6.02),
    24: (4.17, 5.04, 6.61, 6.18, 7.36, 7.44),
    28: (3.79, 4.84, 4.55, 4.88, 6.23, 7.40),
    32: (5.06, 5.49, 6.82, 4.81, 6.18, 6.71),
})  # fmt: skip
TABLES = (III, V, VI)


class Size(NamedTuple):
    """Fig. 8, one DGX2-H: images of `edge` pixels in a second, and what that is."""

    edge: int
    images: float
    gb_per_s: float
    km2_per_s: float | None


FIGURE_8 = (Size(500, 1220, 3.7, 23.45), Size(1000, 564, 6.59, 50.78), Size(1500, 178, 4.69, None))


class Deployed(NamedTuple):
    """Table VII and its text. Unit of a day's data is GB, printed as TB."""

    km2_per_s: float = 5.245
    km2_per_day: float = 453_168
    images_per_s: float = 80
    gb_per_s: float = 0.243
    gb_per_day: float = 21_028
    hours: float = 21
    scenes: int = 1440
    height: int = 40_000
    width: int = 35_000
    gpus: int = 28
    batch: int = 12
    km2: float = 787_300


VII = Deployed()
BASE_MINUTES = 35.0
# Sea-ice paper (IPDPS workshops 2024, arXiv 2403.13135): labelling by PySpark, training by Horovod on 8 GPUs.
ICE_LOAD, ICE_MAP_REDUCE, ICE_TRAINING = 9.0, 16.0, 7.21


class Extrapolated(NamedTuple):
    """The 1,440 scenes on 28 GPUs. of: what the figure is."""

    of: str
    hours: float
    km2_per_s: float


@cache
def extrapolate(seed: int = 1) -> tuple[Extrapolated, ...]:
    """Hours of the large case: as published, by the row of 28 GPUs, by the fit, and simulated with hpcseg's partition on the fit's b.

    Ground of a scene is that of Table VI's twelve. The serial part a comes once in each batch of twelve scenes.
    """
    found, batches = VI.fitted(), VII.scenes / VII.batch
    ground = VII.scenes * KM2[-1] / SCENES_MOST
    batch, whole = _simulated(found, SCENES_MOST, seed), _simulated(found, VII.scenes, seed)
    hours = {
        "published": VII.hours,
        "Table VI, 28 GPUs, 120 batches": batches * VI.minutes[VII.gpus][-1] / 60,
        "fit with a": batches * found.seconds(VII.gpus) / 60,
        "fit without a": batches * found.b / VII.gpus / 60,
        "simulated, batch after batch, with a": batches * (found.a / 60 + batch),
        "simulated, batch after batch, without a": batches * batch,
        "simulated, all scenes in one run, without a": whole,
    }
    rates = {name: ground / (3600 * each) for name, each in hours.items()} | {"published": VII.km2_per_s}
    return tuple(Extrapolated(name, each, rates[name]) for name, each in hours.items())


def _simulated(found: Fit, scenes: int, seed: int) -> float:
    """Hours of so many scenes on 28 GPUs in spans of tiles of 500 px without halo, each GPU at the pace that the fit's b tells."""
    archive = Archive(scenes, VII.height, VII.width, 500, 0)
    forward = 60 * found.b / SCENES_MOST / (archive.grid.size * archive.window)
    return simulate(archive, Rates(0.0, 0.0, forward, 0.0), VII.gpus, seed=seed).makespan / 3600


def case_lines(seed: int = 1) -> list[str]:
    """The case in lines: fit, residuals, extrapolation, speed-ups."""
    found = VI.fitted()
    lines = [f"fit_a={found.a:.3f} min", f"fit_b={found.b:.3f} min", f"fit_left_out_error={100 * found.error:.1f} %"]
    for (gpus, row), residual in zip(VI.minutes.items(), found.residuals, strict=True):
        lines.append(f"gpus={gpus}  measured={row[-1]:.2f} min  fitted={found.seconds(gpus):.2f} min  residual={residual:+.2f} min")
    lines += [f"case={each.of!r}  hours={each.hours:.2f} h  ground={each.km2_per_s:.3f} km2/s" for each in extrapolate(seed)]
    ground = VII.scenes * KM2[-1] / SCENES_MOST
    told = VII.km2_per_s * VII.hours * 3600
    lines.append(f"ground_of_scenes={ground:.0f} km2  published_ground={VII.km2:.0f} km2  rate_times_hours={told:.0f} km2")
    for table in TABLES:
        for gpus, speeds in table.speed_ups().items():
            over = BASE_MINUTES * SCENES_MOST / table.minutes[gpus][-1]
            lines.append(
                f"table={table.name}  gpus={gpus}  speedup_by_workload={','.join(f'{each:.2f}' for each in speeds)}  "
                f"over_35_min_a_scene={over:.1f}  as_the_paper_counts={SCENES_MOST * over:.0f}"
            )
    return lines
