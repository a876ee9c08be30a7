"""Who may ask: the names of this host, pages of other sites, the token; and the headers that protect the pages."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from fullconv.web.errors import RequestError

__all__ = ["LOOPBACK", "POLICY", "Access", "is_loopback", "make_headers"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names that a browser on this computer uses for it."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: files of this server only, and nothing inside of a page runs."""

_SAFE = ("GET", "HEAD", "OPTIONS")


def is_loopback(host: str) -> bool:
    """Return whether only this computer reaches a server on `host`."""
    return host in ("127.0.0.1", "localhost", "::1", "[::1]")


def make_headers(policy: str = POLICY) -> dict[str, str]:
    """Return the headers of every answer."""
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "x-frame-options": "DENY",
    }


@dataclass(frozen=True)
class Access:
    """The checks of a request before anything else reads it.

    `hosts` are the names in the Host header that are answered, without port; `*` allows all, which needs a token:
    a page of another site cannot know it. `token` is that of `Authorization: Bearer`, or the password of basic
    authentication, for programs that know nothing else. It is asked for at every path except those in `open_paths`,
    which grows while files are mounted.
    """

    token: str | None
    hosts: Sequence[str]
    open_paths: set[str]

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raise RequestError for a request that is not allowed."""
        host = headers.get("host", "")
        if not host:
            raise RequestError(400, "the request names no host; add the header Host", code="no-host")
        if "*" not in self.hosts and _without_port(host) not in self.hosts:
            message = "this server does not answer to that host name; use the address that it printed"
            raise RequestError(421, message, code="wrong-host")
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and origin.partition("://")[2] != host:
            message = "pages of other sites may not send this request; use the page of this server"
            raise RequestError(403, message, code="wrong-origin")
        if path not in self.open_paths and not self._is_authorised(headers):
            message = "this server needs its token; send the header Authorization: Bearer TOKEN"
            raise RequestError(401, message, code="wrong-token", headers={"WWW-Authenticate": "Bearer"})

    def _is_authorised(self, headers: Headers) -> bool:
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        value = given.strip().encode("latin-1", "replace")
        if scheme.lower() == "basic":
            value = _read_password(value)
        same = hmac.compare_digest(value, self.token.encode())
        return scheme.lower() in ("bearer", "basic") and same


def _read_password(value: bytes) -> bytes:
    """Return the password of basic authentication, empty if it is damaged; the user's name may be any."""
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isascii() and port.isdecimal() else host).lower()
