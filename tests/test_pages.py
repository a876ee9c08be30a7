"""The pages: every text is only text, and a browser shows them without errors, requests or sideways scrolling."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import corpus
from browsing import DARKNESS, FAINT, new_view
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.layouts import survey
from fullconv.doctor.examine import examine
from fullconv.doctor.page import write_check_page
from fullconv.evaluation.measure import measure
from fullconv.geometry.tiles import Window
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.pages import render
from fullconv.pages.parts import Cell, Table
from fullconv.pages.render import render_page
from fullconv.report.charts import Curve, line_chart
from fullconv.report.ladder import write_ladder_page
from fullconv.report.page import write_report
from fullconv.report.runs import Run
from fullconv.report.source import COLUMNS, Source
from fullconv.visible import make_visible
from html_page import Page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = Path(render.__file__).parent
EVIL = "<script>alert('1')</script>\"&\n\x01\x1b\u202e"
SHOWN = "<script>alert('1')</script>\"&\\n\\x01\\x1b\\u202e"
"""`EVIL` as a reader sees it."""

LONG = "a_class_with_a_long_name_and_no_place_to_break_it_at_all"
LABELS = LabelSet.named([EVIL, LONG, "plain"])


class Guesser:
    """A runner that is right on most pixels; the first channel of an image holds the truth."""

    info = ModelInfo(LABELS, (Window(0, 0), Window(0, 0)), exact=True)

    def label_maps(self, images: np.ndarray) -> np.ndarray:
        truth = images[..., 0] % 3
        wrong = np.random.default_rng(0).random(truth.shape) < 0.2
        return np.where(wrong, (truth + 1) % 3, truth).astype(np.uint8)


def write_run(folder: Path, epochs: int) -> Path:
    """The metrics.csv of a run folder."""
    folder.mkdir(parents=True)
    rows = [",".join(str(epoch / 10 if name != "epoch" else epoch) for name in COLUMNS) for epoch in range(1, epochs)]
    (folder / "metrics.csv").write_text("\n".join([",".join(COLUMNS), *rows, ""]), encoding="utf-8")
    return folder


def make_report(folder: Path) -> Path:
    rng, samples = np.random.default_rng(1), []
    for number in range(24):
        truth = rng.choice(3, (6, 8), p=[0.8, 0.15, 0.05]).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        image, target = (folder / f"{number}-{what}.png" for what in ("image", "mask"))
        write_image(image, np.repeat(truth[..., None], 3, axis=2))
        write_label_map(target, truth, LABELS)
        samples.append(Sample(f"{EVIL} {number}", image, target))
    dataset = DataSet(EVIL, folder / EVIL.replace("/", "-"), LABELS, {"val": tuple(samples)})
    curves = tuple({**dict.fromkeys(COLUMNS, epoch / 9), "epoch": epoch} for epoch in (1.0, 2.0, 3.0))
    settings = {EVIL: EVIL, LONG: LONG * 3, "choices": {"stride": {"value": 8, "reason": EVIL}}}
    write_report(folder / "report.html", measure(Guesser(), dataset, "val"), Source(folder / EVIL, settings, curves))
    return folder / "report.html"


def make_check(folder: Path) -> Path:
    root = folder / EVIL.replace("/", "-")
    corpus.base(root)
    names = yaml.safe_dump({"names": ["ground", EVIL, LONG]}, allow_unicode=False)
    (root / "dataset.yaml").write_text(names, encoding="utf-8")
    corpus.image(root, "a").rename(corpus.image(root, EVIL.replace("/", "-")))
    corpus.image(root, "b").write_bytes(b"")
    write_check_page(folder / "check.html", examine(survey(root)))
    return folder / "check.html"


def make_ladder(folder: Path) -> Path:
    names = ["FCN-32s-fixed", "FCN-32s", "FCN-16s", EVIL]
    steps = [
        Run(name, write_run(folder / f"{number}-run", 5), EVIL * (number == 3)) for number, name in enumerate(names)
    ]
    for step in steps:
        (step.folder / "report.html").write_text("<title>report</title>", encoding="utf-8")
    rows = [["", "pixel acc.", "mean acc.", "mean IU", "f.w. IU", "gain", "parameters", "seconds"]]
    rows += [[name, "1.0", "2.0", "3.0", "4.0", "+1.0", "2.25 M", "9"] for name in names]
    write_ladder_page(folder / "report.html", EVIL, steps, rows, EVIL)
    return folder / "report.html"


MAKERS: Mapping[str, Callable[[Path], Path]] = {"report": make_report, "check": make_check, "ladder": make_ladder}


@pytest.fixture(scope="module", params=MAKERS)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


def test_names_with_markup_are_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    assert not {"script", "iframe", "object", "link"} & set(found.tags)
    assert all(not name.startswith("on") and name != "style" for _, values in found.attributes for name in values)
    assert "\x01" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert SHOWN.replace("/", "-") in found.title or SHOWN in found.title
    assert SHOWN in found.text


def test_a_page_has_one_title_and_headings_in_order(page: Path) -> None:
    found = Page(page.read_text(encoding="utf-8"))
    assert found.headings.count(1) == 1
    assert found.title
    assert found.headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(found.headings))
    assert len(set(found.ids)) == len(found.ids)
    assert all(values.get("alt") for tag, values in found.attributes if tag == "img")
    for target in (values["href"] or "" for _, values in found.attributes if "href" in values):
        assert target.removeprefix("#") in found.ids or (page.parent / target).is_file()


def test_the_policy_allows_only_the_style_sheet_and_pictures(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = [rule.strip() for rule in unescape(policy).split(";")]
    assert {"default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"} <= set(rules)
    assert not re.search(r"@import|url\(|https?:", style)


@given(st.text())
def test_any_text_is_escaped(text: str) -> None:
    table = Table(text, [text], [[Cell(text, "#000000"), Cell(text, kind="note")]])
    found = Page(render_page("ladder.html", title=text, table=table, charts=[], alarms=[], reports={text: "a"}))
    kinds = {"a", "meta", "html", "head", "title", "style", "body", "h1", "header", "main", "p", "section", "h2", "svg",
             "figure", "figcaption", "div", "table", "thead", "tbody", "tr", "th", "td", "rect", "ul", "li",
             "footer"}  # fmt: skip
    assert set(found.tags) <= kinds
    shown = "".join(make_visible(character) for character in text)
    assert found.title == shown
    assert found.rows[1] == [shown, shown]


def test_every_page_has_the_policy_and_no_other_code_writes_pages() -> None:
    pages = [path for path in (PAGES / "templates").iterdir() if path.name not in ("base.html", "parts.html")]
    for template in pages:
        text = template.read_text(encoding="utf-8")
        inside = '{% extends "base.html" %}' in text or any(f'"{template.name}"' in page.read_text() for page in pages)
        assert inside, f"{template.name} has no Content-Security-Policy"
        assert "<html" not in text
        assert "<head" not in text
    base = (PAGES / "templates" / "base.html").read_text(encoding="utf-8")
    assert base.index("Content-Security-Policy") < base.index("<style")
    for module in PAGES.parent.rglob("*.py"):
        assert "<html" not in module.read_text(encoding="utf-8").replace('b"<html"', ""), module


def test_no_template_disables_escaping() -> None:
    for template in (PAGES / "templates").iterdir():
        assert not re.search(r"\|\s*safe|autoescape|<script|\sstyle=|\son\w+=", template.read_text(encoding="utf-8"))
    for module in PAGES.parent.rglob("*.py"):
        assert module.name == "render.py" or "Markup(" not in module.read_text(encoding="utf-8"), module


def test_heads_over_texts_are_aligned_like_their_column() -> None:
    """A text may have numbers in it, and a column of numbers may have a few words or dashes."""
    rows = [
        ["a", "1.5", "road", "<0.1", "13x13"],
        ["b", "absent", "2 cars and a tree", "–", ""],
        ["c", "-2", "", "3", ""],
    ]
    assert Table("", ["", "", "", "", ""], rows).texts == [True, False, False, False, False]
    rows[1][2] = "tree"
    assert Table("", ["", "", "", "", ""], rows).texts == [True, False, True, False, False]
    assert Table("", ["a", "b"], []).texts == [False, False]


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(Exception, match="'table' is undefined"):
        render_page("ladder.html", title="a", charts=[], alarms=[], reports={})


@pytest.mark.parametrize("count", [1, 12, 13, 84])
def test_long_lines_have_few_markers_and_one_at_the_end(count: int) -> None:
    epochs = [float(epoch) for epoch in range(1, count + 1)]
    line = line_chart("a", "a", "", [Curve("a", epochs, epochs)]).lines[0]
    marks, end = line.marks.count("M"), line.path.rsplit("L", 1)[-1].removeprefix("M")
    assert min(count, 7) <= marks <= 12
    assert line.marks.startswith(f"M{end}m")


def test_prediction_does_not_import_jinja(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((40, 50, 3), np.uint8))
    code = (
        "import sys\n"
        "from fullconv.cli.app import main\n"
        f"sys.argv = ['fullconv', 'predict', 'street', {str(tmp_path / 'a.png')!r}, '--out', {str(tmp_path / 'o')!r}]\n"
        "try: main()\n"
        "except SystemExit as exit: assert not exit.code\n"
        "print('loaded:', *sorted({'jinja2', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-1] == "loaded:", run.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_renders_the_page(page: Path, browser: Browser, width: int, scheme: Literal["light", "dark"]) -> None:
    """No error, no request beyond the file, no sideways scrolling, and text that stands out from the page."""
    errors: list[str] = []
    requests: list[str] = []
    view = new_view(browser, width, scheme)
    view.on("console", lambda message: errors.append(message.text))
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.goto(page.as_uri(), wait_until="load")
    for summary in view.locator("summary").all():
        summary.click()
    assert view.title() == view.locator("h1").inner_text()
    assert view.locator("h2").count() >= 3
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert view.evaluate(DARKNESS) == (scheme == "dark")
    assert view.evaluate(FAINT) == []
    assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert errors == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    view.keyboard.press("Tab")
    assert view.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    view.close()


def test_a_chart_leaves_out_curves_without_values() -> None:
    chart = line_chart("a", "a", "", [Curve("new", [], []), Curve("old", [1, 2], [3, 4])])
    assert chart.description == "old from 3 to 4, over 2 epochs"
    assert line_chart("a", "a", "", [Curve("new", [], [])]).description.startswith("no values")
