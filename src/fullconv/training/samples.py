"""Samples for torch: decoded once, augmented with a seed per sample, in an order that can be resumed anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fullconv.data.dataset import DataSet, Sample
from fullconv.errors import DataError
from fullconv.training.augment import Augmentation

__all__ = ["BatchOrder", "Item", "Position", "SegmentationDataset", "seed_of"]

Position = tuple[int, int]
"""(epoch, index of the sample)."""

Item = tuple[Tensor, Tensor, str]
"""uint8 C x H x W image, uint8 H x W label map, name."""


def seed_of(*parts: int) -> int:
    """A seed of 63 bits that depends on all parts."""
    digest = blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class SegmentationDataset(Dataset[Item]):
    """Images with label maps; decoded samples stay in memory while they fit into half of what is free.

    An item is asked for by `Position`, and is augmented with a seed made of `seed`, epoch and index.
    """

    def __init__(self, dataset: DataSet, split: str, augmentation: Augmentation | None = None, seed: int = 0) -> None:
        self.dataset, self.augmentation, self.seed = dataset, augmentation, seed
        self.samples: tuple[Sample, ...] = dataset.split(split)
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}
        self._room = _free_memory() // 2

    def __len__(self) -> int:
        return len(self.samples)

    def decoded(self, index: int) -> tuple[Tensor, Tensor]:
        """The pair as it lies on the disk: uint8 C x H x W and H x W."""
        if index in self._cache:
            return self._cache[index]
        try:
            image, target = self.dataset.read(self.samples[index])
        except DataError as error:
            raise DataError(f"{error}\nfullconv check {self.dataset.root} finds all such files at once") from error
        pair = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(target)
        size = pair[0].nbytes + pair[1].nbytes
        if size <= self._room:
            self._room -= size
            self._cache[index] = pair
        return pair

    def __getitem__(self, position: Position) -> Item:
        epoch, index = position
        image, target = self.decoded(index)
        if self.augmentation is not None:
            image, target = self.augmentation(image, target, seed_of(self.seed, epoch, index))
        return image, target, self.samples[index].name


class BatchOrder(Sampler[list[Position]]):
    """The batches of one epoch for one of `world` processes, from batch `start` on.

    The order is a permutation that depends on seed and epoch alone; the last batch is filled up from the
    epoch's beginning, so that all batches have one size.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.batch_size, self.epoch, self.start, self.rank, self.world = batch_size, epoch, start, rank, world
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed_of(seed, epoch)))
        self.batches = -(-samples // (batch_size * world))
        self.order = order.repeat(-(-self.batches * batch_size * world // samples)).tolist()

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Position]]:
        for batch in range(self.start, self.batches):
            first = (batch * self.world + self.rank) * self.batch_size
            yield [(self.epoch, index) for index in self.order[first : first + self.batch_size]]


def _free_memory() -> int:
    """Bytes of memory that are free now, 4 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 4 << 30
