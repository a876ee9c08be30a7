"""Data loaders of a run for Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fullconv.data.dataset import DataSet
from fullconv.data.statistics import choose_crop
from fullconv.net.fcn.network import FCN
from fullconv.training.augment import GREY, Augmentation
from fullconv.training.frozen_features import FeatureCache, calibrate
from fullconv.training.plan import best_device
from fullconv.training.recipe import Recipe
from fullconv.training.samples import BatchOrder, SegmentationDataset
from fullconv.training.task import SegmentationTask

__all__ = ["DataModule"]


class DataModule(LightningDataModule):
    """Training batches from any step on, and validation images one by one.

    Crops are padded with `fill`, one byte per channel.
    """

    def __init__(self, dataset: DataSet, recipe: Recipe, fill: tuple[int, ...] = GREY) -> None:
        super().__init__()
        self.recipe = recipe
        self.crop = choose_crop(dataset) if recipe.crop is None else recipe.crop
        augmentation = Augmentation(self.crop, recipe.scale, recipe.flip, recipe.color, fill)
        self.train_samples = SegmentationDataset(dataset, "train", augmentation, recipe.seed)
        self.val_samples = SegmentationDataset(dataset, "val")
        self.train_set: SegmentationDataset | FeatureCache = self.train_samples
        self.val_set: SegmentationDataset | FeatureCache = self.val_samples

    def encode_with(self, net: FCN, bf16: bool, on_item: Callable[[int, int], None]) -> None:
        """Replace the images with the feature maps of `net`, for FCN-32s-fixed.

        `on_item` receives the number of maps that are done and the number of all maps.
        """
        net.to(best_device())
        calibrate(net, self.train_samples)
        self.train_set = FeatureCache(self.train_samples, net, self.recipe.fixed_views, bf16, on_item)
        self.val_set = FeatureCache(self.val_samples, net, 1, bf16, on_item)

    @property
    def task(self) -> SegmentationTask:
        """Return the task that the trainer runs."""
        assert self.trainer is not None
        assert isinstance(self.trainer.lightning_module, SegmentationTask)
        return self.trainer.lightning_module

    def steps_per_epoch(self, world: int = 1) -> int:
        """Return the number of batches per epoch for each of `world` processes."""
        return self.order(0, world=world).batches

    def order(self, step: int, rank: int = 0, world: int = 1) -> BatchOrder:
        """Return the batches from optimizer step `step` to the end of its epoch."""
        recipe, samples = self.recipe, len(self.train_samples)
        first_epoch = BatchOrder(samples, recipe.batch_size, seed=recipe.seed, epoch=0, rank=rank, world=world)
        epoch, start = divmod(step, first_epoch.batches)
        return BatchOrder(
            samples, recipe.batch_size, seed=recipe.seed, epoch=epoch, start=start, rank=rank, world=world
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the remaining batches of the current epoch."""
        assert self.trainer is not None
        order = self.order(self.task.step, self.trainer.global_rank, self.trainer.world_size)
        return self.loader(order)

    def loader(self, order: BatchOrder) -> DataLoader[Any]:
        """Return training batches in this order."""
        return DataLoader(self.train_set, batch_sampler=order, num_workers=self.recipe.workers)

    def val_example(self) -> Any:
        """Return the first validation image as a batch of `val_dataloader`."""
        return next(iter(DataLoader(self.val_set, sampler=[(0, 0)], batch_size=1)))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return each validation image of this process once, at its full size."""
        assert self.trainer is not None
        positions = [(0, i) for i in range(len(self.val_samples))]
        share = positions[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(self.val_set, sampler=share, batch_size=1)
