"""The state of a session on the disk and in memory: images, classes, strokes, and the masks that follow from them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from fullconv.arrays import Int64, UInt8
from fullconv.errors import DataError, UsageError
from fullconv.images import InputFormat
from fullconv.label.store.base import Bases
from fullconv.label.store.canvas import Canvas
from fullconv.label.store.classes import ClassTable
from fullconv.label.store.folder import STATE, MaskRecord, write_dataset
from fullconv.label.store.journal import Journal
from fullconv.label.store.masks import write_mask
from fullconv.label.store.opened import Opened
from fullconv.label.store.photos import Photo, Source
from fullconv.label.store.sampling import sample_pixels
from fullconv.label.store.sizes import Sizes, stamp_of
from fullconv.label.store.strokes import Stroke
from fullconv.labels import IGNORE_INDEX

__all__ = ["Painted", "Store"]

logger = logging.getLogger(__name__)

MOST_CANVAS_BYTES = 400 * 2**20
"""Canvases of images that were not used last are dropped from the memory beyond this; their journals remain."""

WAIT = 0.3
"""Seconds after a stroke until its mask is written; further strokes in this time are written together."""


@dataclass(frozen=True)
class Painted:
    """How many pixels of an image have each raw key, and how many it has in all."""

    counts: Mapping[int, int]
    pixels: int


class Store:
    """A session with its id. All methods may be called from any thread. `session.open_session` makes it."""

    def __init__(
        self, source: Source, data: Path, classes: ClassTable, input: InputFormat, project: Journal, session: str
    ) -> None:
        self.source, self.data, self.classes, self.input, self.session = source, data, classes, input, session
        self.photos = {photo.id: photo for photo in source.photos}
        self._project = project
        self._bases = Bases(source.dataset, classes)
        self._records = MaskRecord(data / STATE / "masks")
        self._painted: dict[str, Painted] = {}
        self._sizes = Sizes()
        self._open: OrderedDict[str, Opened] = OrderedDict()
        self._locks = {id: threading.RLock() for id in self.photos}
        self._lock = threading.RLock()
        self._dirty: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._writing = ""
        self._wake = threading.Condition(threading.Lock())
        self._stopped = False
        self._writer = threading.Thread(target=self._write_masks, name="label-masks", daemon=True)

    def start(self) -> None:
        """Find the masks that are older than their strokes, and write them and all later ones in the background."""
        for photo in self.source.photos:
            record, length = self._records.read(photo.id), self._journal_bytes(photo)
            if record:
                self._painted[photo.id] = painted = Painted(record["counts"], record["pixels"])
                if record["made_of"] == self._made_of(photo, length, self._stamps(photo), painted):
                    continue
            if photo.base is not None or record or length:
                self._dirty[photo.id] = 0.0
        self._writer.start()

    def close(self) -> None:
        """Write all masks, those that failed once more, and close the journals."""
        with self._wake:
            self._retry_failed()
            self._stopped = True
            self._wake.notify_all()
        if self._writer.is_alive():
            self._writer.join()
        with self._lock:
            for opened in self._open.values():
                opened.journal.close()
            self._open.clear()
        self._project.close()

    def photo(self, id: str) -> Photo:
        """Return an image by its id. Raises UsageError for an id that is not in the table."""
        photo = self.photos.get(id)
        if photo is None:
            raise UsageError("there is no image with this id", code="unknown-image-id")
        return photo

    def size(self, id: str) -> tuple[int, int]:
        """Return (height, width) of an image. Raises DataError as `Sizes.read`."""
        return self._sizes.read(self.photo(id).path)

    def known_size(self, id: str) -> tuple[int, int]:
        """Return the size if it is known already, otherwise (0, 0)."""
        return self._sizes.known(self.photo(id).path)

    def photo_version(self, id: str) -> str:
        """Return a text that no other photo of any session has, also under the same id; empty if none was read yet."""
        size, changed = self._sizes.stamp(self.photo(id).path)
        return f"{self.session}-{size:x}-{changed:x}" if size else ""

    def answered(self, id: str, client: str, number: int | None) -> Stroke | None:
        """Return the stroke of a client's last request on an image, if it had this number: its answer was lost."""
        with self._opened(id) as opened:
            return opened.answered(client, number)

    def paint(self, id: str, make: Callable[[Canvas], Stroke], number: int | None = None) -> tuple[Stroke, int]:
        """Paint the stroke that `make` returns, put it on the disk, and return it with its id and number of pixels.

        A stroke that covers no pixel is not kept, and has the id 0. For the `number` of the client's last request, its
        stroke is returned, and nothing is painted. Raises FullconvError if it cannot be written; then nothing is
        painted, either.
        """
        self.size(id)
        with self._opened(id) as opened:
            stroke = make(opened.canvas)
            before = opened.answered(stroke.client, number)
            pixels = opened.canvas.covered(before or stroke)
            if before is not None:
                return before, pixels
            if not pixels:
                return replace(stroke, id=0), 0
            numbered = replace(stroke, id=opened.canvas.next_id)
            opened.write(numbered.to_line(), numbered, number)
            opened.canvas.add(numbered)
        self._mark(id)
        return numbered, pixels

    def undo(self, id: str, client: str, number: int | None = None) -> Stroke | None:
        """Take back the last stroke of a client on an image, and return it; None if there is none."""
        return self._move(id, client, "undo", number)

    def redo(self, id: str, client: str, number: int | None = None) -> Stroke | None:
        """Paint the last undone stroke of a client again, and return it; None if there is none."""
        return self._move(id, client, "redo", number)

    def _move(self, id: str, client: str, operation: Literal["undo", "redo"], number: int | None) -> Stroke | None:
        """Note that a stroke is undone or redone, and then do it; once for each number."""
        self.size(id)
        with self._opened(id) as opened:
            before = opened.answered(client, number)
            if before is not None:
                return before
            canvas, undoes = opened.canvas, operation == "undo"
            stroke = canvas.last_done(client) if undoes else canvas.last_undone(client)
            if stroke is None:
                return None
            opened.write({"op": operation, "id": stroke.id, "client": client}, stroke, number)
            canvas.undo(client) if undoes else canvas.redo(client)
        self._mark(id)
        return stroke

    def read(self, id: str, rows: range, columns: range, step: int = 1) -> UInt8:
        """Return the keys of the classes of a window today, h x w uint8, reduced by `step`; 255 where there is none."""
        with self._opened(id) as opened:
            raw = opened.canvas.read(rows, columns, step)
        keys: UInt8 = self.classes.resolve[raw]
        return keys

    def sample(self, id: str, most: int) -> tuple[Int64, Int64, UInt8]:
        """Return rows, columns and keys of at most about `most` painted pixels, evenly spread for each class."""
        self.size(id)
        with self._opened(id) as opened:
            return sample_pixels(opened.canvas, self.classes.resolve, most)

    def painted(self, id: str) -> float:
        """Return the share of an image's pixels that have a class."""
        painted = self._painted.get(id)
        if painted is None:
            return 0.0
        resolve = self.classes.resolve
        count = sum(number for key, number in painted.counts.items() if resolve[key] != IGNORE_INDEX)
        return count / painted.pixels

    def has_labels(self, id: str) -> bool:
        """Return whether an image has a painted pixel, or may have one soon because its mask is being written."""
        with self._wake:
            waits = id in self._dirty or id == self._writing
        return waits or self.painted(id) > 0

    def change_classes(self, action: Mapping[str, Any]) -> None:
        """Change the classes, put that on the disk, and write all masks again. Raises as `ClassTable.plan`."""
        with self._lock:
            line = self.classes.plan(action)
            before = {id: self._meaning(painted) for id, painted in self._painted.items()}
            self._project.append(line)
            self.classes.apply(line)
            write_dataset(self.data, self.classes, self.input)
            changed = [id for id, painted in self._painted.items() if self._meaning(painted) != before.get(id)]
        with self._wake:
            self._dirty |= {id: self._dirty.get(id, time.monotonic()) for id in changed}
            self._wake.notify_all()

    def flush(self, timeout: float = 600.0) -> bool:
        """Wait until all masks are on the disk; return whether they are. Those that failed are tried once more.

        Images and strokes that cannot be read do not count: their masks stay as they are.
        """
        with self._wake:
            self._retry_failed()
            self._dirty = dict.fromkeys(self._dirty, 0.0)
            self._wake.notify_all()
            written = self._wake.wait_for(lambda: not self._dirty and not self._writing, timeout)
            return written and not self._failed

    def _retry_failed(self) -> None:
        self._dirty |= dict.fromkeys(self._failed, 0.0)
        self._failed.clear()

    @property
    def failure(self) -> str:
        """Why a mask could not be written; empty if all could."""
        with self._wake:
            return next(iter(self._failed.values()), "")

    @contextmanager
    def _opened(self, id: str) -> Iterator[Opened]:
        """Hold an image with its strokes in memory. Raises DataError if image or journal cannot be read."""
        photo = self.photo(id)
        with self._locks[id]:
            with self._lock:
                opened = self._open.get(id)
                if opened is not None:
                    self._open.move_to_end(id)
            if opened is None:
                size, stamps = self.size(id), self._stamps(photo)
                opened = Opened(self._journal_path(photo), photo.path, size, self._bases.open(photo, size), stamps)
                with self._lock:
                    self._open[id] = opened
                    self._drop_others(id)
            try:
                yield opened
            finally:
                opened.bytes = opened.canvas.bytes

    def _drop_others(self, id: str) -> None:
        """Drop the images that were not used for the longest time from the memory, if it is too much."""
        total = sum(opened.bytes for opened in self._open.values())
        for other in list(self._open):
            if total <= MOST_CANVAS_BYTES and len(self._open) <= 32:
                return
            if other == id or not self._locks[other].acquire(blocking=False):
                continue
            try:
                opened = self._open.pop(other)
                total -= opened.bytes
                opened.journal.close()
            finally:
                self._locks[other].release()

    def _mark(self, id: str) -> None:
        with self._wake:
            self._dirty.setdefault(id, time.monotonic() + WAIT)
            self._wake.notify_all()

    def _write_masks(self) -> None:
        """Write the masks of changed images, until the session ends and none is left."""
        while True:
            with self._wake:
                while True:
                    now = time.monotonic()
                    due = next((id for id, when in self._dirty.items() if when <= now or self._stopped), None)
                    if due is not None:
                        del self._dirty[due]  # a stroke from now on marks it again
                        self._writing = due
                        break
                    if self._stopped:
                        return
                    waits = [when - now for when in self._dirty.values()]
                    self._wake.wait(min(waits, default=None))
            try:
                self._write_mask(self.photos[due])
            except Exception as error:  # one image never stops the others
                failure = f"the mask of {self.photos[due].name} is not written: {error}"
                logger.warning(failure)
                if not isinstance(error, DataError):
                    with self._wake:
                        self._failed[due] = failure
            with self._wake:
                self._writing = ""
                self._wake.notify_all()

    def _write_mask(self, photo: Photo) -> None:
        with self._opened(photo.id) as opened, self._lock:
            labels, ids = self.classes.labels, self.classes.ids
            size, counts = opened.canvas.size, opened.canvas.count()
            found = {key: int(counts[key]) for key in range(IGNORE_INDEX) if counts[key]}
            painted = self._painted[photo.id] = Painted(found, size[0] * size[1])
            made_of = self._made_of(photo, opened.journal.length, opened.stamps, painted)
        path = self.data.joinpath("masks", *photo.mask.split("/"))
        if any(ids[key] != IGNORE_INDEX for key in found):
            write_mask(path, size, partial(self._read_raw, photo.id), ids, labels)
        else:
            path.unlink(missing_ok=True)
        before = self._records.read(photo.id).get("mask")
        if isinstance(before, str) and before not in self._mask_names and ".." not in PurePosixPath(before).parts:
            self.data.joinpath("masks", *PurePosixPath(before.lstrip("/")).parts).unlink(missing_ok=True)
        counted = {str(key): count for key, count in found.items()}
        record = {"made_of": made_of, "mask": photo.mask, "counts": counted, "pixels": size[0] * size[1]}
        self._records.write(photo.id, record)

    def _read_raw(self, id: str, rows: range, columns: range) -> UInt8:
        with self._opened(id) as opened:
            return opened.canvas.read(rows, columns)

    @property
    def _mask_names(self) -> set[str]:
        return {photo.mask for photo in self.source.photos}

    def _stamps(self, photo: Photo) -> list[Any]:
        """Return what identifies the files of an image today."""
        return [*stamp_of(photo.path), *self._bases.made_of(photo)]

    def _made_of(self, photo: Photo, journal: int, stamps: list[Any], painted: Painted) -> list[Any]:
        """Return all that a mask follows from, for comparisons; `stamps` are those of the files that were read."""
        return [journal, photo.mask, *stamps, self._meaning(painted)]

    def _meaning(self, painted: Painted) -> list[list[int]]:
        """Return each raw key of an image with its class id and colour in a mask today."""
        ids, classes = self.classes.ids, self.classes.classes
        return [[key, int(ids[key]), *(classes[ids[key]].color if ids[key] != IGNORE_INDEX else ())]
                for key in sorted(painted.counts)]  # fmt: skip

    def _journal_path(self, photo: Photo) -> Path:
        return self.data / STATE / "strokes" / f"{photo.id}.jsonl"

    def _journal_bytes(self, photo: Photo) -> int:
        try:
            return os.stat(self._journal_path(photo)).st_size
        except FileNotFoundError:
            return 0
