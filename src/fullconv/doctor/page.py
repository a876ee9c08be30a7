"""The page of `fullconv check`: faults, classes and thumbnails, as HTML that needs no network and no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fullconv.data.object_widths import WIDEST
from fullconv.doctor.examine import ClassFacts, Examination
from fullconv.doctor.thumbnails import Thumb
from fullconv.faults import Group
from fullconv.images.data_uri import jpeg_data_uri
from fullconv.pages.parts import Legend, legend_of
from fullconv.pages.render import write_page

__all__ = ["class_rows", "write_sheet"]

LISTED = 200
"""Faults of one kind on the page; the JSON file has all."""

OPEN = 5
"""Faults of one kind, up to which the page shows their list unfolded."""


def write_sheet(path: Path, found: Examination) -> None:
    """Write the page of an examination. Raises FullconvError where it cannot be written."""
    write_page(
        path,
        "check.html",
        title=f"{found.root.resolve().name}: data set check",
        verdict=found.verdict(),
        errors=found.errors,
        layout=found.layout,
        samples=", ".join(f"{count} {split}" for split, count in found.samples().items()) or "none",
        sizes=found.sizes(),
        groups={
            title: [_group(group) for group in found.groups if group.severity == severity]
            for severity, title in (("error", "Errors"), ("warning", "Warnings"))
        },
        class_head=class_rows(())[0],
        classes=[(facts, cells) for facts, cells in zip(found.classes, class_rows(found.classes)[1:], strict=True)],
        legend=_legend(found),
        thumbs=[_thumb(thumb) for thumb in found.thumbs],
    )


def class_rows(classes: tuple[ClassFacts, ...]) -> list[list[str]]:
    """The table of classes, its head first: share of the pixels, images with it, median width."""
    rows = [["class", "% of pixels", "images", "px wide (median)"]]
    for facts in classes:
        width = "" if facts.width is None else f"{WIDEST} or more" if facts.width >= WIDEST else str(facts.width)
        rows.append([facts.name, f"{100 * facts.share:.2f}", str(facts.images), width])
    return rows


def _group(group: Group) -> dict[str, Any]:
    """All faults of one kind, as the template shows them; where all have one remedy, it is given once."""
    count = len(group.faults)
    return {
        "severity": group.severity,
        "kind": group.kind,
        "count": count,
        "open": count <= OPEN,
        "remedy": group.remedy,
        "faults": [
            {"path": str(fault.path), "problem": fault.problem, "remedy": "" if group.remedy else fault.remedy}
            for fault in group.faults[:LISTED]
        ],
        "more": max(0, count - LISTED),
    }


def _legend(found: Examination) -> Legend:
    """The colours of the classes that the masks contain, as masks and overlays show them."""
    if found.dataset is None or not found.classes:
        return []
    labels = found.dataset.labels
    seen = {facts.name for facts in found.classes if facts.images}
    legend = [(name, color) for name, color in legend_of(labels.class_names, labels.palette) if name in seen]
    return [*legend, ("ignored", "#ffffff")]


def _thumb(thumb: Thumb) -> dict[str, Any]:
    """One sample; a picture that cannot be shown has no address."""
    pictures = {"image": thumb.image, "mask": thumb.mask, "overlay": thumb.overlay}
    return {
        "name": thumb.name,
        "split": thumb.split,
        "faults": sorted({f"{fault.severity}: {fault.kind}" for fault in thumb.faults}),
        "pictures": {what: data and jpeg_data_uri(data) for what, data in pictures.items()},
    }
