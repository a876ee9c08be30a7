"""Text from strangers, shown: characters that a terminal obeys, or that are invisible, become escapes."""

from __future__ import annotations

import re

__all__ = ["escape_in_json", "make_visible"]

_DIRECTION = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # reverse text, so that names look like others
_HIDDEN = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff{_DIRECTION}]")
_HIDDEN_BUT_LINES = re.compile(f"[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff{_DIRECTION}]")
_HIDDEN_IN_JSON = re.compile(f"[\\x7f-\\x9f{_DIRECTION}]")


def make_visible(text: str, lines: bool = False) -> str:
    """Return the text with escapes for control characters, surrogates and marks of direction.

    With `lines`, line feeds stay.
    """
    return (_HIDDEN_BUT_LINES if lines else _HIDDEN).sub(_escape, text)


def escape_in_json(text: str) -> str:
    """Return JSON with the same values, in which these characters are escapes of JSON."""
    return _HIDDEN_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
