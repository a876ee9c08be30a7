"""Paired transforms of an image and its label map, for training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from fullconv.data.statistics import SPARSE
from fullconv.labels import IGNORE_INDEX
from fullconv.training.crops.camera import CAMERA, make_camera
from fullconv.training.crops.rare import CopyPaste, RareClasses, choose_rare_pixel
from fullconv.training.recipe import Recipe

__all__ = ["GREY", "Augmentation", "BandJitter", "LabelledCrop", "RandomScale", "RareCrop", "make_augmentation"]

GREY = (124, 116, 104)
"""The mean colour of ImageNet as RGB bytes."""

EXACT = v2.InterpolationMode.NEAREST_EXACT


class RandomScale(v2.Transform):  # type: ignore[misc]
    """A random resize of both by one factor, log-uniform in `scale`: bilinear for images, nearest for label maps."""

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__()
        self.scale = scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Return one random size for image and label map."""
        low, high = (math.log(bound) for bound in self.scale)
        factor = math.exp(low + (high - low) * torch.rand(()).item())
        height, width = v2.query_size(flat_inputs)
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize an image or a label map."""
        if isinstance(inpt, tv_tensors.Mask):  # torchvision's default for masks shifts them by half a pixel
            values = v2.functional.resize(inpt.as_subclass(Tensor)[None], params["size"], EXACT)[0]
            return tv_tensors.wrap(values, like=inpt)
        return self._call_kernel(v2.functional.resize, inpt, params["size"])


class LabelledCrop(v2.RandomCrop):  # type: ignore[misc]
    """A random crop that shows labels.

    It is the crop of `RandomCrop`, unless this has no labelled pixel, or fewer than `SPARSE` of the pixels of the label
    map are labelled. Then it is a random crop around a random labelled pixel. Ignored pixels are not labelled.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Return the position of the crop, the same for image and label map."""
        params: dict[str, Any] = super().make_params(flat_inputs)
        mask = next(entry for entry in flat_inputs if isinstance(entry, tv_tensors.Mask))
        labelled = mask.as_subclass(Tensor) != IGNORE_INDEX
        padding, crop = params["padding"], (params["height"], params["width"])
        starts = params["top"] - padding[1], params["left"] - padding[0]
        rows, columns = (slice(max(0, start), start + side) for start, side in zip(starts, crop, strict=True))
        if labelled.count_nonzero() >= SPARSE * labelled.numel() and labelled[rows, columns].any():
            return params
        places = labelled.nonzero()
        if len(places):
            place = places[torch.randint(len(places), ())].tolist()
            for name, position, before, side, length in zip(
                ("top", "left"), place, (padding[1], padding[0]), crop, labelled.shape, strict=True
            ):
                first, last = max(0, position + before - side + 1), min(position + before, length + 2 * before - side)
                params[name] = first + int(torch.randint(last - first + 1, ()))
        return params


class RareCrop(LabelledCrop):
    """With the probability `share`, a crop whose centre is on a pixel of a rare class, as near as the border allows.

    Otherwise, and if the image has no rare class, it is the crop of `LabelledCrop`.
    """

    def __init__(self, side: int, share: float, rare: RareClasses, **options: Any) -> None:
        super().__init__(side, **options)
        self.share, self.rare = share, rare

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Return the position of the crop, the same for image and label map."""
        params = super().make_params(flat_inputs)
        if torch.rand(()).item() >= self.share:
            return params
        mask = next(entry for entry in flat_inputs if isinstance(entry, tv_tensors.Mask)).as_subclass(Tensor)
        pixel = choose_rare_pixel(mask, self.rare)
        if pixel is not None:
            padding, crop = (params["padding"][1], params["padding"][0]), (params["height"], params["width"])
            for name, position, before, side, length in zip(
                ("top", "left"), pixel, padding, crop, mask.shape, strict=True
            ):
                params[name] = min(max(0, position + before - side // 2), length + 2 * before - side)
        return params


class BandJitter(v2.Transform):  # type: ignore[misc]
    """Random brightness and contrast for any number of channels: c * (b * x) + (1 - c) * the channel's mean of b * x.

    All channels get the same b and the same c, both from 1 - strength to 1 + strength, so ratios of channels stay
    meaningful.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Return a random pair of factors."""
        low = max(0.0, 1 - self.strength)
        brightness, contrast = (low + (1 + self.strength - low) * torch.rand(2)).tolist()
        return {"brightness": brightness, "contrast": contrast}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image; return a label map as it is."""
        if isinstance(inpt, tv_tensors.Mask):
            return inpt
        lit = inpt.as_subclass(Tensor).float() * params["brightness"]
        mean = lit.mean((-2, -1), keepdim=True)
        changed = (lit - mean) * params["contrast"] + mean
        return tv_tensors.wrap(changed.round().clamp(0, 255).to(torch.uint8), like=inpt)


class Augmentation:
    """Random scale, crop, flip and colour of an image and its label map. Crops show labels (`LabelledCrop`).

    A call takes uint8 C x H x W and H x W. It returns uint8 C x crop x crop and crop x crop, or the whole pair if
    `crop` is 0. Padding is `fill` in the image, one byte per channel, and 255 in the label map. The saturation changes
    in RGB images only. All random numbers come from the seed of the call, so a sample does not depend on earlier ones.

    `camera` are strengths of `crops.camera` by name. With `rare`, a share `rare_crops` of the crops are `RareCrop`s.
    `paste` can be set to a `CopyPaste`, which changes the pair before its colours change.
    """

    def __init__(
        self,
        crop: int,
        scale: tuple[float, float],
        flip: float,
        color: float,
        fill: tuple[int, ...] = GREY,
        *,
        camera: Mapping[str, float] | None = None,
        rare: RareClasses | None = None,
        rare_crops: float = 0.0,
    ) -> None:
        padding = {tv_tensors.Image: fill, tv_tensors.Mask: IGNORE_INDEX}
        steps: list[v2.Transform] = [RandomScale(scale), v2.RandomHorizontalFlip(flip)]
        if crop and rare is not None and rare_crops:
            steps.insert(1, RareCrop(crop, rare_crops, rare, pad_if_needed=True, fill=padding))
        elif crop:
            steps.insert(1, LabelledCrop(crop, pad_if_needed=True, fill=padding))
        self.geometry = v2.Compose(steps)
        colors = make_camera(camera or {}, len(fill))
        if color > 0 and len(fill) != 3:
            colors.insert(0, BandJitter(color))
        elif color > 0:
            colors.insert(0, v2.ColorJitter(brightness=color, contrast=color, saturation=color))
        self.colors = v2.Compose(colors) if colors else None
        self.paste: CopyPaste | None = None

    def __call__(self, image: Tensor, target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the augmented pair; equal seeds give equal pairs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            output, mask = self.geometry(tv_tensors.Image(image), tv_tensors.Mask(target))
            if self.paste is not None:
                pasted = self.paste(output.as_subclass(Tensor), mask.as_subclass(Tensor))
                output, mask = tv_tensors.Image(pasted[0]), tv_tensors.Mask(pasted[1])
            if self.colors is not None:
                output, mask = self.colors(output, mask)
        return output.as_subclass(Tensor), mask.as_subclass(Tensor)


def make_augmentation(
    recipe: Recipe, crop: int, fill: tuple[int, ...] = GREY, rare: RareClasses | None = None
) -> Augmentation:
    """Return the augmentation of a recipe for crops of this side, without `paste`."""
    camera = {name: float(getattr(recipe, name)) for name in CAMERA}
    return Augmentation(
        crop, recipe.scale, recipe.flip, recipe.color, fill, camera=camera, rare=rare, rare_crops=recipe.rare_crops
    )
