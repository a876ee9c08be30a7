"""Run an app with uvicorn in this process until a signal; what runs is finished, and the function returns."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fullconv.errors import FullconvError
from fullconv.watchdog import note_handled
from fullconv.web.log import LibraryHandler, log_event
from fullconv.web.protocol import MAX_HEADERS, Connection

__all__ = ["run"]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_NOT_HTTP = ("Invalid HTTP request", "Unsupported upgrade", "No supported WebSocket")
"""The starts of uvicorn's warnings on requests that are not HTTP/1.1."""


def run(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 8000,
    on_ready: Callable[[str], None] | None = None,
    grace: float = 30.0,
) -> bool:
    """Serve `app` until SIGINT, SIGTERM or SIGHUP, then finish what runs, for at most `grace` seconds.

    Returns whether a second SIGINT came, after which nobody wants to wait for threads that still compute.

    Port 0 is any free port. `on_ready(address)` is called once the server listens. At the signal,
    `app.state.draining` becomes True. A second SIGINT does not wait for what runs. In another thread than the main one
    signals are not handled; `app.state.stop()` ends the server from any thread.

    Raises FullconvError if the port cannot be used.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADERS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    number = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    server = _Server(config, app, lambda: on_ready and on_ready(f"http://{shown}:{number}"))
    app.state.stop = server.stop
    with _library_log(), contextlib.closing(listener):
        try:
            server.run(sockets=[listener])
        except SystemExit:  # uvicorn's way to say that the app did not start
            message = "the server did not start; its log has the reason"
            raise FullconvError(message, code="server-not-started") from None
    return server.force_exit


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to the address."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"{host}:{port} cannot be listened on ({reason}); choose another --host or --port"
        raise FullconvError(message, code="port-not-free") from error


class _Server(uvicorn.Server):
    """uvicorn's server, which calls back when it listens, and ends without raising the signal again."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, on_listening: Callable[[], object]) -> None:
        super().__init__(config)
        self._app, self._on_listening = app, on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        note_handled()
        self._app.state.draining = True
        super().handle_exit(sig, frame)
        log = functools.partial(log_event, "draining", signal=signal.Signals(sig).name)
        try:  # later: the signal may have interrupted another event that is being written
            asyncio.get_running_loop().call_soon_threadsafe(log)
        except RuntimeError:  # there is no loop before the server starts and after it has ended
            log()

    def stop(self) -> None:
        """End the server as a signal does."""
        self._app.state.draining = self.should_exit = True


@contextlib.contextmanager
def _library_log() -> Iterator[None]:
    """Write uvicorn's warnings as events. Requests that are not HTTP are no warnings: strangers send them."""
    logger, handler = logging.getLogger("uvicorn.error"), LibraryHandler(logging.WARNING)
    handler.addFilter(lambda record: not record.getMessage().startswith(_NOT_HTTP))
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
