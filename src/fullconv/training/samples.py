"""Training samples: decoded once, augmented with one seed each, in an order that can start at any batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fullconv.cores import free_memory
from fullconv.data.dataset import DataSet, Sample
from fullconv.errors import DataError
from fullconv.labels import IGNORE_INDEX
from fullconv.training.augment import Augmentation

__all__ = ["BatchOrder", "Item", "Position", "Room", "SegmentationDataset", "has_labels", "make_seed"]

Position = tuple[int, int]
"""Epoch and number of a sample: its index, less the number of all samples for each repeat in this epoch."""

Item = tuple[Tensor, Tensor, str]
"""A uint8 C x H x W image, its uint8 H x W label map, and its name."""


TRIES = 10
"""The number of further crops that are drawn if a crop has no labelled pixel."""


def has_labels(target: Tensor) -> bool:
    """Return whether a label map has a pixel that is not ignored."""
    return bool((target != IGNORE_INDEX).any())


def make_seed(*parts: int) -> int:
    """Return a seed of 63 bits that depends on all parts."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Room:
    """The bytes that the decoded samples of one process may take. All its data sets share them.

    There is half of the free memory for all; `shares` is the number of processes on this machine that keep samples.
    """

    def __init__(self, shares: int = 1) -> None:
        """Measure the free memory."""
        self.left = free_memory() // 2 // shares


class SegmentationDataset(Dataset[Item]):
    """Images with label maps. Decoded samples stay in memory as long as they fit into `room`.

    `decoding` is the time in seconds that was spent on samples that stay in memory. The index of an item is a
    `Position`. The seed of its augmentation is made from `seed` and position. Training crops without any labelled pixel
    are drawn again, and images without any label are not drawn.
    """

    def __init__(
        self,
        dataset: DataSet,
        split: str,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        room: Room | None = None,
    ) -> None:
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed
        self.samples: tuple[Sample, ...] = dataset.split(split)
        self.remedy = f"{dataset.options.check_command(dataset.root)} lists all such files"
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}
        self.room = Room() if room is None else room
        self.decoding = 0.0

    def __len__(self) -> int:
        return len(self.samples)

    def decode(self, index: int) -> tuple[Tensor, Tensor]:
        """Read a pair without augmentation: uint8 C x H x W and H x W. Raises DataError if a file cannot be read."""
        if index in self._cache:
            return self._cache[index]
        start = time.monotonic()
        try:
            image, target = self.dataset.read(self.samples[index])
        except DataError as error:
            raise DataError(f"{error}\n{self.remedy}", code=error.code) from error
        pair = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(target)
        size = pair[0].nbytes + pair[1].nbytes
        if size <= self.room.left:
            self.room.left -= size
            self._cache[index] = pair
            self.decoding += time.monotonic() - start
        return pair

    def decoding_left(self) -> float:
        """Return the estimated seconds of decoding the other samples that fit into memory; 0 if none is there yet."""
        if not self._cache:
            return 0.0
        size = sum(part.nbytes for pair in self._cache.values() for part in pair) / len(self._cache)
        count = min(len(self) - len(self._cache), self.room.left // size)
        return count * self.decoding / len(self._cache)

    def __getitem__(self, position: Position) -> Item:
        index = position[1] % len(self)
        if self.augmentation is None:
            return *self.decode(index), self.samples[index].name
        index, image, target = self._with_labels(index)
        crop = self.augmentation(image, target, make_seed(self.seed, *position))
        for attempt in range(TRIES):  # a resize may have removed the last labels
            if has_labels(crop[1]) or not has_labels(target):
                break
            crop = self.augmentation(image, target, make_seed(self.seed, *position, attempt))
        return *crop, self.samples[index].name

    def _with_labels(self, index: int) -> tuple[int, Tensor, Tensor]:
        """Return the pair of an index, or of the next one that has labels, with its index."""
        pair = self.decode(index)
        for step in range(len(self)):
            other = (index + step) % len(self)
            if has_labels((chosen := pair if step == 0 else self.decode(other))[1]):
                return other, *chosen
        return index, *pair


class BatchOrder(Sampler[list[Position]]):
    """The batches of one epoch, from batch `start` on.

    The order is a permutation that depends only on seed and epoch. The last batch is completed with the first samples
    of the epoch, so all batches have the same size. Repeated samples have other numbers, and so other crops.
    """

    def __init__(self, samples: int, batch_size: int, *, seed: int, epoch: int, start: int = 0) -> None:
        self.batch_size, self.epoch, self.start = batch_size, epoch, start
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(make_seed(seed, epoch)))
        self.batches = -(-samples // batch_size)
        turns = range(-(-self.batches * batch_size // samples))
        self.order = torch.cat([order - samples * turn for turn in turns]).tolist()

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Position]]:
        for batch in range(self.start, self.batches):
            first = batch * self.batch_size
            yield [(self.epoch, number) for number in self.order[first : first + self.batch_size]]
