"""Truth: the labels of a scene, window by window, for training and evaluation.

Labels are a raster (read like any scene, then looked up in the map), a prediction file, or polygons burned on the fly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from hpcseg import store
from hpcseg.config import LabelSpec
from hpcseg.errors import ReadError, SceneError, StoreError, UsageError
from hpcseg.kernels.classes import NOT_LABELLED, assign_classes, count_classes
from hpcseg.raster import (
    VECTOR_SUFFIXES,
    CellCache,
    PolygonBurner,
    Scene,
    SceneReader,
    Values,
    describe_labels,
    differing_grid,
    read_polygons,
)
from hpcseg.tiles import Window

PREDICTION_SUFFIX = ".h5"
_IGNORE = "ignore"
_COLOUR_WEIGHTS = np.array([1 << 16, 1 << 8, 1], np.float32)
_EXACT = 1 << 24


class Labels(Protocol):
    """One kind of labels: class numbers of windows that lie within the scene."""

    def read(self, window: Window) -> np.ndarray:
        """u8 (height, width), 255 = not labelled."""


class Truth:
    """The labels of one scene. path: of the labels. classes: their names, class 0 first. Safe for several threads."""

    def __init__(self, path: str, classes: Sequence[str], extent: Window, labels: Labels) -> None:
        self.path, self.classes = path, tuple(classes)
        self._extent, self._labels = extent, labels

    def read(self, window: Window, out: np.ndarray) -> None:
        """Fill a window, out: u8 (height, width), with class numbers; 255 = not labelled, as is all beyond the scene's edge.

        Raises UsageError for a value without a class, naming it, the file and the window; ReadError if the file cannot be read.
        """
        inside = window.intersect(self._extent)
        if inside != window:
            out[...] = NOT_LABELLED
        if inside.height and inside.width:
            out[inside.relative_to(window).slices] = self._labels.read(inside)


def count_tile(truth: Truth, window: Window, reader: SceneReader | None = None) -> np.ndarray:
    """Labelled pixels of each class in a window, int64 (n,). Raises as `Truth.read`.

    reader: of the scene, whose pixels without data are not labelled; without it all pixels are taken to have data."""
    labels = np.empty((window.height, window.width), np.uint8)
    truth.read(window, labels)
    if reader is not None and reader.scene.has_gaps:
        values = np.empty((window.height, window.width * len(reader.scene.bands)), np.float32)
        valid = np.empty_like(labels)
        reader.read(window, 0, values, valid)
        labels[valid == 0] = NOT_LABELLED
    counts = np.zeros(len(truth.classes), np.int64)
    count_classes(labels, counts)
    return counts


def open_truth(
    path: str | Path, scene: Scene, spec: LabelSpec, classes: Sequence[str], cache: CellCache, source: str = ""
) -> Truth:
    """The labels of a scene from a raster, a prediction file (.h5) or polygons (.gpkg, .geojson, .json, .shp, .fgb).

    spec: how they become classes; its map takes a prediction file's classes by their names or numbers, names first. Without a map
    they must have the names of `classes` in the same order. classes: names, class 0 first. cache: holds decoded labels, and of
    truths only those open that were used last: there may be any number of them. source: what GDAL opens for a raster, "" = its path
    (see raster.open_label).
    Raises SceneError, beginning with the labels' path, if they cannot be opened or do not lie on the scene's grid; UsageError if the
    specification does not fit them, or names an unknown class.
    """
    path = str(path)
    extent = Window(0, 0, scene.height, scene.width)
    suffix = Path(path).suffix.lower()
    if suffix == PREDICTION_SUFFIX:
        labels: Labels = _open_prediction(path, scene, spec, classes, cache)
    elif suffix in VECTOR_SUFFIXES:
        labels = _BurnedLabels(path, scene, spec, classes, cache)
    else:
        labels = _open_raster(path, scene, spec, classes, cache, source)
    return Truth(path, classes, extent, labels)


class _StoredLabels:
    """Labels of a prediction file, which is open while it was used lately. meaning: u8 (n,), the class of each of the file's."""

    def __init__(self, stored: store.Stored, meaning: Sequence[int], cache: CellCache) -> None:
        self._stored, self._opened, self._key = stored, cache.opened, object()
        self._meaning, self._known = np.full(256, NOT_LABELLED, np.uint8), np.zeros(256, bool)
        self._meaning[: len(meaning)] = meaning
        self._known[[*range(len(meaning)), NOT_LABELLED]] = True

    def read(self, window: Window) -> np.ndarray:
        labels = np.empty((window.height, window.width), np.uint8)
        self._opened.get(self._key, self._open).read(window, labels)
        if not self._known[labels].all():
            wrong = labels[~self._known[labels]][0]
            raise UsageError(f"{self._stored.path}, {window}: label {wrong} is none of the file's own classes")
        return self._meaning[labels]

    def _open(self) -> store.PlaneReader:
        try:
            return store.PlaneReader(self._stored)
        except StoreError as error:
            raise ReadError(str(error)) from error


def _open_prediction(path: str, scene: Scene, spec: LabelSpec, classes: Sequence[str], cache: CellCache) -> _StoredLabels:
    stored = store.read(Path(path))
    grid = stored.layout.grid
    _check_grid(path, scene, differing_grid(scene, grid.height, grid.width, stored.place))
    try:
        names = [each["name"] for each in json.loads(stored.attributes["classes"])]
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(f"{path}: does not name its classes (attribute classes: {error})") from error
    return _StoredLabels(stored, _meaning_of_classes(path, names, spec, classes), cache)


def _meaning_of_classes(path: str, names: Sequence[str], spec: LabelSpec, classes: Sequence[str]) -> list[int]:
    """What each class of a prediction file becomes."""
    if not spec.map and names != list(classes):
        raise SceneError(f"{path}: has the classes {', '.join(names)}, wanted {', '.join(classes)} in this order, or a [labels] map")
    table = resolve_map(spec, classes) or {name: k for k, name in enumerate(names)}
    meaning = [NOT_LABELLED if k in spec.ignore else table.get(name, table.get(str(k))) for k, name in enumerate(names)]
    if None in meaning:
        missing = names[meaning.index(None)]
        raise UsageError(f'{path}: its class {missing} is not in [labels] map, which has {", ".join(spec.map)}: add it, or "{_IGNORE}"')
    return [number for number in meaning if number is not None]


def _check_grid(path: str, scene: Scene, difference: str) -> None:
    if difference:
        raise SceneError(f"{path}: labels on another grid than {scene.name}: it {difference}")


class _BurnedLabels:
    """Labels of polygons, which are in memory while they were used lately."""

    def __init__(self, path: str, scene: Scene, spec: LabelSpec, classes: Sequence[str], cache: CellCache) -> None:
        if spec.map and not spec.field:
            raise UsageError(f"{path}: [labels] map needs [labels] field, the attribute of the polygons to look up")
        self._path, self._scene, self._field, self._cache = path, scene, spec.field, cache
        self._meaning, self._background = _meaning(spec, classes), _number(spec.background, "background", classes)
        self._files, self._cells = object(), object()
        cache.opened.get(self._files, self._open)

    def read(self, window: Window) -> np.ndarray:
        try:
            return self._cache.opened.get(self._files, self._open).read(window)
        except SceneError as error:
            raise ReadError(str(error)) from error

    def _open(self) -> PolygonBurner:
        polygons = read_polygons(self._path, self._scene, self._field)
        unknown = sorted(set(polygons.values) - self._meaning.keys())
        if unknown:
            wanted = f'wanted {", ".join(self._meaning)}: add it to [labels] map, as a class or as "{_IGNORE}"'
            raise UsageError(f"{self._path}: {self._field} is {unknown[0]!r}, {wanted}")
        numbers = np.array([self._meaning[value] for value in polygons.values], np.uint8)
        extent = Window(0, 0, self._scene.height, self._scene.width)
        return PolygonBurner(polygons.shapes, numbers, self._background, extent, self._cache, self._cells)


def _meaning(spec: LabelSpec, classes: Sequence[str]) -> dict[str, int]:
    """Classes of the polygons' attribute, as text."""
    if not spec.field:
        return {"": _number(1, "polygons", classes)}
    table = resolve_map(spec, classes) or {str(k): k for k in range(len(classes))}
    return table | {str(value): NOT_LABELLED for value in spec.ignore}


def resolve_map(spec: LabelSpec, classes: Sequence[str]) -> dict[str, int]:
    """[labels] map as class numbers, 255 = ignore. Raises UsageError for a class that is not among `classes`."""
    return {key: _number(wanted, repr(key), classes) for key, wanted in spec.map.items()}


def _number(wanted: str | int, key: str, classes: Sequence[str]) -> int:
    if wanted == _IGNORE:
        return NOT_LABELLED
    if wanted in classes:
        return list(classes).index(str(wanted))
    if isinstance(wanted, int) and 0 <= wanted < len(classes):
        return wanted
    names = ", ".join(f"{k} {name}" for k, name in enumerate(classes))
    raise UsageError(f"[labels] maps {key} to {wanted!r}, which is no class: wanted one of {names}, or {_IGNORE}")


class _Lookup(NamedTuple):
    """Known values, float32 (k,) ascending, and their classes, u8 (k,). colours: values are red << 16 | green << 8 | blue.

    names: what messages call a value.
    """

    known: np.ndarray
    classes: np.ndarray
    colours: bool
    names: dict[int, str]


def _open_raster(
    path: str, scene: Scene, spec: LabelSpec, classes: Sequence[str], cache: CellCache, opens: str
) -> _RasterLabels:
    colours = _has_colours(spec)
    try:
        source, palette = describe_labels(path, spec.band, colours, opens)
    except SceneError as error:
        raise SceneError(f"{path}: {error}") from error
    _check_grid(path, scene, differing_grid(scene, source.height, source.width, source.place))
    if not spec.map and spec.band == 1 and source.count - source.mask > 1:
        raise UsageError(f"{path}: has {source.count} bands: say what their colours or values mean in [labels] map, or set band")
    table = resolve_map(spec, classes) or {str(k): k for k in range(len(classes))}
    names = palette if colours else {}
    if names:
        wanted = {colour.lower(): number for colour, number in table.items()}
        table = {str(k): wanted[colour] for k, colour in names.items() if colour in wanted}
    return _RasterLabels(path, source, _lookup(table, spec, colours and not names, names), spec, classes, cache)


def _has_colours(spec: LabelSpec) -> bool:
    """Whether the map's keys are colours. Raises UsageError if some are and some are not."""
    colours = [key.startswith("#") for key in spec.map]
    if any(colours) and not all(colours):
        raise UsageError(f"[labels] map mixes colours and values: {', '.join(spec.map)}")
    return any(colours)


def _lookup(table: dict[str, int], spec: LabelSpec, colours: bool, names: dict[int, str]) -> _Lookup:
    values = {_value(key): number for key, number in table.items()}
    for value in spec.ignore:
        if spec.map and values.get(value, NOT_LABELLED) != NOT_LABELLED:
            raise UsageError(f"[labels] has the value {value} in map and in ignore: leave it out of one")
        values[value] = NOT_LABELLED
    known = sorted(values)
    return _Lookup(np.array(known, np.float32), np.array([values[v] for v in known], np.uint8), colours, names)


def _value(key: str) -> float:
    """The number that a key of the map stands for. Raises UsageError for other text, and for what float32 cannot tell apart."""
    try:
        value = float(int(key[1:], 16)) if key.startswith("#") else float(key)
    except ValueError as error:
        raise UsageError(f'[labels] map: {key!r} is neither a number nor a colour "#rrggbb"') from error
    if not abs(value) < _EXACT or value != np.float32(value) or (key.startswith("#") and len(key) != 7):
        raise UsageError(f'[labels] map: {key!r} is neither a number below {_EXACT} nor a colour "#rrggbb"')
    return value


class _RasterLabels:
    """Labels of a raster: its values through a lookup."""

    def __init__(self, path: str, source: Scene, lookup: _Lookup, spec: LabelSpec, classes: Sequence[str], cache: CellCache) -> None:
        n = len(source.bands)
        # A colour whose red alone is the no-data value is data: its value must stay.
        missing = float(source.nodata[0] or 0) if lookup.colours else np.nan
        self._reader = SceneReader(source, Values((1.0,) * n, (0.0,) * n, missing=missing), cache)
        self._path, self._bands, self._lookup, self._spec, self._classes = path, n, lookup, spec, classes

    def read(self, window: Window) -> np.ndarray:
        values = np.empty((window.height, window.width * self._bands), np.float32)
        valid = np.empty((window.height, window.width), np.uint8)
        self._reader.read(window, 0, values, valid)
        if self._lookup.colours:
            values = values.reshape(window.height, window.width, 3) @ _COLOUR_WEIGHTS
        out = np.empty_like(valid)
        unknown = assign_classes(values, valid, self._lookup.known, self._lookup.classes, out)
        if unknown >= 0:
            present = set(values[valid != 0].tolist())
            raise UsageError(f"{self._path}, {window}: {self._explain(float(values.flat[unknown]), present)}")
        return out

    def _explain(self, value: float, present: set[float]) -> str:
        """What to do about an unknown value. present: all values of the window."""
        n = len(self._classes)
        text = f"#{int(value):06x}" if self._lookup.colours else self._lookup.names.get(int(value), f"{value:g}")
        if self._spec.map:
            return f'{text} is not in [labels] map, which has {", ".join(self._spec.map)}: add it, as a class or as "{_IGNORE}"'
        if value == 255 and present <= {0.0, 255.0} and n == 2:
            pair = f'{{"0" = "{self._classes[0]}", "255" = "{self._classes[1]}"}}'
            return f"labels are 0 and 255: add [labels] map = {pair}, or [labels] ignore = [255] if 255 means not labelled"
        return f"{text} is no class (0 to {n - 1}): say in [labels] map what it means, or add [labels] ignore = [{text}]"
