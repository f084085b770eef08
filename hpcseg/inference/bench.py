"""`hpcseg bench`: each stage alone and all together, as ratios within one run on a scene that the bench makes itself."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_file

from hpcseg import device, store
from hpcseg.config import encode_toml, read_model
from hpcseg.errors import UsageError
from hpcseg.inference.engine import CpuEngine, make_engine
from hpcseg.inference.options import Options
from hpcseg.inference.plain import plain_loop
from hpcseg.inference.predict import count_readers, predict
from hpcseg.inference.prepare import Settled, settle
from hpcseg.inference.route import open_route
from hpcseg.mapping.report import Summary
from hpcseg.mapping.writer import Writer
from hpcseg.models import build, find_model, load_model
from hpcseg.models.unet import UNet, widen
from hpcseg.mpi import Comm, Pulse, on_root, patient_barrier, self_comm
from hpcseg.raster import CellCache, set_block_cache
from hpcseg.store import Layout
from hpcseg.stream import Buffer, Item, Source, Stream
from hpcseg.synthetic import ice
from hpcseg.tiles import Grid

_SIZES = {"unet": 8192, "unet-light": 12288, "one-convolution": 8192}
_WARM = 1024


@dataclass(frozen=True)
class Setting:
    """What is measured. size: edge of the square scene in pixels, 0 = by network. folder: scenes and maps, kept between runs."""

    network: str
    folder: Path
    threads: int
    size: int = 0
    core: int = 1024
    readers: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    @property
    def edge(self) -> int:
        """Edge of the scene in force."""
        return self.size or _SIZES[self.network]

    @property
    def scene(self) -> Path:
        """The scene's file."""
        return self.folder / f"ice_{self.edge}" / "ice_000.tif"

    def options(self, name: str, scene: Path | None = None) -> Options:
        """Options of `predict` for a run whose maps go to a folder of that name."""
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if device.has_bfloat16() else "fp32"
        return Options((str(scene or self.scene),), str(self.folder / self.network), self.folder / name, core=self.core, overwrite=True,
                       precision=precision, threads=self.threads, readers=self.readers)  # fmt: skip


def prepare(comm: Comm, setting: Setting) -> None:
    """Make the scenes and the model, unless an earlier bench did, and compile all kernels. Collective."""

    def make() -> None:
        for edge in (setting.edge, _WARM):
            target = setting.folder / f"ice_{edge}"
            if not (target / "ice_000.tif").exists():
                ice(target, 1, edge, edge, seed=1)
        make_model(setting.network, setting.folder / setting.network)

    on_root(comm, make)
    warm = setting.folder / f"ice_{_WARM}" / "ice_000.tif"
    predict(self_comm(), dataclasses.replace(setting.options(f"warm{comm.rank}", warm), threads=1), threading.Event())
    patient_barrier(comm)


def make_model(network: str, folder: Path) -> None:
    """A model folder for a network: the shipped sea-ice model, also widened to the full U-Net, or a convolution of brightness.

    Real weights matter: labels of random ones hang on rounding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shipped = load_model("sea-ice")
    if network == "unet":
        assert isinstance(shipped.network, UNet)
        made: torch.nn.Module = widen(shipped.network, 4)
    elif network == "unet-light":
        made = shipped.network
    else:
        made = build(network, shipped.spec.bands, len(shipped.spec.classes))
        with torch.no_grad():
            weight, bias = made.parameters()
            weight.copy_(torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand_as(weight) / 27)
            bias.copy_(torch.tensor([-1.0, 0.0, -1.0]))
    save_file(made.state_dict(), folder / "weights.safetensors")
    spec = read_model(find_model("sea-ice") / "model.toml")
    fields = {name: getattr(spec, name) for name in spec.__struct_fields__} | {"network": network}
    (folder / "model.toml").write_bytes(encode_toml(type(spec)(**fields)))


class Discard(CpuEngine):
    """An engine that runs no network: what is left is reading."""

    def work(self, items: Iterator[Item], done: Callable[[Item], None]) -> None:
        for item in items:
            done(item)


def settled_run(comm: Comm, setting: Setting, name: str) -> Settled:
    """A run of this setting, prepared but not started. Collective."""
    options = setting.options(name)
    with Pulse(comm, 600, threading.Event()) as pulse:
        return settle(comm, pulse, options, open_route(comm, options))


def tasks_of(comm: Comm, settled: Settled) -> list[tuple[int, int]]:
    """This rank's tiles."""
    return [(scene, int(tile)) for scene, tiles in settled.plan.of_rank(comm.rank) for tile in tiles]


def together(comm: Comm, work: Callable[[], None]) -> float:
    """Seconds from the moment all ranks start until the last has done its work. Collective."""
    patient_barrier(comm)
    start = time.perf_counter()
    work()
    patient_barrier(comm)
    return time.perf_counter() - start


def time_forward(comm: Comm, setting: Setting, settled: Settled) -> float:
    """Seconds of the run's forward calls on windows that are in memory. Collective."""
    where = device.choose()
    grids = [layout.grid for layout in settled.layouts]
    engine = make_engine(settled.recipe, grids, where, setting.threads)
    count, lock = iter(tasks_of(comm, settled)), threading.Lock()
    buffers = [filled(engine.make_buffer()) for _ in range(engine.threads * engine.depth)]

    def items(own: list[Buffer]) -> Iterator[Item]:
        k = 0
        while True:
            with lock:
                task = next(count, None)
            if task is None:
                return
            yield Item(*task, own[k % len(own)])
            k += 1

    def forward(own: list[Buffer]) -> None:
        if not isinstance(engine, CpuEngine):
            engine.work(items(own), lambda item: None)
            return
        device.settle_threads()
        with torch.inference_mode():
            for item in items(own):
                engine.logits(item.buffer.extra)

    def run() -> None:
        threads = [threading.Thread(target=forward, args=(buffers[k :: engine.threads],)) for k in range(engine.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return together(comm, run)


def filled(buffer: Buffer) -> Buffer:
    """A buffer of noise, all valid."""
    tensor = buffer.extra[0] if isinstance(buffer.extra, tuple) else buffer.extra
    tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)))
    buffer.valid[...] = 1
    return buffer


def time_read(comm: Comm, setting: Setting, settled: Settled) -> float:
    """Seconds of reading and preprocessing the run's windows. Collective."""
    grids = [layout.grid for layout in settled.layouts]
    set_block_cache(32 << 20)
    cache = CellCache(setting.options("read").cache)
    source = Source(settled.scenes, grids, settled.values, cache)
    readers = count_readers(setting.options("read"), device.choose())
    stream = Stream(source, tasks_of(comm, settled), Discard(settled.recipe, grids, 1), readers)

    def run() -> None:
        for _ in stream:
            pass

    return together(comm, run)


def time_write(comm: Comm, setting: Setting, settled: Settled) -> tuple[float, float]:
    """Seconds of writing the run's tiles, and of allocating the files before. Collective."""
    name = "write"
    paths = [setting.folder / name / path.name for path in settled.paths]

    def clear() -> None:
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)

    on_root(comm, clear)

    def create(scene: int) -> None:
        store.create(paths[scene], settled.layouts[scene], settled.identities[scene], {}, settled.scenes[scene].place)

    planes = [np.random.default_rng(0).integers(0, 3, (setting.core, setting.core), dtype=np.uint8) for _ in settled.recipe.planes]
    buffer = Buffer(np.empty(0), np.empty(0), planes)
    with Pulse(comm, 600, threading.Event()) as pulse:
        writer = Writer(comm, pulse, settled.plan, settled.layouts, paths, create)

        def run() -> None:
            for task in tasks_of(comm, settled):
                writer.write(Item(*task, buffer))

        total = together(comm, run)
        pulse.wait_for_all()
        writer.close()
    # Files of one owner are opened in the loop, those of several before it.
    own = writer.allocation if comm.size == 1 else 0.0
    return total - own, writer.allocation


def run_pipeline(comm: Comm, setting: Setting, name: str) -> tuple[float, Summary | None]:
    """Seconds of a whole `predict`, allocation of the files not counted. Collective; the summary is on rank 0."""
    summary: list[Summary | None] = []
    seconds = together(comm, lambda: summary.append(predict(comm, setting.options(name), threading.Event())))
    allocation = max(rank.allocation for rank in summary[0].ranks) if summary[0] is not None else 0.0
    return seconds - comm.bcast(allocation), summary[0]


def labels_agree(first: Path, second: Path) -> float:
    """Share of pixels with the same label in two prediction files."""
    a, b = store.read(first), store.read(second)
    same = 0
    for tile in range(a.layout.grid.size):
        window = a.layout.grid.core_window(tile)
        same += int((store.read_window(a, window) == store.read_window(b, window)).sum())
    return same / (a.layout.grid.height * a.layout.grid.width)


def time_plain(setting: Setting, settled: Settled) -> tuple[float, Path]:
    """Seconds of the loop that people write, over the same network and scene, and its map in a prediction file of its own."""
    scene = settled.scenes[0]
    layout = Layout(Grid(scene.height, scene.width, 512, 64), 512)
    path = setting.folder / "plain.h5"
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    labels = plain_loop(setting.scene, settled.recipe.model, layout.grid, setting.threads)
    seconds = time.perf_counter() - start
    store.create(path, layout, {"core": 512, "halo": 64}, {}, scene.place)
    file = store.Prediction(path, layout, self_comm())
    for tile in range(layout.grid.size):
        file.write(tile, [labels[layout.grid.core_window(tile).slices]])
    file.close()
    return seconds, path


def check_network(network: str) -> None:
    """Raises UsageError for a network that the bench has no weights for."""
    if network not in _SIZES:
        raise UsageError(f"--network {network}: wanted one of {', '.join(_SIZES)}")
