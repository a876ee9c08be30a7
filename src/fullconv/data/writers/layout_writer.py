"""The parts that all writers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullconv.arrays import UInt8
from fullconv.data.annotations.assembly import IGNORED, classes_of
from fullconv.data.dataset import Sample
from fullconv.labels import IGNORE_INDEX, LabelSet

__all__ = ["Item", "LayoutWriter", "Records", "image_in_split_folder", "shape_labels"]


@dataclass(frozen=True)
class Item:
    """A sample to write, with the split and the name of its files."""

    split: str
    name: str
    sample: Sample

    @property
    def image_name(self) -> str:
        """Return the file name of the image."""
        return self.name + self.sample.image.suffix


Records = Sequence[tuple[Item, Any]]
"""All items, each with what `write_target` returned."""


@dataclass(frozen=True)
class LayoutWriter:
    """A layout to write.

    `image_path` returns the path of an image inside of the data set. `write_target` writes the label map (H x W uint8)
    of one item, or returns a record of it. `finish` gets all records at the end. It returns the keys of dataset.yaml
    that describe the classes.
    """

    image_path: Callable[[Item], Path]
    write_target: Callable[[Path, Item, UInt8, LabelSet], Any]
    finish: Callable[[Path, LabelSet, Records], dict[str, Any]]


def image_in_split_folder(item: Item) -> Path:
    """Return images/SPLIT/NAME."""
    return Path("images", item.split, item.image_name)


def shape_labels(labels: LabelSet) -> tuple[dict[int, str], int]:
    """Return the name of each label, the ignored one included, and the label of pixels that no shape covers."""
    names = dict(enumerate(labels.class_names)) | {IGNORE_INDEX: IGNORED}
    return names, classes_of(labels.class_names, complete=True).uncovered
