"""Forked processes: a child uses the objects of native libraries that it has from its parent, but never frees them."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Generic, TypeVar
from weakref import WeakSet

__all__ = ["ForkSafe"]

T = TypeVar("T")


class ForkSafe(Generic[T]):
    """An object of a native library that may be in use when the process forks.

    `value` is the object, which a forked child never frees: the destructor would wait for threads of the parent.
    """

    def __init__(self, value: T) -> None:
        """Guard an object."""
        self.value, self._number = value, next(_NUMBERS)
        self._lock = threading.RLock()
        _ALL.add(self)

    @contextmanager
    def exclusive(self) -> Iterator[T]:
        """Yield the object to one thread at a time. Other threads wait, and so does a fork."""
        with self._lock:
            yield self.value


_NUMBERS = count()
_ALL: WeakSet[ForkSafe[Any]] = WeakSet()
_held: list[ForkSafe[Any]] = []


def _before_fork() -> None:
    """Wait until no thread uses an object exclusively."""
    for guard in sorted(_ALL, key=lambda guard: guard._number):
        guard._lock.acquire()
        _held.append(guard)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()


def _after_fork_in_child() -> None:
    """Keep the objects of the parent for ever, and end later without the destructors of native libraries.

    ONNX Runtime's destructors wait for a thread of the parent, so a child that ends with `sys.exit`, as those of
    gunicorn do, would hang. Children of multiprocessing always end without destructors.
    """
    for guard in _held:
        guard._lock = threading.RLock()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(guard.value))
    libc = ctypes.CDLL(None)
    if _held and hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
