"""The connection: limits for headers and time, so that slow clients hold neither memory nor places."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["HEADER_SECONDS", "MAX_CONNECTIONS", "MAX_HEADERS", "WRITE_SECONDS", "Connection"]

MAX_HEADERS = 32 * 1024
"""Maximum bytes of the request line and all headers."""

HEADER_SECONDS = 10.0
"""Seconds from the first connection to the end of the first request's headers."""

WRITE_SECONDS = 60.0
"""Seconds in which nothing leaves the buffer of an answer, after which a client that does not read is dropped."""

MAX_CONNECTIONS = 500
"""Maximum number of open connections; further ones are closed."""


class Connection(H11Protocol):
    """uvicorn's connection, with these limits, and with JSON for requests that are not HTTP."""

    header_seconds = HEADER_SECONDS
    write_seconds = WRITE_SECONDS
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection if there is a place, and start the clock."""
        super().connection_made(transport)
        sock: Any = transport.get_extra_info("socket")
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self.write_seconds))
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._header_timer = self.loop.call_later(self.header_seconds, self._drop_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        for timer in (self._header_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the keep-alive clock of uvicorn stops at the first byte, so ours starts."""
        super().data_received(data)
        if self._is_idle():
            if self._header_timer is None and not self.transport.is_closing():
                self._header_timer = self.loop.call_later(self.header_seconds, self._drop_slow)
        elif self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def pause_writing(self) -> None:
        """Start the clock of a client that does not read."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """Stop the clock."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _watch_writing(self, before: int | None = None) -> None:
        """Drop the client if the buffer is as full as `before`; otherwise look again after some seconds."""
        size = self.transport.get_write_buffer_size()
        if before is not None and size >= before:
            self.transport.abort()
        else:
            self._write_timer = self.loop.call_later(self.write_seconds, self._watch_writing, size)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has too long headers, as every other error."""
        values = {"error": "bad-request", "message": "this is not an HTTP request, or its headers are too long"}
        body = json.dumps(values).encode()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            events = (
                h11.Response(status_code=400, headers=[*headers, (b"connection", b"close")], reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _drop_slow(self) -> None:
        self._header_timer = None
        if self._is_idle():
            self.transport.abort()
