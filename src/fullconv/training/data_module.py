"""The data of a run: training batches from any step on, and validation images."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fullconv.cores import usable_cores
from fullconv.data.dataset import DataSet
from fullconv.data.statistics import choose_crop
from fullconv.net.fcn.network import FCN
from fullconv.training.augment import GREY, make_augmentation
from fullconv.training.crops.rare import CopyPaste, RareClasses
from fullconv.training.distill.unlabelled import MixedOrder, MixedSamples, UnlabelledSamples, count_unlabelled
from fullconv.training.frozen_features import FeatureCache, calibrate
from fullconv.training.recipe import Recipe
from fullconv.training.samples import BatchOrder, Position, Room, SegmentationDataset
from fullconv.training.task import Batch

__all__ = ["DataModule"]

CPU = torch.device("cpu")

MOST_WORKERS = 8
"""The number of processes that load images for a GPU, at most."""

WORKER_SECONDS = 60
"""The time after SIGTERM in which the training saves; then the processes that load images end, too."""


class DataModule:
    """Training batches from any step on, and validation images one by one, for process `rank` of `processes`.

    Crops are padded with `fill`, one byte per channel. `rare` is for the recipe's `rare_crops` and `copy_paste`.
    Loading suits `device`: a GPU gets worker processes and pinned memory.
    """

    def __init__(
        self,
        dataset: DataSet,
        recipe: Recipe,
        fill: tuple[int, ...] = GREY,
        rare: RareClasses | None = None,
        *,
        device: torch.device = CPU,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.recipe, self.device, self.rank, self.processes = recipe, device, rank, processes
        self.fill, self.mixed_in, self.unlabelled = fill, 0, 0
        local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        spare = min(MOST_WORKERS, usable_cores() // local) if device.type == "cuda" else 0
        self.workers = spare if recipe.workers is None else recipe.workers
        self.crop = choose_crop(dataset) if recipe.crop is None else recipe.crop
        augmentation = make_augmentation(recipe, self.crop, fill, rare)
        room = Room(max(1, 2 * self.workers) * local)  # those of a validation run next to those of the training
        self.train_samples = SegmentationDataset(dataset, "train", augmentation, recipe.seed, room)
        if rare is not None and recipe.copy_paste:
            values = (recipe.copy_paste, recipe.scale, recipe.flip)
            augmentation.paste = CopyPaste(self.train_samples.decode, rare, *values)
        self.val_samples = SegmentationDataset(dataset, "val", room=room)
        self.loaded = [self.train_samples, self.val_samples]
        self.train_set: SegmentationDataset | FeatureCache | MixedSamples = self.train_samples
        self.val_set: SegmentationDataset | FeatureCache = self.val_samples

    def mix_in(self, folder: Path) -> None:
        """Replace a share of each batch with crops of the images of `folder`, which have no masks."""
        augmentation = make_augmentation(self.recipe, self.crop, self.fill)
        labelled = self.train_samples
        samples = UnlabelledSamples(labelled.dataset, folder, augmentation, self.recipe.seed, labelled.room)
        samples.check()
        self.mixed_in, self.unlabelled = count_unlabelled(self.recipe), len(samples)
        self.loaded.append(samples)
        self.train_set = MixedSamples(labelled, samples)

    @property
    def decoding(self) -> float:
        """Return the seconds that were spent on decoding images that stay in memory."""
        return sum(samples.decoding for samples in self.loaded)

    def decoding_left(self) -> float:
        """Return the estimated seconds of decoding the other images that will stay in memory."""
        return sum(samples.decoding_left() for samples in self.loaded)

    def encode_with(self, net: FCN, bf16: bool, on_item: Callable[[int, int], None]) -> None:
        """Replace the images with the feature maps of `net`, for FCN-32s-fixed.

        `on_item` receives the number of maps that are done and the number of all maps.
        """
        net.to(self.device)
        calibrate(net, self.train_samples)
        self.train_set = FeatureCache(self.train_samples, net, self.recipe.fixed_views, bf16, on_item)
        self.val_set = FeatureCache(self.val_samples, net, 1, bf16, on_item)

    def steps_per_epoch(self) -> int:
        """Return the number of batches per epoch."""
        return self.order(0).batches

    def order(self, step: int) -> BatchOrder:
        """Return the whole batches from optimizer step `step` to the end of its epoch."""
        recipe, samples = self.recipe, len(self.train_samples)
        epoch, start = divmod(step, -(-samples // (recipe.batch_size - self.mixed_in)))
        if self.mixed_in:
            sizes = samples, self.unlabelled, self.mixed_in, recipe.batch_size
            return MixedOrder(*sizes, seed=recipe.seed, epoch=epoch, start=start)
        return BatchOrder(samples, recipe.batch_size, seed=recipe.seed, epoch=epoch, start=start)

    def batches(self, step: int, end: int) -> Iterator[Batch]:
        """Yield this process's share of each batch, from optimizer step `step` to the one before `end`."""
        yield from self._loader(self.train_set, batch_sampler=self._shares(step, end))

    def images(self) -> Iterator[Batch]:
        """Yield each validation image of this process once, at its full size, as a batch of one."""
        share = [(0, index) for index in range(self.rank, len(self.val_samples), self.processes)]
        yield from self._loader(self.val_set, sampler=share, batch_size=1)

    def first_image(self) -> Batch:
        """Return the first validation image as a batch of one."""
        batch: Batch = next(iter(self._loader(self.val_set, sampler=[(0, 0)], batch_size=1)))
        return batch

    def _shares(self, step: int, end: int) -> Iterator[list[Position]]:
        """Yield the positions of this process's share of each batch; shares differ by one sample at most."""
        while step < end:
            for batch in islice(self.order(step), end - step):
                first, last = (len(batch) * rank // self.processes for rank in (self.rank, self.rank + 1))
                yield batch[first:last]
                step += 1

    def _loader(self, samples: Dataset[Any], **order: Any) -> DataLoader[Any]:
        pinned = self.device.type == "cuda"
        return DataLoader(samples, num_workers=self.workers, pin_memory=pinned, worker_init_fn=_outlive_signal, **order)


def _outlive_signal(worker: int) -> None:
    """Let the training decide when this process ends, because Ctrl-C and schedulers send signals to all processes.

    Without it, the training would fail instead of saving. It ends the process when it has saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":  # where nothing sends the others
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(WORKER_SECONDS))
