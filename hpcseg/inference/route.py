"""How windows become labels. A `Route` is that of one network; a gallery's gives each cell to the network of its bucket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch

from hpcseg.inference.engine import Recipe, make_engine
from hpcseg.inference.options import Options
from hpcseg.kernels.warm import compile_kernels
from hpcseg.mapping.report import RankReport
from hpcseg.models import Model, load_model
from hpcseg.models.probe import Probe
from hpcseg.mpi import Comm, first_on_node, on_root
from hpcseg.raster import Scene
from hpcseg.stream import Engine
from hpcseg.tiles import Grid


@dataclass(frozen=True)
class Route:
    """The way of one network. model: whose halo, stride, bands, classes, normalisation and digest are those of the map, and for which
    the precision is decided. cell: edge of the squares whose buckets the map tells, 0 = none."""

    model: Model
    cell: int = 0

    @property
    def unit(self) -> int:
        """What one forward pass of `model` counts in prices."""
        return 1

    @property
    def typical(self) -> int:
        """The price of a tile of which nothing is known but that it has data."""
        return self.unit

    @property
    def said(self) -> Mapping[str, str]:
        """Attributes of prediction files that say what made them."""
        return {"model_toml": msgspec.json.encode(self.model.spec).decode()}

    def price(self, scene: Scene, grid: Grid, cost: np.ndarray) -> np.ndarray:
        """What the tiles of a scene cost, int64 (ny * nx,). cost: 1 where there seem to be data, else 0."""
        return cost

    def compile(self, dtypes: Iterable[str], recipe: Recipe) -> None:
        """Compile the kernels that map scenes of these pixel types."""
        compile_kernels(dtypes, recipe.precision == "bf16", self.model.logits, self.model.spec.task == "points")

    def make_engine(self, recipe: Recipe, grids: Sequence[Grid], where: torch.device, options: Options) -> Engine:
        """The engine of this rank. grids: by scene number."""
        return make_engine(recipe, list(grids), where, options.threads)

    def report(self, engine: Engine, report: RankReport) -> None:
        """Add to a rank's report what only this kind of engine knows."""


def read_route(options: Options, found: Probe | None = None) -> Route:
    """That of the model that was asked for. found: as in load_model. Raises UsageError."""
    return Route(load_model(options.model, options.any_network, found))


def open_route(comm: Comm, options: Options) -> Route:
    """The same on every rank; a foreign network is probed on rank 0 alone. Collective.

    Rank 0 reads the weights first, then one rank of each node, then the others, out of their node's page cache.
    """
    opened: list[Route] = []

    def read(found: Probe | None = None) -> Probe | None:
        if not opened:
            opened.append(read_route(options, found))
        return opened[0].model.found

    found = on_root(comm, read)
    first_on_node(comm, lambda: read(found))
    return opened[0]
