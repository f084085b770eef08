"""`hpcseg gallery build`: from an archive to its buckets.

A sample of cells -> features -> clusters, their number at the knee -> a hashing network -> centroids and the largest distance -> judged
by cells that were held back -> all scenes assigned. Everything but the hashing network's last bits is the same for any number of ranks.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.manifold import TSNE
from torch import nn

from hpcseg import device
from hpcseg.config import Class, ModelSpec, Normalisation, encode_toml
from hpcseg.errors import SceneError, UsageError
from hpcseg.gallery.archive import Archive, advising, measure, refuse_stop
from hpcseg.gallery.assign import Assigned, Assigner, Opened, choose_core, open_archive
from hpcseg.gallery.clusters import Standard, cut_tree, find_knee, grow_tree, mean_variance, nearest_mean
from hpcseg.gallery.codes import average_precision, majority
from hpcseg.gallery.embed import Embedder, Encoder, code_of, digest_of
from hpcseg.gallery.encoder import EncoderSettings, train_encoder
from hpcseg.gallery.hashing import HashSettings, train_hasher
from hpcseg.gallery.sample import Sample, draw_sample, hold_back, most_cells
from hpcseg.gallery.spec import ENCODER, GALLERY, HASH, MONO_BUCKET, TILES, Bucket, GallerySpec, Reading
from hpcseg.kernels.codes import nearest
from hpcseg.mapping.options import MapOptions
from hpcseg.models import Model, load_model
from hpcseg.models import build as build_network
from hpcseg.mpi import Comm, Pulse, on_root
from hpcseg.products.embedding import draw_embedding, draw_knee
from hpcseg.training.averaging import Averaging, choose, leaving
from hpcseg.training.checkpoint import publish
from hpcseg.training.settings import Settings
from hpcseg.training.shelf import say
from hpcseg.training.together import together

_LEGEND = [Class(name="other", color="#dfe3e6"), Class(name="found", color="#c65d21")]
_MEMBERS = 99.9
_OURS = (GALLERY, HASH, ENCODER, TILES, "clusters.png", "embedding.png", "build.json")


@dataclass(frozen=True)
class BuildOptions(MapOptions):
    """out: the gallery's folder. cell, reduce: as in GallerySpec. sample: cells that it is built from and judged by, the share `held` of
    them for the latter. buckets: 0 = at the knee of 2 to max_buckets. max_distance: -1 = what nearly all cells of the sample keep within.
    encoder: a model whose encoder gives the features, "" = one is trained as `training` says."""

    _: KW_ONLY
    out: Path
    cell: int = 512
    reduce: int = 4
    sample: int = 2000
    held: float = 0.2
    buckets: int = 0
    max_buckets: int = 24
    max_distance: int = -1
    encoder: str = ""
    seed: int = 0
    training: EncoderSettings = field(default_factory=EncoderSettings)
    hashing: HashSettings = field(default_factory=HashSettings)
    averaging: Literal["auto", "horovod", "torch"] = "auto"


class Clusters(NamedTuple):
    """Of the cells that the gallery is built from. merges: the tree. variances: by number of clusters, those in `numbers`."""

    labels: np.ndarray
    numbers: list[int]
    variances: list[float]
    knee: int


class Built(msgspec.Struct):
    """A gallery's making, for build.json. map: mean average precision of the held cells' codes, None if none is held. same: share of the
    sample whose bucket is its cluster. sizes: cells of each cluster, without those held. loss: of the encoder by epoch, of the hashing
    network by step."""

    cells: int
    held: int
    buckets: int
    knee: int
    numbers: list[int]
    variances: list[float]
    sizes: list[int]
    centroids: list[str]
    max_distance: int
    map: float | None
    same: float
    loss: dict[str, list[float]]
    features: int
    ranks: int
    scenes: list[str]
    options: dict[str, str]
    seconds: dict[str, float]


def build(comm: Comm, options: BuildOptions, stop: threading.Event) -> tuple[Built, Assigned]:
    """Build a gallery and assign the scenes that it is of; collective. stop: when set, on any rank, all finish the tile in hand and raise
    StoppedError."""
    on_root(comm, lambda: _check(options))
    with Pulse(comm, options.stall, stop) as pulse:
        device.settle_threads()
        opened = open_archive(comm, options)
        on_root(comm, lambda: check_scenes(opened))
        averaging = choose(comm, Settings(scenes=(), out=options.out, classes=(), averaging=options.averaging, stall=options.stall))
        with leaving(averaging):
            builder = Builder(comm, pulse, averaging, options, opened)
            with advising("there is no gallery yet: run the same command again"):
                built, archive = builder.make()
            with advising(f"the buckets stand; to put scenes into them: hpcseg gallery assign {options.out} SCENES"):
                return built, builder.assign(archive)


def _check(options: BuildOptions) -> None:
    """Raises UsageError for options that cannot be meant, and where a gallery is already."""
    if (options.out / GALLERY).exists() and not options.overwrite:
        raise UsageError(f"{options.out} holds a gallery: choose another --out, or --overwrite to build it anew")
    choose_core(options, options.cell)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {options.out}: {error.strerror}") from error


def check_scenes(opened: Opened) -> None:
    """Raises SceneError where no scene is left, UsageError where they give different numbers of bands."""
    if not opened.scenes:
        raise SceneError(f"no scene is left to build a gallery of: {opened.refused[0][0]} {opened.refused[0][1]}")
    first = opened.scenes[0]
    for scene in opened.scenes:
        if len(scene.bands) != len(first.bands):
            raise UsageError(
                f"{first.name} gives {len(first.bands)} bands and {scene.name} {len(scene.bands)}: a gallery takes as many of each scene;"
                " choose them with --bands, or build a gallery for each sensor"
            )


class Builder:
    """The steps of a build; its methods are collective unless they say otherwise."""

    def __init__(self, comm: Comm, pulse: Pulse, averaging: Averaging, options: BuildOptions, opened: Opened) -> None:
        self.comm, self.pulse, self.averaging, self.options, self.opened = comm, pulse, averaging, options, opened
        self.seconds: dict[str, float] = {}
        self.losses: dict[str, list[float]] = {}
        self._last = time.perf_counter()

    def make(self) -> tuple[Built, Archive]:
        """All steps up to a gallery without cells. Raises StoppedError, shared by all ranks."""
        options = self.options
        start = together(self.comm, self._start_model)
        encoder = together(self.comm, lambda: Encoder(start, options.cell, options.reduce))
        say(self.comm, bound_lines(options.sample, most_cells(encoder)))
        archive = measure(self.comm, self.pulse, self.opened.scenes, options.cell, options)
        self._lap("statistics")
        sample = draw_sample(self.comm, self.pulse, archive, encoder, options, options.sample, options.seed)
        held = hold_back(sample, archive, options.held, options.seed)
        on_root(self.comm, lambda: check_sample(sample, held, options))
        self._lap("sample")
        on_root(self.comm, lambda: _clear(options.out))
        model = self._settle_model(start, sample, held)
        self._lap("encoder")
        features = self._features(Encoder(model, options.cell, options.reduce), sample)
        self._lap("features")
        clusters = on_root(self.comm, lambda: find_clusters(features[~held], options))
        self._lap("clusters")
        labels = clusters.labels
        hasher, self.losses["hashing"] = train_hasher(self.comm, self.averaging, features[~held], labels, options.hashing, self._alive)
        self._lap("hashing")
        built = on_root(self.comm, lambda: self._finish(features, held, clusters, hasher, model))
        return built, archive

    def assign(self, archive: Archive) -> Assigned:
        """Put all cells into buckets. Raises StoppedError, shared by all ranks."""
        embedder = together(self.comm, lambda: Embedder(self.options.out))
        known = {scene.digest: value for scene, value in zip(archive.scenes, archive.values, strict=True)}
        return Assigner(self.comm, self.pulse, self.options.out, embedder, self.options).run(self.opened, known)

    def _lap(self, stage: str) -> None:
        """Note the time since the last stage ended; not collective."""
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now
        self.pulse.step()

    def _alive(self) -> None:
        """Tell that this rank gets on. Raises StoppedError, shared by all ranks."""
        self.pulse.step()
        refuse_stop(self.comm, self.pulse)

    def _start_model(self) -> Model:
        """The model that was given, else one that is not trained yet; not collective. Raises UsageError."""
        bands = len(self.opened.scenes[0].bands)
        if not self.options.encoder:
            spec = ModelSpec(network=self.options.training.network, bands=bands, classes=_LEGEND)
            network = build_network(spec.network, bands, len(_LEGEND))
            return Model(ENCODER, spec, network, network.aligned_halo, network.stride, "")
        model = load_model(self.options.encoder)
        if model.spec.bands != bands:
            raise UsageError(f"--encoder {model.name} takes {model.spec.bands} bands, the scenes give {bands}: choose them with --bands")
        return model

    def _settle_model(self, start: Model, sample: Sample, held: np.ndarray) -> Model:
        """The gallery's encoder, in its folder: the model that was given, else one trained on the cells that are not held back."""
        if not self.options.encoder:
            pixels = sample.pixels[~held[sample.mine]]
            network, self.losses["encoder"] = train_encoder(self.comm, self.averaging, pixels, self.options.training, self._alive)
            start = dataclasses.replace(start, network=network)
        folder = self.options.out / ENCODER
        on_root(self.comm, lambda: _save_model(folder, start))
        return load_model(str(folder))

    def _features(self, encoder: Encoder, sample: Sample) -> np.ndarray:
        """Features of all cells of the sample, float32 (n, d), on every rank."""

        def look(pixels: np.ndarray) -> np.ndarray:
            self.pulse.step()
            return encoder.features(torch.from_numpy(pixels[None]))

        with ThreadPoolExecutor(self.options.threads, initializer=device.settle_threads) as pool:
            mine = list(pool.map(look, sample.pixels))
        rows = {int(k): row for part in self.comm.allgather(list(zip(sample.mine, mine, strict=True))) for k, row in part}
        return np.stack([rows[k] for k in range(len(sample.tile))])

    def _finish(self, features: np.ndarray, held: np.ndarray, clusters: Clusters, hasher: nn.Sequential, model: Model) -> Built:
        """Codes, centroids, judgement and all files but the image gallery; on one rank. Raises UsageError."""
        options, bits = self.options, self.options.hashing.bits
        codes = np.array([code_of(hasher, row) for row in features], np.uint64)
        sizes = np.bincount(clusters.labels)
        centroids = [majority(codes[~held][clusters.labels == k], bits) for k in range(len(sizes))]
        check_centroids(centroids)
        farthest = find_farthest(codes, centroids) if options.max_distance < 0 else options.max_distance
        publish(options.out / HASH, lambda path: save_file(hasher.state_dict(), path))
        spec = GallerySpec(
            bands=model.spec.bands, buckets=[Bucket(code=f"{int(c):016x}", tiles=int(n)) for c, n in zip(centroids, sizes, strict=True)],
            max_distance=farthest, digest="", cell=options.cell, bits=bits, reduce=options.reduce,
            reading=Reading(bands=options.bands, crs=options.crs, resolution=options.resolution),
        )  # fmt: skip
        spec = msgspec.structs.replace(spec, digest=digest_of(spec, model.digest, options.out / HASH))
        publish(options.out / GALLERY, lambda path: path.write_bytes(encode_toml(spec)))
        labels = all_clusters(features, held, clusters.labels)
        buckets, _ = Embedder(options.out).buckets(codes)
        publish(options.out / "clusters.png", lambda path: draw_knee(path, *clusters[1:], len(sizes)))
        flat = flatten(features, options.seed)
        publish(options.out / "embedding.png", lambda path: draw_embedding(path, flat, labels, buckets, MONO_BUCKET))
        self._lap("judging")
        built = Built(
            len(codes), int(held.sum()), len(sizes), clusters.knee, clusters.numbers, clusters.variances, sizes.tolist(),
            [each.code for each in spec.buckets], farthest, mean_average_precision(codes, labels, held), float((buckets == labels).mean()),
            self.losses, features.shape[1], self.comm.size, [scene.name for scene in self.opened.scenes],
            {key: str(getattr(options, key)) for key in options.__dataclass_fields__}, self.seconds,
        )  # fmt: skip
        publish(options.out / "build.json", lambda path: path.write_text(json.dumps(msgspec.to_builtins(built), indent=1)))
        return built


def _clear(folder: Path) -> None:
    """Remove what an earlier build wrote, its mark first, and nothing else."""
    for name in _OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _save_model(folder: Path, model: Model) -> None:
    """A model folder, of input normalised as the gallery's is."""
    folder.mkdir(exist_ok=True)
    spec = msgspec.structs.replace(model.spec, normalisation=Normalisation(kind="scene"))
    state = {name: value.contiguous() for name, value in model.network.state_dict().items()}
    publish(folder / "weights.safetensors", lambda path: save_file(state, path))
    publish(folder / "model.toml", lambda path: path.write_bytes(encode_toml(spec)))


def bound_lines(wanted: int, most: int) -> list[str]:
    """What to say where a sample must be smaller than it is wanted, for its memory."""
    return [f"note: --sample {wanted}: {most} cells, 1 GB of pixels, are taken at most; a larger --reduce takes more"] * (wanted > most)


def check_sample(sample: Sample, held: np.ndarray, options: BuildOptions) -> None:
    """Raises UsageError where the sample is too small for what is asked."""
    n, left = len(held), int((~held).sum())
    wanted = max(2, options.buckets)
    if left < wanted:
        judged = f", {n - left} of them held back to judge it" if n > left else ""
        what = f"--buckets {options.buckets}" if options.buckets > 2 else "a gallery"
        raise UsageError(
            f"{what}: the archive has {n} cells of {options.cell} pixels at least half of which are valid{judged}; wanted at least"
            f" {wanted} to build buckets from: give more scenes, a smaller --cell, or fewer --buckets"
        )


def find_clusters(features: np.ndarray, options: BuildOptions) -> Clusters:
    """Clusters of features (n, d), their number at the knee unless options say."""
    points = Standard.of(features).apply(features)
    merges = grow_tree(points)
    numbers = list(range(2, min(max(options.max_buckets, 2), len(points)) + 1))
    variances = [mean_variance(points, cut_tree(merges, number)) for number in numbers]
    knee = find_knee(numbers, variances)
    return Clusters(cut_tree(merges, options.buckets or knee), numbers, variances, knee)


def all_clusters(features: np.ndarray, held: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The cluster of every cell: of those held back the one whose mean is nearest."""
    points = Standard.of(features[~held]).apply(features)
    means = np.stack([points[~held][labels == k].mean(0) for k in range(labels.max() + 1)])
    found = nearest_mean(points, means)
    found[~held] = labels
    return found


def check_centroids(centroids: Sequence[np.uint64]) -> None:
    """Raises UsageError if two buckets have the same centroid."""
    for k, code in enumerate(centroids):
        if code in centroids[:k]:
            first = centroids.index(code)
            raise UsageError(f"buckets {first} and {k} have the same centroid code: fewer --buckets, more --bits, or more --hash-steps")


def find_farthest(codes: np.ndarray, centroids: Sequence[np.uint64]) -> int:
    """A distance to the nearest centroid that 99.9 % of a sample's codes keep within, at least 1. The cells held back count too: the
    hashing network knows the others by heart."""
    _, distances = nearest(codes, np.array(centroids, np.uint64))
    return max(1, int(np.percentile(distances, _MEMBERS, method="higher")))


def mean_average_precision(codes: np.ndarray, clusters: np.ndarray, held: np.ndarray) -> float | None:
    """Mean over held cells of the average precision with which their codes find the others of their cluster; None if none is held."""
    found = [
        average_precision(np.bitwise_count(codes[~held] ^ code), clusters[~held] == cluster)
        for code, cluster in zip(codes[held], clusters[held], strict=True)
    ]
    return float(np.mean(found)) if found else None


def flatten(features: np.ndarray, seed: int) -> np.ndarray:
    """Features in two dimensions, (n, 2), by t-SNE (van der Maaten, Hinton, JMLR 2008)."""
    points = Standard.of(features).apply(features)
    return TSNE(2, perplexity=min(30.0, (len(points) - 1) / 3), init="random", random_state=seed).fit_transform(points)


def report_lines(built: Built) -> list[str]:
    """What was built as stable `key=value unit` lines."""
    return [
        f"cells={built.cells}",
        f"held={built.held}",
        f"features={built.features}",
        f"knee={built.knee}",
        f"buckets={built.buckets}",
        f"max_distance={built.max_distance}",
        "map=none (no cell is held back)" if built.map is None else f"map={built.map:.4f}",
        f"same_bucket_as_cluster={100 * built.same:.2f} %",
        *(f"{stage}={seconds:.2f} s" for stage, seconds in built.seconds.items()),
    ]
