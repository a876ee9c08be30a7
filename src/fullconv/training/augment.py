"""Paired transforms of an image and its label map, for training."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from fullconv.data.statistics import SPARSE
from fullconv.labels import IGNORE_INDEX

__all__ = ["GREY", "Augmentation", "BandJitter", "LabelledCrop", "RandomScale"]

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
    """

    def __init__(
        self, crop: int, scale: tuple[float, float], flip: float, color: float, fill: tuple[int, ...] = GREY
    ) -> None:
        padding = {tv_tensors.Image: fill, tv_tensors.Mask: IGNORE_INDEX}
        steps: list[v2.Transform] = [RandomScale(scale), v2.RandomHorizontalFlip(flip)]
        if crop:
            steps.insert(1, LabelledCrop(crop, pad_if_needed=True, fill=padding))
        if color > 0 and len(fill) != 3:
            steps.append(BandJitter(color))
        elif color > 0:
            steps.append(v2.ColorJitter(brightness=color, contrast=color, saturation=color))
        self.pipeline = v2.Compose(steps)

    def __call__(self, image: Tensor, target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the augmented pair; equal seeds give equal pairs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            output, mask = self.pipeline(tv_tensors.Image(image), tv_tensors.Mask(target))
        return output.as_subclass(Tensor), mask.as_subclass(Tensor)
