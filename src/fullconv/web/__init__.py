"""Shared by HTTP pages and services: the app with its checks and limits, errors, static files and the server."""

from __future__ import annotations

from fullconv.web.app import make_app
from fullconv.web.errors import RequestError
from fullconv.web.run import run
from fullconv.web.static import mount_static

__all__ = ["RequestError", "make_app", "mount_static", "run"]
