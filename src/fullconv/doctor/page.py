"""Write the page of `fullconv check`: faults, classes and thumbnails in one HTML file without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fullconv.data.object_widths import WIDEST
from fullconv.data.statistics import describe_labelled
from fullconv.doctor.examine import ClassFacts, Examination
from fullconv.doctor.thumbnails import Thumb
from fullconv.faults import Group
from fullconv.images.data_uri import jpeg_data_uri
from fullconv.pages.parts import Legend, legend_of
from fullconv.pages.render import write_page

__all__ = ["class_rows", "write_check_page"]

LISTED = 200
"""At most so many faults of one kind are on the page; the JSON file has all."""

OPEN = 5
"""Up to so many warnings of one kind are shown unfolded; errors always are."""


def write_check_page(path: Path, examination: Examination) -> None:
    """Write the page of an examination. Raises FullconvError if the file cannot be written."""
    write_page(
        path,
        "check.html",
        title=f"{examination.root.resolve().name}: data set check",
        verdict=examination.verdict(),
        errors=examination.errors,
        layout=examination.layout,
        samples=", ".join(f"{count} {split}" for split, count in examination.samples().items()) or "none",
        sizes=examination.sizes(),
        notes=[] if examination.dataset is None else list(examination.dataset.notes),
        range=examination.range_facts.text if examination.range_facts else "",
        labelled=describe_labelled(examination.labelled),
        groups={
            title: [_group(group) for group in examination.groups if group.severity == severity]
            for severity, title in (("error", "Errors"), ("warning", "Warnings"))
        },
        class_head=class_rows(())[0],
        classes=[
            (facts, cells)
            for facts, cells in zip(examination.classes, class_rows(examination.classes)[1:], strict=True)
        ],
        legend=_legend(examination),
        thumbs=[_thumb(thumb) for thumb in examination.thumbs],
    )


def class_rows(classes: tuple[ClassFacts, ...]) -> list[list[str]]:
    """Return the table of classes, its head first: share of the pixels, images with the class, median width."""
    rows = [["class", "% of pixels", "images", "px wide (median)"]]
    for facts in classes:
        width = "" if facts.width is None else f"{WIDEST} or more" if facts.width >= WIDEST else str(facts.width)
        rows.append([facts.name, f"{100 * facts.share:.2f}", str(facts.images), width])
    return rows


def _group(group: Group) -> dict[str, Any]:
    """Return the faults of one kind as the template needs them. A remedy that all share is given once."""
    count = len(group.faults)
    return {
        "severity": group.severity,
        "kind": group.kind,
        "count": count,
        "open": group.severity == "error" or count <= OPEN,
        "remedy": group.remedy,
        "faults": [
            {"path": str(fault.path), "problem": fault.problem, "remedy": "" if group.remedy else fault.remedy}
            for fault in group.faults[:LISTED]
        ],
        "more": max(0, count - LISTED),
    }


def _legend(examination: Examination) -> Legend:
    """Return the colours of the classes that the masks contain."""
    if examination.dataset is None or not examination.classes:
        return []
    labels = examination.dataset.labels
    seen = {facts.name for facts in examination.classes if facts.images}
    legend = [(name, color) for name, color in legend_of(labels.class_names, labels.palette) if name in seen]
    return [*legend, ("ignored", "#ffffff")]


def _thumb(thumb: Thumb) -> dict[str, Any]:
    """Return one sample as the template needs it. A picture that cannot be shown has no URI."""
    pictures = {"image": thumb.image, "mask": thumb.mask, "overlay": thumb.overlay}
    return {
        "name": thumb.name,
        "split": thumb.split,
        "faults": sorted({f"{fault.severity}: {fault.kind}" for fault in thumb.faults}),
        "pictures": {what: data and jpeg_data_uri(data) for what, data in pictures.items()},
    }
