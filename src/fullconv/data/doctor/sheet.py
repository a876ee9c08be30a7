"""The faults of a data set on one page: HTML that needs no network and no script."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape
from pathlib import Path

from fullconv.data.doctor.examine import ClassFacts, Examination
from fullconv.data.doctor.objects import WIDEST
from fullconv.data.doctor.thumbs import Thumb
from fullconv.faults import Group
from fullconv.files import write_text

__all__ = ["class_rows", "write_sheet"]

LISTED = 200
"""Findings of one kind on the page; the JSON file has all."""

# Text on white at 7:1 or more, bars of one colour, and words wherever a colour says something.
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0 auto; padding: 1rem;
  max-width: 70rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2rem } code, li { overflow-wrap: anywhere }
summary { cursor: pointer; padding: .3rem 0 } summary b { border: 1px solid; border-radius: .2rem; padding: 0 .4rem }
details.error summary b { background: #1b1b1b; color: #fff }
table { border-collapse: collapse; width: 100% } th, td { text-align: right; padding: .2rem .5rem }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #ccc }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0 }
.legend span { display: inline-block; width: 1em; height: 1em; border: 1px solid #555; margin-right: .3em }
meter { width: 6rem } .scroll { overflow-x: auto }
.sample { border-top: 1px solid #ccc; padding: .8rem 0 } .sample h3 { font-size: 1rem; margin: 0 }
.three { display: flex; flex-wrap: wrap; gap: .5rem } figure { margin: 0 } figcaption { font-size: .85rem }
img { max-width: 100%; border: 1px solid #999; image-rendering: pixelated }
.none { width: 8rem; padding: 2rem .5rem; border: 1px dashed #555; text-align: center }
@media (min-width: 60rem) { .samples { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem } }
"""


def write_sheet(path: Path, found: Examination) -> None:
    """Write the page of an examination. Raises FullconvError where it cannot be written."""
    write_text(path, "\n".join(_page(found)))


def class_rows(classes: tuple[ClassFacts, ...]) -> list[list[str]]:
    """The table of classes, its head first: share of the pixels, images with it, median width."""
    rows = [["class", "% of pixels", "images", "px wide (median)"]]
    for facts in classes:
        width = "" if facts.width is None else f"{WIDEST} or more" if facts.width >= WIDEST else str(facts.width)
        rows.append([facts.name, f"{100 * facts.share:.2f}", str(facts.images), width])
    return rows


def _page(found: Examination) -> Iterator[str]:
    name = escape(found.root.resolve().name)
    yield f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{name}: check</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>"
    splits = ", ".join(f"{count} {split}" for split, count in found.samples().items())
    yield f"<h1>{name}</h1>\n<p><strong>{escape(found.verdict())}.</strong></p>"
    yield f"<p>{escape(found.layout)} layout; samples: {splits or 'none'}; images: {escape(found.sizes())}.</p>"
    for severity, title in (("error", "Errors"), ("warning", "Warnings")):
        groups = [group for group in found.groups if group.severity == severity]
        yield f"<h2>{title}</h2>" + ("" if groups else "\n<p>None.</p>")
        for group in groups:
            yield from _group(group)
    yield "<h2>Classes</h2>"
    yield from _classes(found.classes)
    yield "<h2>Samples</h2>\n<p>Those with faults first, then a spread of others.</p>"
    yield from _legend(found)
    yield '<div class="samples">'
    for thumb in found.thumbs:
        yield from _sample(thumb)
    yield "</div>\n</main>\n</body>\n</html>\n"


def _group(group: Group) -> Iterator[str]:
    count = len(group.faults)
    yield f'<details class="{group.severity}"{" open" if count <= 5 else ""}>'
    yield f"<summary><b>{group.severity}</b> {group.kind}, {count} found</summary>"
    if group.remedy:
        yield f"<p>What to do: {escape(group.remedy)}.</p>"
    yield "<ul>"
    for fault in group.faults[:LISTED]:
        remedy = "" if group.remedy else f"; {escape(fault.remedy)}"
        yield f"<li><code>{escape(str(fault.path))}</code> {escape(fault.problem)}{remedy}</li>"
    if count > LISTED:
        yield f"<li>and {count - LISTED} more</li>"
    yield "</ul>\n</details>"


def _classes(classes: tuple[ClassFacts, ...]) -> Iterator[str]:
    if not classes:
        yield "<p>No mask that can be used holds a class.</p>"
        return
    head, *rows = class_rows(classes)
    yield '<div class="scroll" tabindex="0" role="group" aria-label="classes"><table>\n<thead><tr>'
    yield "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head) + '<th scope="col">share</th>'
    yield "</tr></thead>\n<tbody>"
    for facts, cells in zip(classes, rows, strict=True):
        meter = f'<meter value="{facts.share:.4f}" aria-label="share of {escape(facts.name)}"></meter>'
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + f"<td>{meter}</td></tr>"
    yield "</tbody>\n</table></div>"
    yield (
        "<p>The width at a pixel is the shorter of the two runs of its class through it, along its row and along its "
        "column; a class's width is the median over its pixels.</p>"
    )


def _legend(found: Examination) -> Iterator[str]:
    """The colours of the classes that are there, as the masks and overlays show them."""
    if found.dataset is None or not found.classes:
        return
    labels = found.dataset.labels
    colors = dict(zip(labels.class_names, labels.palette, strict=True))
    held = [(facts.name, colors[facts.name]) for facts in found.classes if facts.images]
    yield '<ul class="legend">'
    for name, (red, green, blue) in [*held, ("ignored", (255, 255, 255))]:
        yield f'<li><span style="background:#{red:02x}{green:02x}{blue:02x}"></span>{escape(name)}</li>'
    yield "</ul>"


def _sample(thumb: Thumb) -> Iterator[str]:
    name = escape(thumb.name)
    yield f'<section class="sample">\n<h3>{name} ({thumb.split})</h3>'
    kinds = sorted({f"{fault.severity}: {fault.kind}" for fault in thumb.faults})
    yield f"<p>{'; '.join(kinds) or 'nothing found'}</p>"
    yield '<div class="three">'
    for what, data in (("image", thumb.image), ("mask", thumb.mask), ("overlay", thumb.overlay)):
        if data is None:
            yield f'<figure><div class="none">cannot be shown</div><figcaption>{what}</figcaption></figure>'
        else:
            source = f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
            yield f'<figure><img src="{source}" alt="{what} of {name}"><figcaption>{what}</figcaption></figure>'
    yield "</div>\n</section>"
