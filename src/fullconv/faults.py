"""Faults of data sets: their kinds with a severity each, and one fault with its file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "KINDS",
    "REPAIRABLE",
    "UNREPAIRABLE",
    "Fault",
    "Group",
    "Severity",
    "count_repairs",
    "group_faults",
    "unreadable",
]

Severity = Literal["error", "warning"]

# fmt: off
KINDS: dict[str, Severity] = {
    "class-names": "error", "class-mismatch": "error",
    "missing-folder": "error", "missing-list": "error", "empty-split": "error", "unknown-split": "error",
    "ambiguous-split": "error", "loose-images": "error", "nested-images": "error",
    "missing-mask": "error", "orphan-mask": "error", "missing-image": "error", "ambiguous-image": "error",
    "duplicate-image": "error", "duplicate-stem": "error", "no-common-stem": "error", "listed-absent": "error",
    "listed-twice": "error", "outside-data": "error",
    "invalid-annotations": "error", "unknown-image": "error", "unknown-class": "error", "damaged-shape": "error",
    "unsupported-shape": "error", "no-shapes": "error",
    "missing-file": "error", "not-a-file": "error", "empty-file": "error", "html-file": "error",
    "not-an-image": "error", "unsupported-format": "error", "image-stack": "error",
    "truncated-file": "error", "not-finite": "error", "value-range": "error", "too-large": "error",
    "unreadable-file": "error", "band-count": "error", "size-mismatch": "error", "exif-rotation": "error",
    "jpeg-mask": "error", "mask-0-255": "error", "antialiased": "error", "unknown-label": "error",
    "unknown-colour": "error", "no-colour-table": "error", "grey-levels": "error", "only-background": "error",
    "unlabelled-split": "error", "inferred": "error",
    "absent-class": "warning", "all-ignored": "warning", "background-image": "warning", "in-two-splits": "warning",
    "thin-objects": "warning", "nodata-labelled": "warning", "mixed-channels": "warning", "alpha": "warning",
    "doubtful-range": "warning", "moved-pixels": "warning",
    "palette-order": "warning", "grey-among-colour": "warning", "several-pages": "warning", "empty-polygon": "warning",
    "no-area": "warning", "box-over-shape": "warning",
    "skipped-shape": "warning",
}
# fmt: on
"""The severity of each kind, in the order in which kinds are listed.

An error stops or spoils training; a warning should be looked at. The names are stable, because programs that read
`fullconv check --json` compare them.
"""

REPAIRABLE = frozenset({"exif-rotation", "jpeg-mask", "antialiased", "mixed-channels", "nodata-labelled", "mask-0-255"})
"""Kinds that `check --fix` repairs. Pairs with other errors are not copied; other warnings change nothing."""

UNREPAIRABLE = frozenset({"class-names", "grey-levels", "only-background"})
"""Kinds that make all labels uncertain, so that `check --fix` does not copy the data set."""


@dataclass(frozen=True)
class Fault:
    """A fault of one file or folder.

    Attributes:
        kind: A key of `KINDS`.
        path: The file or folder.
        problem: What is wrong.
        remedy: What the user should do.
        sample: Name of the sample with the fault, if it is one sample.
        split: Name of the split with the fault, if it is one split.
        sure: False if a repair would have to guess.
        pair: The `data.dataset.Sample` that the data set lacks because of the fault; `check` opens its files again.
    """

    kind: str
    path: Path
    problem: str
    remedy: str
    sample: str | None = None
    split: str | None = None
    sure: bool = True
    pair: object = field(default=None, repr=False)

    @property
    def severity(self) -> Severity:
        """The severity of the kind."""
        return KINDS[self.kind]

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fault as a dict of strings, for JSON."""
        return {
            "code": self.kind,
            "severity": self.severity,
            "path": str(self.path),
            "problem": self.problem,
            "remedy": self.remedy,
            "sample": self.sample,
            "split": self.split,
        }


@dataclass(frozen=True)
class Group:
    """All faults of one kind, in the order of their discovery."""

    kind: str
    faults: tuple[Fault, ...]

    @property
    def severity(self) -> Severity:
        """The severity of the kind."""
        return KINDS[self.kind]

    @property
    def remedy(self) -> str | None:
        """The remedy if all faults have the same one, otherwise None."""
        remedies = {fault.remedy for fault in self.faults}
        return remedies.pop() if len(remedies) == 1 else None


def unreadable(path: Path, error: OSError) -> Fault:
    """Return the fault of a file that the system does not let us read."""
    return Fault("unreadable-file", path, f"cannot be read ({error.strerror or error})", "check its permissions")


def count_repairs(faults: Sequence[Fault]) -> int:
    """Return how many of the faults `check --fix` repairs; 0 if one of them makes all labels uncertain."""
    if any(fault.kind in UNREPAIRABLE for fault in faults):
        return 0
    return sum(fault.kind in REPAIRABLE and fault.sure for fault in faults)


def group_faults(faults: Iterable[Fault]) -> tuple[Group, ...]:
    """Group faults by kind, in the order of `KINDS`, so errors come first."""
    by_kind: dict[str, list[Fault]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    return tuple(Group(kind, tuple(by_kind[kind])) for kind in KINDS if kind in by_kind)
