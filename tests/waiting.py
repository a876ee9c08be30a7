"""Waiting for a condition. The limit matters only where a test fails: other work may run on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["LIMIT", "wait_until"]

LIMIT = 600.0
"""Seconds that a test waits for what happens at once on an idle machine."""


def wait_until(condition: Callable[[], object], what: str = "", seconds: float = LIMIT) -> None:
    """Wait until a condition is true; fail with `what` if it does not become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)
