"""Render a page from its template; values are escaped, and the page needs no script, network or other file."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fullconv import __version__
from fullconv.files import StrPath, write_text
from fullconv.visible import make_visible

__all__ = ["render_page", "write_page"]


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
        finalize=_finalize,
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


def _finalize(value: object) -> object:
    """Make hidden characters of a text visible; markup of the templates stays."""
    return make_visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
