"""Render a page from its template; every value is escaped, and the page needs no script, network or other file."""

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

__all__ = ["render_page", "write_page"]

TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters without a shape that reverse the order of others, so that a name could look like another one."""


def write_page(path: StrPath, template: str, **values: object) -> None:
    """Render a page and write it atomically. Raises FullconvError where the file system refuses."""
    write_text(path, render_page(template, **values))


def render_page(template: str, **values: object) -> str:
    """Return the page that a template of `templates/` makes of `values`; every page needs a `title`.

    Templates put text into elements and quoted attributes only, so escaping makes it harmless there.
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
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _style() -> tuple[Markup, str]:
    """Return the style sheet, and the policy that allows this one, pictures inside the page, and nothing else."""
    text = files("fullconv.pages").joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return Markup(text), policy


def _visible(value: object) -> object:
    """Write as escapes what has no shape or no place in a UTF-8 page: control characters, bytes of other encodings."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(_escaped(character) if _hidden(character) else character for character in value)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in TURNING


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
