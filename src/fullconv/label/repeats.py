"""Requests that a page sends again because no answer came: they are carried out once, and answered once more."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["Repeats"]

MOST_CLIENTS = 100
"""The answers of the clients that asked last are kept."""


class _Last:
    """The last request of a client and its answer; the lock is held while it is carried out."""

    def __init__(self) -> None:
        self.lock, self.number = threading.Lock(), -1
        self.answer: dict[str, Any] = {}


class Repeats:
    """The last answer to each client. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, _Last] = OrderedDict()

    def once(self, client: str, number: int | None, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what `act` returns; for the number of the client's last request, return its answer instead.

        What raises is not kept. Requests without a number are always carried out.
        """
        if number is None:
            return act()
        with self._lock:
            last = self._clients.setdefault(client, _Last())
            self._clients.move_to_end(client)
            if len(self._clients) > MOST_CLIENTS:
                self._clients.popitem(last=False)
        with last.lock:
            if last.number != number:
                last.answer = act()
                last.number = number
            return last.answer
