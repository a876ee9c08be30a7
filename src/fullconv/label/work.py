"""The threads around the model: one fits it to the strokes, one prepares images in advance."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.errors import FullconvError, describe_failure
from fullconv.label.events import Events
from fullconv.label.live.learner import Learner
from fullconv.label.store.folder import LIVE_MODEL
from fullconv.label.store.store import Store

__all__ = ["Work"]

logger = logging.getLogger(__name__)

MOST_SAMPLES = 4000
"""Maximum number of painted pixels of an image from which the model learns."""

_UNREADABLE = (FullconvError, OSError, MemoryError)

QUIET = 0.7
"""Seconds without a stroke after which the model is saved and the images are ranked."""

LOOK = 5.0
"""Seconds between looks at whether images that were prepared change the order."""

EVERY = 10
"""Images that are prepared until all are ranked again."""

RETRY = 30.0
"""Seconds after which a fit that failed is tried again, unless there are new strokes before."""

IDLE = 2.0
"""Seconds without a request after which images that nobody looks at are prepared."""

SHOWN = 0.5
"""Seconds without a request after which the image that is shown is prepared: its tiles come first."""

PATIENCE = 15.0
"""Seconds that each thread gets to end what it does at the end of the session."""

MOST_PREPARED = 500
"""Maximum number of images that are prepared without being looked at."""


class Work:
    """Owns the model of a session and its threads. All methods may be called from any thread."""

    def __init__(self, store: Store, learner: Learner, events: Events) -> None:
        self.store, self.learner, self.events = store, learner, events
        self.order = [photo.id for photo in store.source.photos]
        self.ranked: dict[str, tuple[float, str]] = {}
        self.errors: dict[str, str] = {}
        self._wake = threading.Condition(threading.Lock())
        self._changed: set[str] = set()
        self._classes_changed = True
        self._start: Path | None = None
        self._unsaved = self._unranked = self._stopped = False
        self._busy = self._failed = False
        self._current = ""
        self._reading = 0
        self._prepared: set[str] = set()
        self._learned: set[str] = set()
        self._last_request = 0.0
        names = {"label-learn": self._learn, "label-prepare": self._prepare}
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in names.items()]

    def start(self) -> None:
        """Start both threads; the strokes of earlier sessions are learned first."""
        with self._wake:
            self._changed |= {id for id in self.store.photos if self.store.has_labels(id)}
            self._last_request = time.monotonic()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both threads after what they do now, and save the model."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(PATIENCE)  # caches and files are written atomically: it may be left where it is
        if self._unsaved and not self._threads[0].is_alive():
            self._save()

    def touch(self, id: str) -> None:
        """Learn the strokes of an image again."""
        with self._wake:
            self._changed.add(id)
            self._last_request = time.monotonic()
            self._wake.notify_all()

    def change_classes(self) -> None:
        """Learn all strokes again, with the classes of today."""
        with self._wake:
            self._classes_changed = True
            self._wake.notify_all()

    @contextmanager
    def looking(self, id: str | None) -> Iterator[None]:
        """Note which image a person looks at, if it is known; nothing is prepared while tiles are read."""
        with self._wake:
            self._current = self._current if id is None else id
            self._reading += 1
        try:
            yield
        finally:
            with self._wake:
                self._reading -= 1
                self._last_request = time.monotonic()

    def replace(self, model: Path) -> None:
        """Let a trained model take the place of the live one."""
        with self._wake:
            self._start = model
            self._wake.notify_all()

    def wait(self, timeout: float = 60.0) -> bool:
        """Wait until all strokes are learned; return whether they are."""
        with self._wake:
            return self._wake.wait_for(lambda: not (self._has_work() or self._busy or self._failed), timeout)

    def _has_work(self) -> bool:
        return bool(self._changed or self._classes_changed or self._start)

    def _learn(self) -> None:
        while True:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                quiet = self._unsaved or self._unranked
                self._wake.wait_for(lambda: self._stopped or self._has_work(), QUIET if quiet else LOOK)
                if self._stopped:
                    return
                is_idle = not self._has_work()
                changed, self._changed = self._changed, set()
                classes, self._classes_changed = self._classes_changed, False
                start, self._start = self._start, None
                self._busy = True
            if is_idle:
                self._save()
                self._rank()
            elif not _attempt("the model cannot learn", lambda: self._fit(changed, classes, start)):  # noqa: B023
                with self._wake:
                    self._busy, self._failed = False, True
                    self._wake.wait_for(lambda: self._stopped or self._has_work(), RETRY)
                    self._failed = False
                    self._changed |= changed
                    self._classes_changed = self._classes_changed or classes

    def _fit(self, changed: set[str], classes: bool, start: Path | None) -> None:
        """Give the model what has changed, fit it, and let all pages know."""
        began = time.perf_counter()
        if start is not None:
            _attempt("the model cannot be taken as a start", lambda: self.learner.replace(start))
            with self._wake:
                self._prepared.clear()
        if classes:
            labels = [(one.key, one.name, one.color) for one in self.store.classes.classes]
            self.learner.set_classes(labels)
            changed = changed | {id for id in self.store.photos if self.store.has_labels(id)}
        for id in sorted(changed):
            try:
                self.learner.set_labels(self.store.photos[id].path, *self.store.sample(id, MOST_SAMPLES))
                self._learned.add(id)
            except _UNREADABLE as error:
                self._leave_out(id, error)
        for id in sorted(self._learned - changed):
            try:
                self.store.size(id)  # other pixels would be learned from a photo that was replaced
            except _UNREADABLE as error:
                self._leave_out(id, error)
        version = self._fit_readable()
        self._unsaved = self._unsaved or version > 0
        self._unranked = True
        self.events.publish("model", {"version": version, "seconds": round(time.perf_counter() - began, 3)})

    def _fit_readable(self) -> int:
        """Fit the model; images that cannot be read any more are left out, and named in the list."""
        try:
            return self.learner.fit()
        except _UNREADABLE:
            for id in sorted(self._learned):
                try:
                    self.learner.prepare(self.store.photos[id].path)
                except _UNREADABLE as error:
                    self._leave_out(id, error)
            return self.learner.fit()

    def _leave_out(self, id: str, error: Exception) -> None:
        """Note why an image cannot be used, and learn nothing from it."""
        path = self.store.photos[id].path
        self.errors[id] = describe_failure(path, error)
        self._learned.discard(id)
        nothing = np.zeros(0, np.int64)
        self.learner.set_labels(path, nothing, nothing, nothing.astype(np.uint8))

    def _save(self) -> None:
        if self._unsaved and self.learner.version:
            _attempt("the live model is not saved", lambda: self.learner.save(self.store.data / LIVE_MODEL))
        self._unsaved = False

    def _rank(self) -> None:
        unranked, self._unranked = self._unranked, False  # the other thread may set it again meanwhile
        if unranked:
            _attempt("the images are not ranked", self._rank_all)

    def _rank_all(self) -> None:
        ids = {photo.path: photo.id for photo in self.store.source.photos if photo.id not in self.errors}
        found = [(ids[ranked.image], ranked) for ranked in self.learner.rank(list(ids))]
        self.ranked = {id: (ranked.score, ranked.reason) for id, ranked in found}
        listed = [id for id, _ in found]
        order = listed + [id for id in self.store.photos if id not in self.ranked]
        if order != self.order:
            self.order = order
            self.events.publish("images", {})

    def _prepare(self) -> None:
        """Read the headers of all images; then prepare the one that is shown, and others while nobody asks."""
        for id in self.store.photos:
            if self._stopped:
                return
            try:
                self.store.size(id)
            except _UNREADABLE as error:
                self.errors[id] = describe_failure(self.store.photos[id].path, error)
        self.events.publish("images", {})
        while True:
            with self._wake:
                id = self._choose()
                while not id and not self._stopped:
                    self._wake.wait(SHOWN / 2 if self._current not in self._prepared else IDLE / 2)
                    id = self._choose()
                if self._stopped:
                    return
            self._prepared.add(id)
            _attempt("an image is not prepared", lambda: self.learner.prepare(self.store.photos[id].path))  # noqa: B023
            with self._wake:
                self._unranked = self._unranked or len(self._prepared) % EVERY == 0 or not self._choose()

    def _choose(self) -> str:
        """Return the id of the image to prepare now; empty if there is none."""
        silent = 0.0 if self._reading else time.monotonic() - self._last_request
        if self._current and self._current not in self._prepared and self._current not in self.errors:
            return self._current if silent > SHOWN else ""
        if silent < IDLE or self._busy or len(self._prepared) >= MOST_PREPARED:
            return ""
        return next((id for id in self.order if id not in self._prepared and id not in self.errors), "")


def _attempt(problem: str, act: Callable[[], Any]) -> bool:
    """Do something that must not end its thread, and return whether it succeeded; what fails is logged."""
    try:
        act()
    except Exception as error:
        logger.warning(f"{problem}: {error}", exc_info=not isinstance(error, FullconvError))
        return False
    return True
