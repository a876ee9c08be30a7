"""Structured log: one JSON object a line, below the logger `fullconv.web`; requests have ids."""

from __future__ import annotations

import json
import logging
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from fullconv.visible import escape_in_json

__all__ = ["LibraryHandler", "choose_id", "log_event"]

logger = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST = 300


def log_event(event: str, level: int = logging.INFO, exc: BaseException | None = None, **fields: Any) -> None:
    """Log one line of JSON: time, level, event and the fields; texts are cut to a bounded length.

    The traceback of `exc` is one of the fields, so that an event is one line.
    """
    if not logger.isEnabledFor(level):
        return
    values: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
    values |= {"level": logging.getLevelName(level).lower(), "event": event}
    values |= {name: value[:_MOST] if isinstance(value, str) else value for name, value in fields.items()}
    if exc is not None:
        values["traceback"] = logging.Formatter().formatException((type(exc), exc, exc.__traceback__))
    logger.log(level, "%s", escape_in_json(json.dumps(values, ensure_ascii=True)))


def choose_id(given: str | None) -> str:
    """Return the request id that a proxy gave, if it is a short plain word, otherwise a new one."""
    return given if given is not None and _ID.fullmatch(given) else uuid.uuid4().hex


class LibraryHandler(logging.Handler):
    """Writes the warnings of a library as events of this log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event."""
        error = record.exc_info[1] if record.exc_info else None
        log_event("server", record.levelno, error, message=record.getMessage())
