"""Limits of a request's body: its bytes, counted as they arrive, and the time that a slow client gets."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from fullconv.web.errors import RequestError

__all__ = ["BodyTimes", "LimitedBody", "check_length"]


class BodyTimes:
    """The time for a body: `first` seconds, and a second more for each `rate` bytes that arrived."""

    def __init__(self, first: float = 30.0, rate: float = 32_768.0) -> None:
        self.first, self.rate = first, rate


def check_length(headers: Headers, max_bytes: int) -> None:
    """Raise RequestError if the header states a body of more than `max_bytes`."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise RequestError(400, "the header Content-Length is not a number; correct it", code="bad-request")
    if int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)


class LimitedBody:
    """The `receive` of ASGI that refuses more than `max_bytes`, and clients that send too slowly.

    Raises HTTPException, because FastAPI hides other errors that occur while it reads a body. Its cause is the
    RequestError that is answered.
    """

    def __init__(self, receive: Receive, max_bytes: int, times: BodyTimes) -> None:
        self._receive, self._max_bytes, self._times = receive, max_bytes, times
        self._began = time.monotonic()
        self.bytes, self.complete = 0, False

    async def receive(self) -> Message:
        """Return the next part of the body."""
        if self.complete:
            return await self._receive()  # it waits for the end of the connection
        end = self._began + self._times.first + self.bytes / self._times.rate
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, end - time.monotonic()))
        except TimeoutError:
            error = RequestError(408, "the request arrives too slowly; send it again", code="request-too-slow")
            raise HTTPException(error.status) from error
        self.bytes += len(message.get("body", b""))
        self.complete = message["type"] != "http.request" or not message.get("more_body", False)
        if self.bytes > self._max_bytes:
            raise HTTPException(413) from _too_large(self._max_bytes)
        return message

    async def drain(self, max_bytes: int = 2**26, seconds: float = 2.0) -> None:
        """Read and drop what the client still sends, within limits: it reads the answer only after that."""
        end, count = time.monotonic() + seconds, 0
        while not self.complete and count < max_bytes:
            try:
                message = await asyncio.wait_for(self._receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                return
            count += len(message.get("body", b""))
            self.complete = message["type"] != "http.request" or not message.get("more_body", False)


def _too_large(max_bytes: int) -> RequestError:
    message = f"the request has more than {max_bytes:,} bytes; send a smaller one"
    return RequestError(413, message, code="request-too-large")
