"""What a data set can suffer from: kinds of findings, how grave they are, and the findings themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

__all__ = ["KINDS", "Finding", "Group", "Severity", "grouped", "of_error", "of_fault"]

Severity = Literal["error", "warning"]

# fmt: off
KINDS: dict[str, Severity] = {
    "class-names": "error", "missing-folder": "error", "layout": "error", "empty-split": "error",
    "missing-mask": "error", "orphan-mask": "error", "duplicate-stem": "error", "no-common-stem": "error",
    "empty-file": "error", "html-file": "error", "truncated-file": "error", "not-finite": "error",
    "unreadable-file": "error", "band-count": "error", "size-mismatch": "error", "exif-rotation": "error",
    "jpeg-mask": "error", "mask-0-255": "error", "antialiased": "error", "unknown-label": "error",
    "unknown-colour": "error", "no-colour-table": "error", "grey-levels": "error", "only-background": "error",
    "unlabelled-split": "error",
    "absent-class": "warning", "all-ignored": "warning", "background-image": "warning", "in-two-splits": "warning",
    "thin-objects": "warning", "nodata-labelled": "warning", "mixed-channels": "warning", "alpha": "warning",
    "palette-order": "warning", "grey-among-colour": "warning", "several-pages": "warning", "empty-polygon": "warning",
}
# fmt: on
"""Every kind, in the order in which they are told: an error stops training or spoils it, a warning is for the eye."""

NAMING = ("dataset.yaml", "dataset.yml", "classes.txt")
"""The files that name classes: what is wrong in them is of the kind `class-names`."""

# Faults that the survey tells as sentences, by the words that only they have.
_SENTENCES = (
    ("band(s), but", "band-count"),
    ("channels, but", "band-count"),
    ("has both classes.txt and", "class-names"),
    ("one class only", "class-names"),
    ("this folder is absent", "missing-folder"),
    ("the split is empty", "empty-split"),
    ("has the same stem as", "duplicate-stem"),
    ("no mask has its stem", "missing-mask"),
    ("has its stem; add the image", "orphan-mask"),
    ("no mask has the stem of an image", "no-common-stem"),
    ("images of this kind are not read", "unreadable-file"),
    ("no pixel; draw again what is missing", "empty-polygon"),
)

# What image.py says of a file that it cannot read.
_UNREADABLE = (
    ("the file is empty", "empty-file"),
    ("web page (HTML)", "html-file"),
    ("damaged or cut short", "truncated-file"),
    ("NaN or infinite", "not-finite"),
)


@dataclass(frozen=True)
class Finding:
    """One thing found in one place: its kind, the file or folder, what was found there, and what to do about it.

    Where a repair of the kind would have to guess what was meant, it is not `sure`.
    """

    kind: str
    path: Path
    found: str
    remedy: str
    sure: bool = True

    @property
    def severity(self) -> Severity:
        """By the kind."""
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.path}: {self.found}; {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """Plain strings, for JSON."""
        return {"path": str(self.path), "found": self.found, "remedy": self.remedy}


@dataclass(frozen=True)
class Group:
    """All findings of one kind, in the order in which they were found."""

    kind: str
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        """By the kind."""
        return KINDS[self.kind]

    @property
    def remedy(self) -> str | None:
        """What to do, where it is the same for all."""
        remedies = {finding.remedy for finding in self.findings}
        return remedies.pop() if len(remedies) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON."""
        found = [finding.to_dict() for finding in self.findings]
        return {"kind": self.kind, "severity": self.severity, "count": len(found), "findings": found}


def grouped(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """The findings by kind, errors first, in the order of `KINDS`."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    return tuple(Group(kind, tuple(by_kind[kind])) for kind in KINDS if kind in by_kind)


def of_fault(text: str) -> Finding:
    """A fault of `survey` as a finding, of the kind `layout` where its words and its file tell no other."""
    kind = next((kind for words, kind in _SENTENCES if words in text), None)
    finding = _finding(kind or "layout", text)
    return replace(finding, kind="class-names") if kind is None and finding.path.name in NAMING else finding


def of_error(text: str) -> Finding:
    """What reading an image or mask raised, "path: what was found; remedy", as a finding."""
    kind = next((kind for words, kind in _UNREADABLE if words in text), "unreadable-file")
    return _finding(kind, text)


def _finding(kind: str, text: str) -> Finding:
    """The sentence taken apart; where names hold colons, its file is the longest that is there."""
    ends = [match.start() for match in re.finditer(": ", text)] or [len(text)]
    end = next((end for end in reversed(ends) if os.path.lexists(text[:end])), ends[0])
    found, _, remedy = text[end + 2 :].rpartition("; ")
    return Finding(kind, Path(text[:end]), found or remedy, remedy if found else "correct it")
