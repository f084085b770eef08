"""Compile a teacher's kernels ahead: see hpcseg.kernels.warm."""

from __future__ import annotations

import numpy as np

from hpcseg.labels.teacher import Step, Teacher, View
from hpcseg.tiles import Window

_CORE = 3


def compile_steps(teacher: Teacher) -> None:
    """Run all steps over a few pixels, so that their kernels are compiled."""
    # Whole tiles fill their planes, those at a scene's edge a part: two memory layouts, two compilations.
    for edge in (_CORE, _CORE - 1):
        fit, scratch = teacher.trial, np.empty((0, 0), np.uint8)
        for step in teacher.steps:
            view, total = _view(teacher, step, edge, scratch), step.start()
            step.run(view, fit, total)
            fit = step.fit(total, fit)
            if step.scratch:
                scratch = view.planes[0].copy()


def _view(teacher: Teacher, step: Step, edge: int, scratch: np.ndarray) -> View:
    """A window as StepEngine makes it, whose core is `edge` pixels wide."""
    size = _CORE + 2 * step.halo
    # The same pixels for all steps, whatever their halos.
    row = np.arange(size) - step.halo
    values = np.repeat(1 + (row[:, None] + row) % 2, teacher.bands, 1).astype(teacher.dtype)
    dtypes = [np.uint8] * len(teacher.planes) if step is teacher.steps[-1] else [step.scratch] if step.scratch else []
    planes = [np.zeros((_CORE, _CORE), dtype)[:edge, :edge] for dtype in dtypes]
    core, whole = Window(step.halo, step.halo, edge, edge), Window(0, 0, size, size)
    return View(values, np.ones((size, size), np.uint8), core, whole, Window(0, 0, edge, edge), scratch, planes)
