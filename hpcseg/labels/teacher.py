"""What a teacher is: how it reads scenes, its classes, and its steps.

Each step but the last reduces: it adds windows to an exact accumulator per scene, from which a pure function fits what the next
step needs, and may write one scratch plane. The last step writes the labels. Nothing here knows of tiles, ranks or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from hpcseg.config import Class
from hpcseg.mapping.options import MapOptions
from hpcseg.mpi import Comm, Pulse
from hpcseg.raster import Entry, Scene, Values
from hpcseg.tiles import Window

Fit = dict[str, Any]
Scratch = Literal["", "uint8", "uint16", "uint32"]


class View(NamedTuple):
    """A window as a step sees it.

    values: (H, W * bands), pixel-interleaved, uint8 or float32. valid: u8 (H, W). core: the part to compute. inside: the part that
    lies in the scene; the rest holds reflected values and is not valid. place: the core in the scene. scratch: (h, w) of the core,
    what an earlier step wrote, (0, 0) if the step reads none. planes: (h, w) each, to be set to the step's output.
    """

    values: np.ndarray
    valid: np.ndarray
    core: Window
    inside: Window
    place: Window
    scratch: np.ndarray
    planes: list[np.ndarray]


class Step(Protocol):
    """One pass over all tiles of a scene; as it stands here, one that maps pixel by pixel and finds nothing out. Its methods are called
    by several threads at once, on different accumulators.

    halo: pixels that it needs around a core. reads_scene: it needs values and valid; a step that does not is not given any. scratch:
    the plane that it writes for later steps, "" = none. reads_scratch: the plane is handed to it.
    """

    halo: int = 0
    reads_scene: bool = True
    scratch: Scratch = ""
    reads_scratch: bool = False

    def start(self) -> Any:
        """An empty accumulator with an exact `merge(other)`, or None."""
        return None

    def run(self, view: View, fit: Fit, total: Any) -> None:
        """Take in a window: add to `total`, set the planes. fit: what the steps before found in this scene."""

    def fit(self, total: Any, fit: Fit) -> Fit:
        """What the next steps need of the whole scene: JSON values, `fit` of the steps before included. Key "note": a word on it for
        the report; key "problem": why this scene cannot be labelled."""
        return fit


def nothing_before(comm: Comm, pulse: Pulse, scenes: Sequence[Scene], options: MapOptions) -> tuple[list[Fit], list[str]]:
    """For teachers that need nothing of a scene before their first step."""
    return [{} for _ in scenes], []


@dataclass(frozen=True)
class Teacher:
    """parameters: all that decides a label, as JSON. bands: how many it takes. dtype: of its windows. planes: labels, and more u8
    planes by name. core: edge of its tiles unless the user says; a multiple of `stride`.

    read: how a scene's values become a window's, and the scene as it is to be read; raises SceneError if it does not fit.
    picture: the planes that are the bands of a picture of each scene, to be written beside the labels, () = none.
    begin: collective, before the first step: a fit per scene, and what could not be read. gather: the scenes as they are opened,
    stacked with others where a rule takes several. trial: a fit that the first step can take, of no scene: see `compile_steps`.
    """

    name: str
    parameters: dict[str, Any]
    classes: tuple[Class, ...]
    bands: int
    dtype: Literal["uint8", "float32"]
    steps: tuple[Step, ...]
    read: Callable[[Entry, Scene], tuple[Scene, Values]]
    planes: tuple[str, ...] = ("labels",)
    core: int = 1024
    stride: int = 1
    picture: tuple[str, ...] = ()
    begin: Callable[[Comm, Pulse, Sequence[Scene], MapOptions], tuple[list[Fit], list[str]]] = nothing_before
    gather: Callable[[Sequence[Entry]], list[Entry]] = list
    trial: Fit = field(default_factory=dict)
