"""The state of a service: its model, which loads while the server already answers, its workers and its folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fullconv.errors import DataError, MissingExtra
from fullconv.locks import make_private_folder, remove_private_folder
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.runner import RangedRunner, Runner
from fullconv.serve.answers import AnswerFile, As, Asked, answer_image
from fullconv.serve.metrics import Metrics
from fullconv.serve.options import ServeOptions
from fullconv.serve.pool import Pool
from fullconv.serve.uploads import Upload, display_name
from fullconv.web.errors import RequestError
from fullconv.web.log import log_event

__all__ = ["Service"]

T = TypeVar("T")

PART = 2**18


class Service:
    """A model that answers requests."""

    def __init__(self, load: Callable[[], Runner], name: str, options: ServeOptions) -> None:
        """Take the function that loads the model, which `start` calls in a thread."""
        self._load, self.name, self.options = load, name, options
        self._runner: Runner | None = None
        self.failure: BaseException | None = None
        self.draining: Callable[[], bool] = lambda: False
        self.metrics, self.pool = Metrics(), Pool(options, self._release_memory)
        self.folder = make_private_folder("serve")
        self.metrics.watch("predictions_inside", "Images that wait or are predicted", lambda: self.pool.inside)
        self.metrics.watch("ready", "1 once the model is loaded", lambda: float(self._runner is not None))

    def start(self, on_failure: Callable[[], object]) -> None:
        """Load the model in a thread; call `on_failure` if that fails, and keep the exception in `failure`."""

        def load() -> None:
            try:
                began = time.monotonic()
                runner = self._load()
                _warm_up(runner)
                self._runner = runner
                log_event("ready", model=self.name, seconds=round(time.monotonic() - began, 2))
            except BaseException as error:
                self.failure = error
                on_failure()

        threading.Thread(target=load, name="load", daemon=True).start()

    def close(self, wait: bool = True) -> None:
        """Let predictions end, unless `wait` is off, and remove the folder."""
        self.pool.close(wait)
        remove_private_folder(self.folder)

    def runner(self) -> Runner:
        """Return the model. Raises RequestError with 503 while it loads and while the server ends."""
        headers = {"Retry-After": "5"}
        if self.draining():
            raise RequestError(
                503, "the server is ending; send the request again later", code="draining", headers=headers
            )
        if self._runner is None:
            message = "the server is loading its model; send the request again in some seconds"
            raise RequestError(503, message, code="loading", headers=headers)
        return self._runner

    async def predict(self, request: Request, kind: As, name: str, preview: int) -> Response:
        """Answer a request with an image as its body."""
        runner = self.runner()
        self.pool.refuse_if_full()
        upload = Upload(self.folder)
        try:
            with self.pool.receiving():
                await upload.receive(request)
            asked = Asked(upload.path, display_name(name or upload.name), kind, preview)
            upload.begin()
            began = time.monotonic()
            file = await self.compute(request, lambda: self._answer(runner, asked), kind, upload.ended)
        except BaseException:
            upload.close()
            raise
        return _FileAnswer(file, upload, time.monotonic() - began)

    async def read_body(self, request: Request, max_bytes: int, message: str, for_prediction: bool = True) -> bytes:
        """Return a body that is kept in memory. Raises RequestError with `message` as soon as it is known to be larger.

        Also raises RequestError with 429 as `Pool.receiving`.
        """
        count, parts = int(request.headers.get("content-length", "0")[:20]), []
        with self.pool.receiving(for_prediction):
            if count <= max_bytes:
                count = 0
                async for part in request.stream():
                    count += len(part)
                    if count > max_bytes:
                        break
                    parts.append(part)
        if count > max_bytes:
            raise RequestError(413, message, code="request-too-large")
        return b"".join(parts)

    async def compute(
        self,
        request: Request,
        work: Callable[[], tuple[T, int]],
        kind: str,
        on_done: Callable[[], object] = lambda: None,
    ) -> T:
        """Return the first of what `work` returns, and count its second: the number of pixels."""

        def measured() -> T:
            began = time.monotonic()
            result, pixels = work()
            self.metrics.count_prediction(kind, pixels, time.monotonic() - began)
            return result

        return await self.pool.run(request, measured, on_done)

    def _release_memory(self) -> None:
        """Give back the memory that the backend keeps for its largest image."""
        runner = self._runner.runner if isinstance(self._runner, RangedRunner) else self._runner
        if isinstance(runner, ExportedRunner):
            runner.release_memory()

    def _answer(self, runner: Runner, asked: Asked) -> tuple[AnswerFile, int]:
        try:
            file = answer_image(runner, asked, self.options.max_pixels)
        except MissingExtra as error:
            message = f"{asked.name}: {error.package}, which reads such files, is not installed on the server"
            raise RequestError(415, message, code="kind-not-installed") from error
        except DataError as error:
            raise _without_path(error, asked) from error
        return file, file.pixels


class _FileAnswer(Response):
    """An answer that is read from its file while it is sent; then the upload is removed."""

    def __init__(self, file: AnswerFile, upload: Upload, seconds: float) -> None:
        self._file, self._upload = file, upload
        headers = {
            "content-length": str(file.path.stat().st_size),
            "content-disposition": f"inline; filename*=UTF-8''{quote(file.name, safe='')}",
            "server-timing": f"predict;dur={1000 * seconds:.1f}",
        }
        super().__init__(None, headers=headers, media_type=file.type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            with self._file.path.open("rb") as source:
                while part := source.read(PART):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._upload.close()


def _without_path(error: DataError, asked: Asked) -> DataError:
    """Return the error with the name of the client in place of the path in the private folder."""
    return DataError(str(error).replace(str(asked.path), asked.name), code=error.code)


def _warm_up(runner: Runner) -> None:
    """Compute a small picture, so that the first request does not wait for what libraries do once."""
    runner.label_maps(np.zeros((1, 64, 64, runner.info.input.channels), np.uint8))
