"""The live model: score layers on frozen taps, fitted to the painted pixels of all images after each stroke."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock, RLock

import numpy as np
import onnx

from fullconv.arrays import Float32, Int64, UInt8
from fullconv.errors import DataError
from fullconv.files import atomic_write
from fullconv.images.input_format import RGB, InputFormat
from fullconv.label.live.cache import DiskCache
from fullconv.label.live.decode import Features, fuse, gather, label, logits_on_grid
from fullconv.label.live.model import Classes, Model, Scale
from fullconv.label.live.network import MAX_WHOLE_PIXELS, TapNetwork
from fullconv.label.live.places import Place, Ranked, find_places, margin, rank_images, read_summary
from fullconv.label.live.priors import choose_penalty, count_regions
from fullconv.label.live.samples import Painted, choose, weigh
from fullconv.label.live.tap_store import Part, TapStore
from fullconv.labels import IGNORE_INDEX, LabelSet
from fullconv.onnx_graph.compose import compose
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.models import taps_path

__all__ = ["Learner"]

Color = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class _Gathered:
    """The samples of an image that are fitted: where they lie, row * 2**32 + column, sorted, and their features."""

    places: Int64
    features: Features


class Learner:
    """A model that is fitted to painted pixels in less than a second. All methods may be called from several threads.

    Class keys are stable numbers from 0 to 254; the classes of the saved file are numbered in the order in which
    `set_classes` lists them. A method that needs taps which are not in the cache computes them, which takes about a
    second per megapixel; `prepare` does so in advance.
    """

    def __init__(
        self,
        start: Path | None,
        cache: Path,
        input: InputFormat = RGB,
        max_cache_bytes: int = 4 * 2**30,
        max_whole_pixels: int = MAX_WHOLE_PIXELS,
    ) -> None:
        """Start from the bundled taps, or from the taps and score layers of a .onnx file of fullconv.

        `input` gives the value range for the bundled taps, which read RGB; a file has its own format. `cache` is a
        folder for taps, of at most `max_cache_bytes`. Images of more than `max_whole_pixels` are computed in parts,
        where they are looked at.

        Raises ModelError for a file whose score layers cannot be replaced.
        """
        self._disk = DiskCache(cache, max_cache_bytes)
        self._value_range, self._max_whole_pixels = input.value_range, max_whole_pixels
        self._state, self._fitting = RLock(), Lock()
        self._classes = Classes(())
        self._painted: dict[Path, Painted] = {}
        self.version = 0
        self._load(start)

    def _load(self, start: Path | None) -> None:
        network = TapNetwork(taps_path() if start is None else start)
        own = network.split.metadata.info.input
        format = InputFormat(3, self._value_range) if start is None else own
        self._store = TapStore(network, format, self._disk, self._max_whole_pixels)
        self._gathered: dict[Path, _Gathered] = {}
        self._model = Model(network.split, self._classes)
        self._judged = 0, 0

    @property
    def start_names(self) -> tuple[str, ...]:
        """The names of the classes of the start."""
        return self._store.network.split.metadata.info.labels.class_names

    def set_classes(self, labels: Sequence[tuple[int, str, Color]]) -> None:
        """Set the classes: (key, name, colour) in their order. Classes that remain keep their weights."""
        with self._fitting, self._state:
            self._classes = Classes(tuple(labels))
            self._model = self._model.with_classes(self._classes)
            if self._model.usable:
                self.version += 1

    def set_labels(self, image: Path, rows: Int64, columns: Int64, keys: UInt8) -> None:
        """Set the painted pixels of an image, all of them each time; none at all for an image without paint."""
        painted = Painted(np.asarray(rows, np.int64), np.asarray(columns, np.int64), np.asarray(keys, np.uint8))
        with self._state:
            if len(painted.rows):
                self._painted[image] = painted
            else:
                self._painted.pop(image, None)
                self._gathered.pop(image, None)

    def fit(self) -> int:
        """Fit the samples of all images, and return the number of the new version.

        It is 0, and there is no prediction, while fewer than two classes are painted and the start has no classes of
        these names either. The paint of an image that cannot be read any more is left out.
        """
        with self._fitting:
            with self._state:
                painted, model = dict(self._painted), self._model
            known = set(self._classes.keys)
            features, targets, regions = [], [], 0
            for image, pixels in painted.items():
                index = choose(pixels, len(painted))
                index = index[np.isin(pixels.keys[index], list(known))]
                if not len(index):
                    continue
                try:
                    features.append(self._features(image, pixels.rows[index], pixels.columns[index]))
                except (OSError, DataError):  # removed or damaged since it was painted; its paint waits for it
                    continue
                targets.append(pixels.keys[index])
                regions += count_regions(pixels.rows[index], pixels.columns[index], pixels.keys[index])
            scale = self._scale(painted)
            if scale is None or not model.fittable(targets):
                model = model.reset()
            else:
                keys, joined, penalty = np.concatenate(targets), Features.join(features), choose_penalty(regions)
                if len(targets) != self._judged[0] or len(keys) > 1.5 * self._judged[1]:
                    groups = np.repeat(np.arange(len(targets)), [len(part) for part in targets])
                    model = model.judged(joined, keys, groups, scale, penalty)
                    self._judged = len(targets), len(keys)
                model = model.fitted(joined, keys, weigh(keys.astype(np.int64)), scale, penalty)
            with self._state:
                self._model = model
                self.version = self.version + 1 if model.usable else 0
                return self.version

    def predict(self, image: Path, rows: range, columns: range) -> UInt8 | None:
        """Return the class keys of a window of the image, H x W; None while the version is 0.

        Pixels outside of the image are 255.
        """
        with self._state:
            model, store = self._model, self._store
        if not model.usable:
            return None
        result = np.full((len(rows), len(columns)), IGNORE_INDEX, np.uint8)
        for part in store.parts(image, rows, columns):
            (down, across), size = _overlap(part, rows, columns)
            fused = fuse(store.maps(part), store.network.axes, model.layers, down, across)
            ids = label(fused, store.network.split.metadata, size)
            keys = model.keys[ids]
            result[down.start - rows.start : down.stop - rows.start, across.start - columns.start :][
                :, : len(across)
            ] = keys
        return result

    def confidence(self, image: Path, step: int) -> Float32:
        """Return how uncertain every `step`th row and column is: 1 - the margin of the two most probable classes.

        Of a large image, only parts that were looked at are computed; others are 0. All is 1 while the version is 0.
        """
        with self._state:
            model, store = self._model, self._store
        height, width = store.size(image)
        result = np.full((-(-height // step), -(-width // step)), np.float32(not model.usable))
        parts = list(store.parts(image, range(height), range(width)))
        for part in parts if model.usable else ():
            if len(parts) > 1 and not store.has(part):
                continue
            down, across = (range(-(-cut.keep.start // step) * step, cut.keep.stop) for cut in part.cuts)
            if not len(down) or not len(across):
                continue
            fused = fuse(store.maps(part), store.network.axes, model.layers, down, across)
            size = len(down), len(across)
            grid = logits_on_grid(fused, store.network.split.metadata, size, step)
            result[down.start // step :, across.start // step :][: grid.shape[1], : grid.shape[2]] = 1 - margin(grid)
        return result

    def rank(self, images: Sequence[Path]) -> list[Ranked]:
        """Return the images in the order in which a label would teach most, with a score and the reason.

        Only images whose taps are in the cache are judged; the others follow.
        """
        with self._state:
            model, store, painted = self._model, self._store, dict(self._painted)
        return rank_images(images, store, model, painted, self._scale(painted))

    def uncertain(self, image: Path, most: int = 50) -> list[Place]:
        """Return the places of an image that are most uncertain and not painted, the most uncertain one first."""
        with self._state:
            painted = self._painted.get(image)
        size = self._store.size(image)
        return find_places(lambda step: self.confidence(image, step), size, painted, most)

    def prepare(self, image: Path) -> None:
        """Compute and store the taps of an image; of a large one, those of its middle."""
        store = self._store
        store.maps(store.central(image))

    def save(self, path: Path) -> None:
        """Write the model as one ONNX file, atomically: `predict`, `evaluate` and `load` read it as any other.

        Raises DataError if two classes have one name.
        """
        with self._state:
            model, store = self._model, self._store
        file = compose(store.network.split, model.layers, self._describe(model, store))
        with atomic_write(path) as temporary:
            onnx.save(file, temporary)

    def replace(self, start: Path) -> None:
        """Continue on a trained model: its taps and score layers are the new start, and corrections are added to them.

        The painted pixels stay. Their features are computed with the next `fit`. Raises ModelError as the constructor.
        """
        with self._fitting, self._state:
            self._load(start)
            self._model = self._model.with_classes(self._classes)
            self.version += 1

    def _describe(self, model: Model, store: TapStore) -> ModelMetadata:
        metadata = store.network.split.metadata
        named = {key: (name, color) for key, name, color in self._classes.labels}
        names, colors = zip(*(named[int(key)] for key in model.keys), strict=True)
        info = replace(metadata.info, labels=LabelSet(names, colors), input=store.input)
        notes = {name: note for name, note in metadata.notes.items() if name in ("network", "weights", "licence")}
        if isinstance(notes.get("network"), dict):
            notes["network"] = {**notes["network"], "num_classes": len(names)}
        return replace(metadata, info=info, notes=notes)

    def _scale(self, painted: dict[Path, Painted]) -> Scale | None:
        summaries = [read_summary(self._store, image) for image in sorted(painted)]
        known = [summary for summary in summaries if summary is not None]
        return Scale.of(known, self._store.network.channels) if known else None

    def _features(self, image: Path, rows: Int64, columns: Int64) -> Features:
        """Return the features of pixels of an image; those of the last call are not read again."""
        places = rows * 2**32 + columns
        old = self._gathered.get(image)
        features: list[Features] = []
        where = []
        if old is not None:
            at = np.minimum(np.searchsorted(old.places, places), len(old.places) - 1)
            same = old.places[at] == places
            features.append(old.features[at[same]])
            where.append(np.flatnonzero(same))
            new = np.flatnonzero(~same)
        else:
            new = np.arange(len(places))
        for part, inside in self._by_part(image, rows[new], columns[new]):
            index = new[inside]
            features.append(gather(self._store.maps(part), self._store.network.axes, rows[index], columns[index]))
            where.append(index)
        order = np.argsort(np.concatenate(where))
        joined = Features.join(features)[order]
        sort = np.argsort(places)
        self._gathered[image] = _Gathered(places[sort], joined[sort])
        return joined

    def _by_part(self, image: Path, rows: Int64, columns: Int64) -> Iterator[tuple[Part, Int64]]:
        """Yield the parts of an image that hold some of these pixels, each with their indices."""
        if not len(rows):
            return
        box = [range(int(axis.min()), int(axis.max()) + 1) for axis in (rows, columns)]
        for part in self._store.parts(image, *box):
            (top, bottom), (left, right) = ((cut.keep.start, cut.keep.stop) for cut in part.cuts)
            inside = np.flatnonzero((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))
            if len(inside):
                yield part, inside


def _overlap(part: Part, rows: range, columns: range) -> tuple[tuple[range, range], tuple[int, int]]:
    """Return the rows and columns that a part keeps of a window, and their number."""
    down, across = (
        range(max(pixels.start, cut.keep.start), min(pixels.stop, cut.keep.stop))
        for pixels, cut in zip((rows, columns), part.cuts, strict=True)
    )
    return (down, across), (len(down), len(across))
