"""Keep a data set inside of its folder: no annotation and no link may add a file from another place unasked."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fullconv.data.annotations.embedded import is_extracted
from fullconv.data.annotations.image_index import is_below
from fullconv.data.dataset import DataSet, Sample
from fullconv.faults import Fault

__all__ = ["Boundary", "keep_inside"]

_REMEDY = "put it into the folder, or give --outside if you trust who made the data"


class Boundary:
    """The folder of a data set. Links to folders are followed, because a whole folder is often a link to a disk.

    Attributes:
        root: The folder.
        links: The links to folders outside of it that files were reached through, each with its target.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.links: dict[Path, Path] = {}
        self._real_root = Path(os.path.realpath(root))
        self._real: dict[Path, Path] = {}

    def problem(self, path: Path) -> str:
        """Return what is wrong with a file that exists outside of the folder; "" for files that may be read."""
        parent = self._real.get(path.parent)
        if parent is None:
            parent = self._real.setdefault(path.parent, Path(os.path.realpath(path.parent)))
        is_link = path.is_symlink()
        real = Path(os.path.realpath(path)) if is_link else parent / path.name
        if real.is_relative_to(self._real_root) or not real.exists() or is_extracted(path):
            return ""
        if not is_below(self.root, path):
            return f"lies at {self._shown(real)}, outside of the data set"
        folder = self._find_link(path.parent)
        if folder is not None:
            self.links.setdefault(folder, Path(os.path.realpath(folder)))
            return ""
        return f"is a link to {self._shown(real)}, outside of the data set"

    def _shown(self, path: Path) -> str:
        """Return the path from the data set's folder."""
        try:
            return os.path.relpath(path, self._real_root)
        except ValueError:  # another drive
            return str(path)

    def _find_link(self, folder: Path) -> Path | None:
        """Return the topmost folder of the path below the root that is a link out of it."""
        chain = [folder, *folder.parents]
        chain = chain[: chain.index(self.root)]
        for place in reversed(chain):
            if _is_link(place) and not Path(os.path.realpath(place)).is_relative_to(self._real_root):
                return place
        return None


def _is_link(path: Path) -> bool:
    """Return whether a folder is a link, or a junction of Windows."""
    if path.is_symlink():
        return True
    here = os.path.join(os.path.realpath(path.parent), path.name)
    return os.name == "nt" and os.path.normcase(os.path.realpath(path)) != os.path.normcase(here)


def keep_inside(root: Path, dataset: DataSet | None, faults: list[Fault]) -> DataSet | None:
    """Return the data set without samples whose image or mask lies outside of `root`, and add a fault for each.

    Links to folders are named in `about`.
    """
    boundary = Boundary(root)
    faults[:] = [replace(fault, pair=None) if _leaves(boundary, fault.pair) else fault for fault in faults]
    if dataset is None:
        return None
    splits = {}
    for split, samples in dataset.splits.items():
        found = [(sample, [*_faults_of(boundary, sample, split)]) for sample in samples]
        splits[split] = tuple(sample for sample, wrong in found if not wrong)
        faults += [fault for _, wrong in found for fault in wrong]
    sentences = [dataset.about] if dataset.about else []
    sentences += [f"{link.relative_to(root)} is a link to {target}" for link, target in boundary.links.items()]
    return replace(dataset, splits=splits, about="; ".join(sentences))


def _faults_of(boundary: Boundary, sample: Sample, split: str) -> Iterable[Fault]:
    for path in dict.fromkeys((sample.image, sample.target)):
        problem = boundary.problem(path)
        if problem and path != sample.target and problem.startswith("lies"):
            yield Fault("outside-data", sample.target, f"its image {path.name} {problem}", _REMEDY, sample.name, split)
        elif problem:
            yield Fault("outside-data", path, problem, _REMEDY, sample.name, split)


def _leaves(boundary: Boundary, pair: object) -> bool:
    return isinstance(pair, Sample) and any(map(boundary.problem, (pair.image, pair.target)))
