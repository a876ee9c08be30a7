"""Errors in tests: by their code, with the wording checked against one table.

`wordings.txt` has a line for each code: the code, a bar, and the message with {} for every value in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fullconv.errors import FullconvError

__all__ = ["WORDINGS", "Refusal", "matches", "refuses"]

TABLE = Path(__file__).parent / "wordings.txt"


def _read_table() -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        code, bar, wording = line.partition(" | ")
        assert bar, f"wordings.txt: no bar in {line!r}"
        table.setdefault(code, []).append(wording)
    return table


WORDINGS = _read_table()


@dataclass
class Refusal:
    """What the block raised."""

    error: FullconvError | None = None

    @property
    def message(self) -> str:
        """Return the message that a user reads."""
        return str(self.error)


def matches(code: str, message: str) -> bool:
    """Return whether the table has this message, values aside, under this code."""
    patterns = (".+?".join(map(re.escape, wording.split("{}"))) for wording in WORDINGS.get(code, ()))
    return any(re.fullmatch(pattern, message, re.DOTALL) for pattern in patterns)


@contextmanager
def refuses(code: str, *values: object) -> Iterator[Refusal]:
    """Assert that the block raises a FullconvError of this code, in the words of the table, which name all `values`."""
    refusal = Refusal()
    try:
        yield refusal
    except FullconvError as error:
        refusal.error = error
    assert refusal.error is not None, f"nothing was raised; expected {code}"
    assert refusal.error.code == code, f"{refusal.error.code}, not {code}: {refusal.message}"
    if not getattr(refusal.error, "faults", ()):  # the wording of faults is checked by docs/faults.md
        assert matches(code, refusal.message), f"not the wording of {code} in wordings.txt: {refusal.message!r}"
    for value in values:
        assert str(value) in refusal.message, f"{value} is not in {refusal.message!r}"
