"""The workers: a bounded queue in front of some threads. Full is an answer at once, not a longer queue."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from fullconv.serve.options import ServeOptions
from fullconv.web.errors import RequestError

__all__ = ["Pool"]

T = TypeVar("T")

IDLE = 3.0
"""Seconds without any prediction, after which memory is given back."""


class Pool:
    """Runs predictions, `options.workers` at a time; used from one event loop."""

    def __init__(self, options: ServeOptions, on_idle: Callable[[], object] = lambda: None) -> None:
        """Start no thread yet. A worker calls `on_idle` when nothing was inside for `IDLE` seconds."""
        self.options, self._on_idle = options, on_idle
        self._timer: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(options.workers, "predict")
        self.inside = 0
        """The predictions that wait or run."""
        self.uploads = 0
        """The requests whose body is arriving."""
        self._seconds = 1.0

    def refuse_if_full(self, for_prediction: bool = True) -> None:
        """Raise RequestError with 429 if nothing more can wait; cheap, so that overload is answered at once.

        Without `for_prediction`, only the bodies that arrive count.
        """
        is_full = for_prediction and self.inside >= self.options.workers + self.options.queue
        if is_full or self.uploads >= self.options.uploads:
            wait = max(1, math.ceil(self.inside * self._seconds / self.options.workers))
            message = f"the server has as many images as it can hold; send the request again in {wait} s"
            raise RequestError(429, message, code="too-many-requests", headers={"Retry-After": str(wait)})

    @contextmanager
    def receiving(self, for_prediction: bool = True) -> Iterator[None]:
        """Count a request whose body is read in the block. Raises RequestError with 429 as `refuse_if_full`."""
        self.refuse_if_full(for_prediction)
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    async def run(self, request: Request, work: Callable[[], T], on_done: Callable[[], object]) -> T:
        """Return the result of `work`, which a thread computes.

        `on_done` is called when `work` will not run, or has ended: after 504 it still runs, because a network cannot be
        stopped. If the client goes away while the work waits, it is dropped.

        Raises RequestError with 429 if the queue is full, and with 504 after the time limit.
        """
        try:
            self.refuse_if_full()
        except RequestError:
            on_done()
            raise
        loop, future = asyncio.get_running_loop(), self._submit(work, on_done)
        self.inside += 1
        self._stop_timer()

        def finish(_: Future[T]) -> None:
            on_done()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._leave)

        future.add_done_callback(finish)
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(_wait_until_gone(request))
        try:
            await asyncio.wait((answer, gone), timeout=self.options.timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not answer.done():
                answer.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody waits for it
                future.cancel()
        if answer.done():
            return answer.result()
        if gone.done() and not gone.cancelled():
            raise ClientDisconnect
        message = f"the prediction took more than {self.options.timeout:g} s; send a smaller image, or try again later"
        raise RequestError(504, message, code="too-slow")

    def close(self, wait: bool = True) -> None:
        """Let the running predictions end, unless `wait` is off, and drop those that wait."""
        self._stop_timer()
        self._threads.shutdown(wait=wait, cancel_futures=True)

    def _submit(self, work: Callable[[], T], on_done: Callable[[], object]) -> Future[T]:
        """Give `work` to the threads. If that fails, it never runs, and `on_done` is called."""
        is_dropped = threading.Event()

        def compute() -> T:
            if is_dropped.is_set():  # the pool had put it into its queue before it failed
                raise CancelledError
            return self._measure(work)

        try:
            return self._threads.submit(compute)
        except BaseException:  # no more threads can be started, or the server stops
            is_dropped.set()
            on_done()
            raise

    def _measure(self, work: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return work()
        finally:
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - began)

    def _leave(self) -> None:
        self.inside -= 1
        if self.inside == 0:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._threads.submit, self._on_idle)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _wait_until_gone(request: Request) -> None:
    """Return when the client closes the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
