"""The FastAPI app that pages and services start from: every request passes one guard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fullconv.web.errors import RequestError, respond
from fullconv.web.limits import BodyTimes, LimitedBody, check_length
from fullconv.web.log import choose_id, log_event
from fullconv.web.security import LOOPBACK, POLICY, Access, make_headers

__all__ = ["Done", "make_app"]


@dataclass(frozen=True)
class Done:
    """A request that was answered: `route` is the pattern of its address, empty if there is none."""

    method: str
    route: str
    status: int
    seconds: float


def make_app(
    title: str,
    *,
    token: str | None = None,
    hosts: Sequence[str] = LOOPBACK,
    policy: str = POLICY,
    max_bytes: int = 2**20,
    body_times: BodyTimes | None = None,
    log_level: int = logging.INFO,
    on_done: Callable[[Done], None] | None = None,
    **options: str | None,
) -> FastAPI:
    """Return an app whose requests are checked, limited and logged, and whose errors are one sentence of JSON.

    `token`, `hosts` and `policy` are those of `security`. `app.state.open_paths` is the set of addresses without token,
    and `app.state.draining` is True from the signal that ends the server. Bodies have at most `max_bytes`. Requests are
    logged at `log_level`. `on_done` is called after each request. `options` are those of FastAPI; no page of its
    documentation is served, because these pages load scripts from other sites.
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None, **{"openapi_url": None, **options})  # type: ignore[arg-type]
    app.state.open_paths, app.state.draining = set(), False
    access = Access(token, tuple(hosts), app.state.open_paths)

    def answer(request: Request, error: Exception) -> Response:
        return respond(error, request.state.request_id)

    for kind in (HTTPException, RequestValidationError):  # the guard answers all others
        app.add_exception_handler(kind, answer)
    settings = _Settings(access, make_headers(policy), max_bytes, body_times or BodyTimes(), log_level, on_done)
    app.add_middleware(_Guard, settings=settings)
    return app


@dataclass(frozen=True)
class _Settings:
    access: Access
    headers: dict[str, str]
    max_bytes: int
    times: BodyTimes
    log_level: int
    on_done: Callable[[Done], None] | None


class _Guard:
    """The middleware: checks a request, limits its body, answers unforeseen errors, and logs the request."""

    def __init__(self, app: ASGIApp, settings: _Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await _Exchange(self.app, self.settings, scope, receive, send).run()
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, app: ASGIApp, settings: _Settings, scope: Scope, receive: Receive, send: Send) -> None:
        self.app, self.settings, self.scope, self._send = app, settings, scope, send
        self.headers = Headers(scope=scope)
        self.request_id = choose_id(self.headers.get("x-request-id"))
        self.body = LimitedBody(receive, settings.max_bytes, settings.times)
        self.status, self.sent, self.began = 0, 0, time.perf_counter()
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def run(self) -> None:
        """Answer the request."""
        failure: BaseException | None = None
        try:
            self.settings.access.check(self.scope["method"], self.scope["path"], self.headers)
            check_length(self.headers, self.settings.max_bytes)
            await self.app(self.scope, self.body.receive, self.send)
        except Exception as error:
            response = respond(error, self.request_id)
            failure = error if response.status_code >= 500 and not isinstance(error, RequestError) else None
            if self.status:
                raise  # a part was sent: the server closes the connection
            await response(self.scope, self.body.receive, self.send)
        finally:
            self._log(failure)

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers of all answers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(self.settings.headers)
            headers["x-request-id"] = self.request_id
            headers.setdefault("cache-control", "no-store")
            if not self._is_read():
                headers["connection"] = "close"
            await self._send(message)
            return
        self.sent += len(message.get("body", b""))
        is_last = not message.get("more_body", False)
        if is_last and not self._is_read():
            await self._send({**message, "more_body": True})
            await self.body.drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def _is_read(self) -> bool:
        """Return whether the request has no body, or its body was read to its end."""
        has_body = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        return self.body.complete or not has_body

    def _log(self, failure: BaseException | None) -> None:
        seconds = time.perf_counter() - self.began
        route = getattr(self.scope.get("route"), "path", "")
        if self.settings.on_done is not None:
            self.settings.on_done(Done(self.scope["method"], route, self.status or 499, seconds))
        fields = {"request": self.request_id, "method": self.scope["method"], "path": self.scope["path"]}
        client = (self.scope.get("client") or ("",))[0]
        log_event(
            *("request", logging.ERROR if failure is not None else self.settings.log_level, failure),
            **fields,
            status=self.status or 499,
            ms=round(1000 * seconds, 1),
            received=self.body.bytes,
            sent=self.sent,
            client=client,
        )
