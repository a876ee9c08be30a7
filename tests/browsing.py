"""The browser that draws pages in tests, and what it is asked about a page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

from waiting import LIMIT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["DARKNESS", "FAINT", "browser", "new_view"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; without it the tests are skipped, but in CI they fail."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop("needs Chromium and playwright: apt-get install chromium, pip install playwright")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def new_view(browser: Browser, width: int = 1440, scheme: Literal["light", "dark"] = "light") -> Page:
    """Open a tab that waits as long as all tests do."""
    view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    view.set_default_timeout(1000 * LIMIT)
    return view


LUMINANCE = """
const channels = text => text.match(/[\\d.]+/g).map(Number);
const luminance = text => channels(text).slice(0, 3).map(c => c / 255).map(
  c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce(
  (sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
"""

DARKNESS = f"(() => {{ {LUMINANCE} return luminance(getComputedStyle(document.body).backgroundColor) < 0.2 }})()"

FAINT = f"""(() => {{ {LUMINANCE}
  const opaque = element => {{
    for (let at = element; at; at = at.parentElement) {{
      const color = getComputedStyle(at).backgroundColor;
      if (channels(color).length == 3) return color;
    }}
    return "rgb(255, 255, 255)";
  }};
  return [...document.querySelectorAll("h1, h2, h3, p, li, a, th, td, figcaption, summary, small, text, .badge")]
    .filter(element => element.textContent.trim())
    .filter(element => {{
      const style = getComputedStyle(element);
      const ink = luminance(element.tagName == "text" ? style.fill : style.color), page = luminance(opaque(element));
      return (Math.max(ink, page) + 0.05) / (Math.min(ink, page) + 0.05) < 4.5;
    }})
    .map(element => element.outerHTML.slice(0, 80));
}})()"""
"""The elements whose text has a contrast below 4.5 to 1 (WCAG AA) with the nearest opaque background."""
