"""Uploads: a body becomes one file in a private folder, whose name the request does not choose."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
import threading
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.requests import Request

from fullconv.visible import make_visible
from fullconv.web.errors import RequestError

__all__ = ["Upload", "display_name"]

# Without a handler, the parser's warnings about a form would be printed between the lines of the log.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())

MAX_NAME = 200
_ARRAY = b"\x93NUMPY"


class Upload:
    """An upload in its folder below `root`, which is removed when neither the answer nor a worker needs it any more.

    A worker that has not ended at the time limit goes on: it calls `ended` later, from its thread.
    """

    def __init__(self, root: Path) -> None:
        """Make the folder."""
        self.folder = Path(tempfile.mkdtemp(dir=root))
        self.path, self.name, self.bytes = self.folder / "image", "", 0
        self._lock, self._computing, self._needed = threading.Lock(), False, True

    def begin(self) -> None:
        """Note that a worker will read the file, or call `ended` without doing so."""
        self._computing = True

    def ended(self) -> None:
        """Note that the worker needs the folder no more."""
        self._release(computing=False)

    def close(self) -> None:
        """Note that the answer needs the folder no more."""
        self._release(needed=False)

    def _release(self, computing: bool = True, needed: bool = True) -> None:
        with self._lock:
            self._computing, self._needed = self._computing and computing, self._needed and needed
            if not self._computing and not self._needed:
                shutil.rmtree(self.folder, ignore_errors=True)

    async def receive(self, request: Request) -> None:
        """Store the image of a request: the body, or the first file of multipart/form-data.

        Raises RequestError for an empty body, a form without a file, and a compressed body.
        """
        if request.headers.get("content-encoding", "identity") != "identity":
            message = "the body is compressed (Content-Encoding), which is not supported; send the image as it is"
            raise RequestError(415, message, code="compressed-body")
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            await self._receive_form(request)
        else:
            with self.path.open("wb") as file:
                async for part in request.stream():
                    self.bytes += file.write(part)
        if not self.bytes:
            message = "the request has no image; send the bytes of the file as the body, or a form with one file"
            raise RequestError(400, message, code="no-image")
        with self.path.open("rb") as file:
            is_array = file.read(len(_ARRAY)) == _ARRAY
        if is_array:  # the reader knows arrays by their suffix
            self.path = self.path.rename(self.path.with_suffix(".npy"))

    async def _receive_form(self, request: Request) -> None:
        async with request.form(max_files=1, max_fields=4, max_part_size=2**16) as form:
            for value in form.values():
                if isinstance(value, UploadFile):
                    self.name = value.filename or ""
                    self.bytes = await asyncio.to_thread(self._copy, value)
                    return

    def _copy(self, source: UploadFile) -> int:
        with self.path.open("wb") as file:
            shutil.copyfileobj(source.file, file, 2**20)
            return file.tell()


def display_name(given: str) -> str:
    """Return a name that can be shown: the last part of a path, bounded, without control characters."""
    name = re.split(r"[/\\]", given.strip())[-1]
    return make_visible(name)[:MAX_NAME] or "image"
