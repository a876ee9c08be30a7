"""Errors of requests: one JSON object each, `{"error": code, "message": sentence}`, with a status that fits."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from fullconv.errors import DataError, FullconvError, ModelError, UsageError, is_out_of_memory
from fullconv.visible import make_visible

__all__ = ["RequestError", "respond", "status_of"]

MOST_TEXT = 1000
"""Maximum length of a message: some name a value of the request."""

_CODES = {
    400: ("bad-request", "the request cannot be read; see /docs for its form"),
    404: ("not-found", "there is nothing at this address; see /docs for the addresses"),
    405: ("method-not-allowed", "this address takes another method; see /docs"),
}

_STATUS = {"too-large": 413, "unsupported-format": 415, "not-an-image": 415, "html-file": 415}


class RequestError(FullconvError):
    """A request that is refused with this status. `headers` are added to the answer."""

    def __init__(self, status: int, message: str, *, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.status, self.headers = status, dict(headers or {})


def status_of(error: Exception) -> int:
    """Return the HTTP status for an exception; 500 for those that fullconv does not raise on purpose."""
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, DataError | ModelError):  # a model that cannot run on this image, such as one of 1 x 1
        return _STATUS.get(error.code, 422)
    if is_out_of_memory(error):
        return 413
    return 400 if isinstance(error, UsageError | RequestValidationError | ClientDisconnect) else 500


def respond(error: Exception, request_id: str) -> JSONResponse:
    """Return the answer for an exception. What is not raised on purpose is not described: the log has it."""
    error = error.__cause__ if isinstance(error.__cause__, RequestError) else error
    status = status_of(error)
    code, message, headers = _describe(error, status, request_id)
    values = {"error": code, "message": make_visible(message, lines=True)[:MOST_TEXT]}
    return JSONResponse(values, status, headers)


def _describe(error: Exception, status: int, request_id: str) -> tuple[str, str, dict[str, str]]:
    if isinstance(error, FullconvError) and (status < 500 or isinstance(error, RequestError)):
        return error.code, str(error), error.headers if isinstance(error, RequestError) else {}
    if isinstance(error, RequestValidationError):
        return "bad-request", _describe_values(error), {}
    if isinstance(error, ClientDisconnect):
        return "bad-request", "the request ended before its body was complete", {}
    if is_out_of_memory(error):
        return "too-large", "the image is too large for the memory of the server; send a smaller one", {}
    if isinstance(error, HTTPException) and status < 500:
        code, message = _CODES.get(status, ("bad-request", str(error.detail)))
        return code, message, dict(error.headers or {})
    return "internal", f"the server failed on this request; its log has the reason under the id {request_id}", {}


def _describe_values(error: RequestValidationError) -> str:
    """Return one sentence about the values that do not fit; it repeats none of them."""
    parts = []
    for entry in error.errors()[:5]:
        name = ".".join(str(part)[:50] for part in entry["loc"])
        parts.append(f"{name}: {entry['msg']}")
    return "the request does not fit: " + "; ".join(parts)
