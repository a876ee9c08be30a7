"""Forked processes: a child makes the objects of native libraries that it has from its parent anew.

A fork copies the locks of native libraries as they are. One that another thread holds at that moment stays locked in
the child for ever: NumPy's BLAS and oneDNN, which torch uses, have such locks. So a fork waits for `native_call`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from weakref import WeakSet

__all__ = ["ForkSafe", "native_call"]

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


class _Gate:
    """Either threads run native calls, any number of them, or threads fork."""

    def __init__(self) -> None:
        self.changed, self.running, self.forking = threading.Condition(), 0, 0
        self.own = threading.local()

    def enter(self) -> None:
        """Begin a native call; wait for forks, unless this thread is in a native call already."""
        depth: int = getattr(self.own, "depth", 0)
        if not depth:
            with self.changed:
                self.changed.wait_for(lambda: not self.forking)
                self.running += 1
        self.own.depth = depth + 1

    def leave(self) -> None:
        """End a native call."""
        self.own.depth -= 1
        if not self.own.depth:
            with self.changed:
                self.running -= 1
                self.changed.notify_all()

    def close(self) -> None:
        """Wait until no other thread is in a native call; begin none until `open`."""
        with self.changed:
            self.forking += 1
            mine = int(getattr(self.own, "depth", 0) > 0)
            self.changed.wait_for(lambda: self.running == mine)

    def open(self) -> None:
        """Let native calls begin again, after as many calls as of `close`."""
        with self.changed:
            self.forking -= 1
            self.changed.notify_all()

    def start_anew(self) -> None:
        """Forget the parent's other threads, in a forked child."""
        self.changed, self.running, self.forking = threading.Condition(), int(getattr(self.own, "depth", 0) > 0), 0


_gate = _Gate()


@contextmanager
def native_call() -> Iterator[None]:
    """Compute in a native library that has locks of its own: until it ends, no other thread of the process forks.

    Forks come first: while a thread waits to fork, the next call waits. A call may contain others.
    """
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()


def _after_fork_in_child() -> None:
    """Keep the objects of the parent for ever, and end later without the destructors of native libraries.

    ONNX Runtime's destructors wait for a thread of the parent, so a child that ends with `sys.exit`, as those of
    gunicorn do, would hang. Children of multiprocessing always end without destructors.
    """
    _gate.start_anew()
    guards = list(_ALL)
    for guard in guards:
        guard._lock = threading.Lock()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(guard._value))
    libc = ctypes.CDLL(None)
    if guards and hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.open, after_in_child=_after_fork_in_child)
