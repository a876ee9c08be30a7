"""What the API does: the parts of a session together, without HTTP."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import FullconvError, UsageError
from fullconv.extras import need_torch
from fullconv.label.events import Events
from fullconv.label.pyramid import Pyramid, tile_window
from fullconv.label.store.classes import show_color
from fullconv.label.store.store import Store
from fullconv.label.store.strokes import Stroke, brush, polygon, read_points
from fullconv.label.tools import MOST_ACCEPTED, Scope, accept, fill
from fullconv.label.train_process import TrainProcess, training_help
from fullconv.label.work import Work
from fullconv.labels import IGNORE_INDEX
from fullconv.visible import make_visible

__all__ = ["LabelTile", "Server", "StrokeRequest"]

MOST_PREDICTED = MOST_ACCEPTED + 2**20
"""Tiles that show more pixels have no prediction: computing them takes too long."""

PATIENCE = 50.0
"""Seconds in which all masks must be written for a training: the page waits 60 s for an answer."""


@dataclass(frozen=True)
class LabelTile:
    """Class keys of a tile, as gzip; `size` is (height, width), `version` that of the model."""

    packed: bytes
    size: tuple[int, int]
    version: int = 0


@dataclass(frozen=True)
class StrokeRequest:
    """A stroke as the page sends it."""

    client: str
    tool: str
    key: int
    points: list[list[float]]
    radius: float
    tolerance: int
    scope: Scope
    number: int | None = None


@dataclass(frozen=True)
class Server:
    """A session that pages look at. All methods may be called from any thread."""

    store: Store
    work: Work
    pyramid: Pyramid
    training: TrainProcess
    events: Events
    start: str | None = None

    def open(self) -> None:
        """Start the threads of the model."""
        self.work.start()

    def close(self) -> None:
        """Stop the training and the threads, and save the model. The store is closed by its owner."""
        self.training.close()
        self.work.close()

    def project(self) -> dict[str, Any]:
        """Return what the page shows of the session."""
        classes = [
            {"key": one.key, "name": one.name, "color": show_color(one.color)} for one in self.store.classes.classes
        ]
        help = training_help()
        return {
            "name": make_visible(self.store.data.name),
            "session": self.store.session,
            "images": len(self.store.photos),
            "classes": classes,
            "version": self.work.learner.version,
            "start": self.start and make_visible(self.start),
            "training_available": not help,
            "training_help": help,
        }

    def images(self) -> list[dict[str, Any]]:
        """Return all images in the order of what to label next; unreadable ones come last."""
        errors = self.work.errors
        ordered = sorted(self.work.order, key=lambda id: id in errors)
        return [self._describe(id) for id in ordered]

    def _describe(self, id: str) -> dict[str, Any]:
        height, width = self.store.known_size(id)
        score, reason = self.work.ranked.get(id, (None, ""))
        name, error = self.store.photos[id].name, self.work.errors.get(id)
        values = {"id": id, "name": make_visible(name), "width": width, "height": height}
        values |= {"photo": self.store.photo_version(id), "painted": self.store.painted(id)}
        values |= {"score": score, "reason": reason}
        return values | {"error": error and make_visible(error)}

    def photo_tile(self, id: str, level: int, column: int, row: int) -> bytes:
        """Return a tile of a photo as a JPEG file. The list of images asks for it, too, for its small pictures."""
        photo = self.store.photo(id)
        with self.work.looking(None):
            return self.pyramid.tile(photo.path, self.store.size(id), level, column, row)

    def label_tile(self, id: str, level: int, column: int, row: int) -> LabelTile:
        """Return what is painted in a tile. The page asks for it only for the image on its canvas."""
        rows, columns = tile_window(self.store.size(id), level, column, row)
        with self.work.looking(id):
            return _pack(self.store.read(id, rows, columns, 1 << level))

    def prediction_tile(self, id: str, level: int, column: int, row: int) -> LabelTile | None:
        """Return what the model predicts in a tile; None without a model, and for a view of too many pixels."""
        rows, columns = tile_window(self.store.size(id), level, column, row)
        learner = self.work.learner
        version = learner.version
        if not version or len(rows) * len(columns) > MOST_PREDICTED:
            return None
        with self.work.looking(id):
            keys = learner.predict(self.store.photo(id).path, rows, columns)
        if keys is None:
            return None
        step = 1 << level
        return _pack(keys[::step, ::step], version)

    def uncertain(self, id: str) -> list[dict[str, Any]]:
        """Return the places of an image that are worth a label, the most uncertain first."""
        photo = self.store.photo(id)
        self.store.size(id)
        if not self.work.learner.version:
            return []
        return [asdict(place) for place in self.work.learner.uncertain(photo.path)]

    def paint(self, id: str, request: StrokeRequest) -> dict[str, Any]:
        """Paint a stroke, and return its id, box and number of pixels when it is on the disk.

        The client's last request gets its answer again; the client sends it again if no answer came.
        """
        client, key, number = request.client, request.key, request.number
        before = self.store.answered(id, client, number)
        if before is not None:
            return self._painted(id, client, *self.store.paint(id, lambda canvas: before, number))
        photo, size = self.store.photo(id), self.store.size(id)
        points = read_points(request.points)
        if request.tool != "accept" and key != IGNORE_INDEX:
            self.store.classes.find(key)
        if request.tool == "brush":
            stroke = brush(size, client, key, points, request.radius)
        elif request.tool == "polygon":
            stroke = polygon(size, client, key, points)
        elif request.tool == "fill":
            tolerance = request.tolerance
            stroke = fill(
                size, lambda *window: self.pyramid.window(photo.path, size, *window), client, key, points, tolerance
            )
        else:
            return self._painted(id, client, *self.store.paint(id, self._accept(id, request), number))
        return self._painted(id, client, *self.store.paint(id, lambda canvas: stroke, number))

    def _accept(self, id: str, request: StrokeRequest) -> Any:
        path = self.store.photo(id).path

        def predict(rows: range, columns: range) -> UInt8:
            keys = self.work.learner.predict(path, rows, columns)
            if keys is None:
                raise UsageError("there is no prediction yet; paint two classes first", code="no-prediction")
            return keys

        resolve = self.store.classes.resolve
        points = read_points(request.points)
        return accept(self.store.size(id), predict, resolve, request.client, points, request.scope)

    def _painted(self, id: str, client: str, stroke: Stroke, pixels: int) -> dict[str, Any]:
        if pixels:
            self._changed(id, client, stroke)
        return {"stroke": stroke.id or None, "box": list(stroke.box), "pixels": pixels}

    def move(self, id: str, client: str, redo: bool, number: int | None = None) -> dict[str, Any]:
        """Undo or redo the last stroke of a client on an image; once for each number."""
        stroke = self.store.redo(id, client, number) if redo else self.store.undo(id, client, number)
        if stroke is None:
            return {"stroke": None, "box": None}
        self._changed(id, client, stroke)
        return {"stroke": stroke.id, "box": list(stroke.box)}

    def _changed(self, id: str, client: str, stroke: Stroke) -> None:
        self.events.publish("stroke", {"image": id, "box": list(stroke.box), "client": client})
        self.work.touch(id)

    def change_classes(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """Change the classes, and return the new project."""
        self.store.change_classes(action)
        self.work.change_classes()
        self.events.publish("classes", {})
        return self.project()

    def start_training(self) -> None:
        """Train on what is painted now. Raises FullconvError, in one sentence, if that is impossible."""
        need_torch()
        if not self.store.flush(PATIENCE):
            failure = self.store.failure or "not all masks are written yet"
            message = f"{failure}; a training would miss these labels: try again when they are written"
            raise FullconvError(message, code="masks-not-written")
        count = sum(self.store.painted(id) > 0 for id in self.store.photos)
        if count < 2:
            message = "a training needs two labelled images at least: one to learn from, one to judge it"
            raise FullconvError(message, code="too-few-labelled")
        if len(self.store.classes.classes) < 2:
            raise FullconvError("a training needs two classes at least; add one", code="too-few-labelled")
        self.training.start()


def _pack(keys: UInt8, version: int = 0) -> LabelTile:
    packed = gzip.compress(np.ascontiguousarray(keys).tobytes(), 1, mtime=0)
    return LabelTile(packed, (keys.shape[0], keys.shape[1]), version)
