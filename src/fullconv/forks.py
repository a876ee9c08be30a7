"""Forked processes: a child makes the objects of native libraries that it has from its parent anew.

A fork copies locks as they are: one that another thread holds at that moment stays locked in the child for ever. The
BLAS of NumPy, oneDNN in torch, GDAL and Python's imports have such locks. So a fork waits for each `native_call`.
"""

from __future__ import annotations

# The hooks of logging and of thread pools run after ours at a fork, because they are older: a native call may log.
import concurrent.futures.thread  # noqa: F401
import ctypes
import logging  # noqa: F401
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Generic, Self, TypeVar, overload
from weakref import WeakSet

__all__ = ["ForkSafe", "lazy_property", "native_call"]

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that a fork waits for a native call, as for one that reads from a network drive that does not answer."""


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


class lazy_property(Generic[T]):
    """A method as an attribute; the first read computes it, and `vars(object)` then has it under its name.

    Python 3.11's `functools.cached_property` has a lock for all objects of a class: threads would compute the values of
    several objects one after another, and a child forked meanwhile would wait for ever. Here, two threads that read at
    once may both compute a value.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        """Take the method."""
        self._compute, self._name, self.__doc__ = compute, compute.__name__, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Keep the attribute's name."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        """Compute the value and keep it."""
        if instance is None:
            return self
        value = vars(instance)[self._name] = self._compute(instance)
        return value


_ALL: WeakSet[ForkSafe[Any]] = WeakSet()


class _Own(threading.local):
    """What the gate knows of a thread: its lock, and while it forks, the locks that it takes and its deadline."""

    lock: Any = None
    held: Sequence[Any] = ()
    until: float | None = None


class _Gate:
    """A lock for each thread that makes native calls; a fork takes them all, and the door to new calls.

    An exception of a signal's handler can come between any two instructions. So there is no counter that it could leave
    wrong: only locks that a `with` takes and releases, and two methods that can be called again.
    """

    def __init__(self) -> None:
        self.own = _Own()
        self.start_anew()

    def start_anew(self) -> None:
        """Forget the other threads, in a forked child."""
        self.door, self.locks = threading.RLock(), WeakSet[Any]()
        self.own.held, self.own.until = (), None
        if self.own.lock is not None:
            self.locks.add(self.own.lock)

    def enter(self) -> AbstractContextManager[object]:
        """Return this thread's lock, for a `with`, when no fork waits."""
        lock: Any = self.own.lock
        if lock is not None and lock._is_owned():
            return lock  # type: ignore[no-any-return]
        with self.door:
            if lock is None:
                lock = threading.RLock()
                self.locks.add(lock)
                self.own.lock = lock
        return lock  # type: ignore[no-any-return]

    def close(self) -> None:
        """Wait until no other thread is in a native call; begin none until `open`."""
        until = self.own.until = self.own.until or time.monotonic() + PATIENCE
        _take(self.door, until)
        self.own.held = [lock for lock in self.locks if lock is not self.own.lock]
        for lock in self.own.held:
            _take(lock, until)

    def open(self) -> None:
        """Let native calls begin again."""
        self.own.until = None
        for lock in (*self.own.held, self.door):
            while lock._is_owned():
                with suppress(BaseException):
                    lock.release()


def _take(lock: Any, until: float) -> None:
    """Take a lock. Exceptions of signals are suppressed: Python would drop them at a fork, and fork at once."""
    while not lock._is_owned() and (seconds := until - time.monotonic()) > 0:
        with suppress(BaseException):
            lock.acquire(timeout=seconds)


_gate = _Gate()


def native_call() -> AbstractContextManager[object]:
    """Compute in a native library that has locks of its own: until the `with` ends, no other thread forks.

    Forks come first: while a thread waits to fork, the next call waits. A call may contain others. After `PATIENCE` a
    fork waits no longer.
    """
    return _gate.enter()


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
    # Once more, because the handler of a signal may end the first of them.
    os.register_at_fork(before=_gate.close, after_in_parent=_gate.open)
