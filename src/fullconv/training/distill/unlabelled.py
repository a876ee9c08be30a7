"""Images without masks in the batches of a training: a share of each batch, which only the teacher labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet, Sample
from fullconv.errors import DataError, UsageError
from fullconv.images import image_size
from fullconv.labels import IGNORE_INDEX
from fullconv.predict.inputs import expand_inputs
from fullconv.training.augment import Augmentation
from fullconv.training.recipe import Recipe
from fullconv.training.samples import BatchOrder, Item, Position, Room, SegmentationDataset, make_seed

__all__ = [
    "MixedOrder",
    "MixedSamples",
    "UnlabelledSamples",
    "count_unlabelled",
    "describe_unlabelled",
    "find_unlabelled",
]


def find_unlabelled(folder: Path) -> list[Path]:
    """Return the images of a folder, at any depth, sorted. Raises DataError if it has none."""
    return expand_inputs([str(folder)])


def describe_unlabelled(folder: Path) -> dict[str, Any]:
    """Return the folder, the number of images, and the SHA-256 of their names and sizes in bytes."""
    paths = find_unlabelled(folder)
    lines = [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}" for path in paths]
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    return {"path": str(folder), "images": len(paths), "sha256": digest}


def count_unlabelled(recipe: Recipe) -> int:
    """Return the number of unlabelled crops in a batch: a share of it, but at least one and not all.

    Raises UsageError for batches of one crop.
    """
    if recipe.batch_size < 2 or recipe.crop == 0:
        message = (
            "images without masks need batches of two crops or more, one with labels and one without; set --batch, and "
            "a --crop that is not 0"
        )
        raise UsageError(message, code="no-room-for-unlabelled")
    return min(recipe.batch_size - 1, max(1, round(recipe.unlabelled_share * recipe.batch_size)))


class UnlabelledSamples(SegmentationDataset):
    """Crops of images without masks, in the format of `dataset`; all their pixels are ignored by the other losses."""

    def __init__(
        self, dataset: DataSet, folder: Path, augmentation: Augmentation, seed: int, room: Room | None = None
    ) -> None:
        """Take the images of a folder."""
        samples = tuple(
            Sample(path.stem, path, path, reader=partial(_ignore_all, path)) for path in find_unlabelled(folder)
        )
        alone = replace(dataset, splits={"unlabelled": samples}, remap=(), color_masks=False)
        super().__init__(alone, "unlabelled", augmentation, make_seed(seed, 1), room)
        self.remedy = f"Repair this image, or remove it from {folder} (--unlabelled-images)"

    def check(self) -> None:
        """Decode each image once. Raises DataError if some cannot be read: a run must not fail at a later step.

        Nothing stays in memory, which is first for the labelled images.
        """
        faults = []
        for sample in self.samples:
            try:
                self.dataset.read(sample)
            except DataError as error:
                faults.append(error)
        if faults:
            more = f"\n{len(faults) - 1} more cannot be read" if len(faults) > 1 else ""
            raise DataError(f"{faults[0]}\n{self.remedy}{more}", code=faults[0].code)

    def _with_labels(self, index: int) -> tuple[int, Tensor, Tensor]:
        """Return the image of an index, which never has labels."""
        return index, *self.decode(index)


class MixedSamples(Dataset[Item]):
    """Labelled samples, and after them the unlabelled ones: one index for both."""

    def __init__(self, labelled: SegmentationDataset, unlabelled: UnlabelledSamples) -> None:
        """Take both."""
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, position: Position) -> Item:
        epoch, index = position
        count = len(self.labelled)
        return self.labelled[position] if index < count else self.unlabelled[epoch, index - count]


class MixedOrder(BatchOrder):
    """A `BatchOrder` of the labelled samples, with `mixed_in` of `unlabelled` samples evenly among each batch.

    The unlabelled samples come in a permutation of all of them, then in another one, across epochs; the position
    depends only on seed, epoch and batch. Their indices follow those of the labelled samples.
    """

    def __init__(self, samples: int, unlabelled: int, mixed_in: int, batch_size: int, **order: Any) -> None:
        """Take the numbers of samples, and the size of a whole batch; `order` is that of `BatchOrder`."""
        super().__init__(samples, batch_size - mixed_in, **order)
        self.samples, self.unlabelled, self.mixed_in, self.seed = samples, unlabelled, mixed_in, order["seed"]

    def __iter__(self) -> Iterator[list[Position]]:
        for batch, labelled in zip(range(self.start, self.batches), super().__iter__(), strict=True):
            first = (self.epoch * self.batches + batch) * self.mixed_in
            rest = [self._locate(number) for number in range(first, first + self.mixed_in)]
            size = len(labelled) + self.mixed_in
            turns = [(place + 1) * self.mixed_in // size > place * self.mixed_in // size for place in range(size)]
            parts = iter(labelled), iter(rest)
            yield [next(parts[turn]) for turn in turns]

    def _locate(self, number: int) -> Position:
        """Return the position of the unlabelled sample of this number since the start of the training."""
        turn, place = divmod(number, self.unlabelled)
        generator = torch.Generator().manual_seed(make_seed(self.seed, turn, 1))
        return turn, self.samples + int(torch.randperm(self.unlabelled, generator=generator)[place])


def _ignore_all(image: Path) -> UInt8:
    return np.full(image_size(image), IGNORE_INDEX, np.uint8)
