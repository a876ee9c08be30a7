"""Forked processes: a child makes the objects of native libraries that it has from its parent anew."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

__all__ = ["ForkSafe"]

T = TypeVar("T")


class ForkSafe(Generic[T]):
    """An object of a native library with threads, which works only in the process that made it.

    A forked child makes its own when it first asks for `value`. It never frees the parent's object, because the
    destructor would wait for threads that exist only in the parent.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """Make the object; raise the errors of `make`."""
        self._make, self._lock = make, threading.Lock()
        self._value, self._process = make(), os.getpid()
        _ALL.add(self)

    @property
    def inherited(self) -> bool:
        """Whether the object is the parent's, and this process is a forked child that has not made its own."""
        return self._process != os.getpid()

    @property
    def value(self) -> T:
        """This process's object."""
        if self.inherited:
            with self._lock:
                if self.inherited:
                    self._value, self._process = self._make(), os.getpid()
        return self._value


_ALL: WeakSet[ForkSafe[Any]] = WeakSet()


def _after_fork_in_child() -> None:
    """Keep the objects of the parent for ever, and end later without the destructors of native libraries.

    ONNX Runtime's destructors wait for a thread of the parent, so a child that ends with `sys.exit`, as those of
    gunicorn do, would hang. Children of multiprocessing always end without destructors.
    """
    guards = list(_ALL)
    for guard in guards:
        guard._lock = threading.Lock()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(guard._value))
    libc = ctypes.CDLL(None)
    if guards and hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
