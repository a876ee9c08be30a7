"""Events for all open pages: who listens, and the text of a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

__all__ = ["Events"]

MOST_WAITING = 500
"""A listener that is so many events late is disconnected; the page then loads everything again."""

BEAT = 15.0
"""Seconds between comments, which show both sides that the connection is alive."""

LOOK = 0.5
"""Seconds between looks at whether the server ends."""

_END = None


class Events:
    """Sends events to all listeners. `publish` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}

    def publish(self, event: str, values: Mapping[str, Any]) -> None:
        """Send an event to all listeners."""
        text = f"event: {event}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n"
        with self._lock:
            for queue, loop in self._listeners.items():
                loop.call_soon_threadsafe(_put, queue, text)

    async def listen(self, is_ending: Callable[[], bool], beat: float = BEAT) -> AsyncIterator[str]:
        """Yield the events from now on as text, until the server ends or the listener is too late."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(MOST_WAITING)
        with self._lock:
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            yield ": events\n\n"
            silent = 0.0
            while not is_ending():
                try:
                    text = await asyncio.wait_for(queue.get(), LOOK)
                except TimeoutError:
                    silent += LOOK
                    if silent >= beat:
                        silent = 0.0
                        yield ": alive\n\n"
                    continue
                if text is _END:
                    return
                silent = 0.0
                yield text
        finally:
            with self._lock:
                self._listeners.pop(queue, None)


def _put(queue: asyncio.Queue[str | None], text: str) -> None:
    """Append an event; a full queue is emptied, and its listener ended."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(_END)
        return
    queue.put_nowait(text)
