"""Render a page from its template; values are escaped, and the page needs no script, network or other file."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fullconv import __version__
from fullconv.files import StrPath, write_text

__all__ = ["make_visible", "render_page", "write_page"]

DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Invisible characters that reverse the order of text, so that one name could look like another."""


def write_page(path: StrPath, template: str, **values: object) -> None:
    """Render a page and write it atomically. Raises FullconvError if the file cannot be written."""
    write_text(path, render_page(template, **values))


def render_page(template: str, **values: object) -> str:
    """Return the page of a template in `templates/`; every page needs the value `title`.

    Templates use values only in elements and quoted attributes, where escaped text is safe.
    """
    style, policy = _style()
    page = _environment().get_template(template)
    return page.render(values, style=style, policy=policy, version=__version__)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fullconv.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=make_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _style() -> tuple[Markup, str]:
    """Return the style sheet, and the policy that allows only this style sheet and pictures inside the page."""
    text = files("fullconv.pages").joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Markup(text), policy


def make_visible(value: object) -> object:
    """Escape the characters of a text that are invisible, or impossible in UTF-8 (control characters, surrogates)."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(_escape(character) if _is_hidden(character) else character for character in value)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTION_MARKS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
