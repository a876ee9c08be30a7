"""The data of a run: training batches from any step on, and validation images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch.utils.data import DataLoader

from fullconv.data.dataset import DataSet
from fullconv.data.statistics import choose_crop
from fullconv.net.fcn.network import FCN
from fullconv.training.augment import GREY, make_augmentation
from fullconv.training.crops.rare import CopyPaste, RareClasses
from fullconv.training.distill.unlabelled import MixedOrder, MixedSamples, UnlabelledSamples, count_unlabelled
from fullconv.training.frozen_features import FeatureCache, calibrate
from fullconv.training.plan import best_device
from fullconv.training.recipe import Recipe
from fullconv.training.samples import BatchOrder, SegmentationDataset
from fullconv.training.task import Batch

__all__ = ["DataModule"]


class DataModule:
    """Training batches from any step on, and validation images one by one.

    Crops are padded with `fill`, one byte per channel. `rare` is for the recipe's `rare_crops` and `copy_paste`.
    """

    def __init__(
        self, dataset: DataSet, recipe: Recipe, fill: tuple[int, ...] = GREY, rare: RareClasses | None = None
    ) -> None:
        self.recipe, self.fill, self.mixed_in, self.unlabelled = recipe, fill, 0, 0
        self.crop = choose_crop(dataset) if recipe.crop is None else recipe.crop
        augmentation = make_augmentation(recipe, self.crop, fill, rare)
        self.train_samples = SegmentationDataset(dataset, "train", augmentation, recipe.seed)
        if rare is not None and recipe.copy_paste:
            values = (recipe.copy_paste, recipe.scale, recipe.flip)
            augmentation.paste = CopyPaste(self.train_samples.decode, rare, *values)
        self.val_samples = SegmentationDataset(dataset, "val")
        self.train_set: SegmentationDataset | FeatureCache | MixedSamples = self.train_samples
        self.val_set: SegmentationDataset | FeatureCache = self.val_samples

    def mix_in(self, folder: Path) -> None:
        """Replace a share of each batch with crops of the images of `folder`, which have no masks."""
        augmentation = make_augmentation(self.recipe, self.crop, self.fill)
        samples = UnlabelledSamples(self.train_samples.dataset, folder, augmentation, self.recipe.seed)
        self.mixed_in, self.unlabelled = count_unlabelled(self.recipe), len(samples)
        self.train_set = MixedSamples(self.train_samples, samples)

    def encode_with(self, net: FCN, bf16: bool, on_item: Callable[[int, int], None]) -> None:
        """Replace the images with the feature maps of `net`, for FCN-32s-fixed.

        `on_item` receives the number of maps that are done and the number of all maps.
        """
        net.to(best_device())
        calibrate(net, self.train_samples)
        self.train_set = FeatureCache(self.train_samples, net, self.recipe.fixed_views, bf16, on_item)
        self.val_set = FeatureCache(self.val_samples, net, 1, bf16, on_item)

    def steps_per_epoch(self) -> int:
        """Return the number of batches per epoch."""
        return self.order(0).batches

    def order(self, step: int) -> BatchOrder:
        """Return the batches from optimizer step `step` to the end of its epoch."""
        recipe, samples = self.recipe, len(self.train_samples)
        epoch, start = divmod(step, -(-samples // (recipe.batch_size - self.mixed_in)))
        if self.mixed_in:
            sizes = samples, self.unlabelled, self.mixed_in, recipe.batch_size
            return MixedOrder(*sizes, seed=recipe.seed, epoch=epoch, start=start)
        return BatchOrder(samples, recipe.batch_size, seed=recipe.seed, epoch=epoch, start=start)

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield the batches from optimizer step `step` to the end of its epoch."""
        yield from DataLoader(self.train_set, batch_sampler=self.order(step), num_workers=self.recipe.workers)

    def images(self) -> Iterator[Batch]:
        """Yield each validation image once, at its full size, as a batch of one."""
        yield from DataLoader(self.val_set, sampler=[(0, i) for i in range(len(self.val_samples))], batch_size=1)
