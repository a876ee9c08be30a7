"""Static files of the package: a fixed table that is read once, so that no address reaches another file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["mount_static"]

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    type: str
    tag: str


def mount_static(app: FastAPI, package: str, folder: str = "static") -> None:
    """Serve the files of a folder of a package at /static/NAME, NAME.html at /NAME, and index.html at /, without token.

    Files of other types than those of pages are not served.
    """
    for entry in files(package).joinpath(folder).iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            content = entry.read_bytes()
            file = _File(content, _TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
            page = entry.name.removesuffix(".html").removesuffix("index")
            address = f"/{page}" if suffix == ".html" else f"/static/{entry.name}"
            app.state.open_paths.add(address)
            app.add_api_route(address, _serve(file), methods=["GET", "HEAD"], include_in_schema=False)


def _serve(file: _File) -> Callable[[Request], Response]:
    headers = {"etag": file.tag, "cache-control": "no-cache"}

    def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.type)

    return serve
