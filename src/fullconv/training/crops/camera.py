"""What cameras and files do to an image: colour casts, exposure, grey, blur, noise, JPEG. Label maps do not change."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms import v2

__all__ = ["CAMERA", "RandomBlur", "RandomGamma", "RandomGrey", "RandomHue", "RandomJpeg", "RandomNoise", "make_camera"]

LUMA = (0.299, 0.587, 0.114)
"""The shares of red, green and blue in grey (ITU-R BT.601)."""

HALF = 0.5
"""The probability of blur, noise and JPEG, so that half of the crops stay sharp."""


class _OnImages(v2.Transform):  # type: ignore[misc]
    """A transform of uint8 C x H x W images. `draw` makes the random numbers; None leaves the image as it is."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Return the random number of one call."""
        return {"value": self.draw()}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image; return a label map as it is."""
        if isinstance(inpt, tv_tensors.Mask) or params["value"] is None:
            return inpt
        return tv_tensors.wrap(self.change(inpt.as_subclass(Tensor), params["value"]), like=inpt)

    def draw(self) -> float | None:
        raise NotImplementedError

    def change(self, image: Tensor, value: float) -> Tensor:
        raise NotImplementedError


class RandomGamma(_OnImages):
    """Random exposure of all channels: 255 (x / 255) ** g, log-uniform from g = 1 / (1 + strength) to 1 + strength."""

    def draw(self) -> float:
        """Return the exponent."""
        return math.exp(math.log1p(self.strength) * _uniform(-1, 1))

    def change(self, image: Tensor, value: float) -> Tensor:
        """Apply the curve by a table of 256 bytes."""
        table = (255 * torch.linspace(0, 1, 256) ** value).round().to(torch.uint8)
        return table[image.int()]


class RandomHue(_OnImages):
    """A random cast of colour: a turn of the colours about the grey axis by up to `strength` of a full turn.

    The turn is linear in YIQ (BT.601), so it keeps the brightness and costs one 3 x 3 product a pixel.
    """

    def draw(self) -> float:
        """Return the angle in turns."""
        return self.strength * _uniform(-1, 1)

    def change(self, image: Tensor, value: float) -> Tensor:
        """Turn the colours of an RGB image."""
        to_yiq = torch.tensor([LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
        cos, sin = math.cos(2 * math.pi * value), math.sin(2 * math.pi * value)
        turn = torch.tensor([(1.0, 0, 0), (0, cos, -sin), (0, sin, cos)])
        matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
        return _to_bytes((matrix @ image.float().flatten(1)).view(image.shape))


class RandomGrey(_OnImages):
    """An RGB image becomes grey with the probability `strength`."""

    def draw(self) -> float | None:
        """Return a number for a grey image, else None."""
        return 1.0 if _uniform(0, 1) < self.strength else None

    def change(self, image: Tensor, value: float) -> Tensor:
        """Return the grey image with three equal channels."""
        grey = (image.float() * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
        return _to_bytes(grey).expand_as(image).contiguous()


class RandomBlur(_OnImages):
    """Every second image becomes blurred: a Gaussian with a standard deviation of up to `strength` pixels."""

    def draw(self) -> float | None:
        """Return the standard deviation, or None."""
        blurs, sigma = _uniform(0, 1) < HALF, self.strength * _uniform(0, 1)
        return sigma if blurs and sigma > 0.1 else None  # less changes no byte

    def change(self, image: Tensor, value: float) -> Tensor:
        """Blur rows, then columns; the border is repeated."""
        radius = max(1, math.ceil(3 * value))
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / value) ** 2)
        kernel /= kernel.sum()
        pixels = functional.pad(image.float()[:, None], (radius, radius, 0, 0), "replicate")
        pixels = functional.conv2d(pixels, kernel.view(1, 1, 1, -1))
        pixels = functional.pad(pixels, (0, 0, radius, radius), "replicate")
        pixels = functional.conv2d(pixels, kernel.view(1, 1, -1, 1))
        return _to_bytes(pixels[:, 0])


class RandomNoise(_OnImages):
    """Every second image becomes noisy: Gaussian, of each channel, with a deviation of up to `strength` grey levels."""

    def draw(self) -> float | None:
        """Return the standard deviation, or None."""
        noisy, sigma = _uniform(0, 1) < HALF, self.strength * _uniform(0, 1)
        return sigma if noisy and sigma > 0 else None

    def change(self, image: Tensor, value: float) -> Tensor:
        """Add the noise."""
        return _to_bytes(image.float() + value * torch.randn(image.shape))


class RandomJpeg(_OnImages):
    """Every second grey or RGB image is compressed as JPEG, with a quality of at least 100 - 90 * `strength`."""

    def draw(self) -> float | None:
        """Return the quality, or None."""
        damaged, quality = _uniform(0, 1) < HALF, 100 - 90 * self.strength * _uniform(0, 1)
        return quality if damaged else None

    def change(self, image: Tensor, value: float) -> Tensor:
        """Compress and decode the image."""
        pixels, file = image.permute(1, 2, 0).contiguous().numpy(), io.BytesIO()
        Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels).save(file, "JPEG", quality=round(value))
        with Image.open(file) as decoded:
            values = torch.from_numpy(np.array(decoded))
        return values.view(*image.shape[1:], -1).permute(2, 0, 1).contiguous()


CAMERA: dict[str, tuple[type[_OnImages], tuple[int, ...]]] = {
    "hue": (RandomHue, (3,)),
    "gamma": (RandomGamma, ()),
    "grey": (RandomGrey, (3,)),
    "blur": (RandomBlur, ()),
    "noise": (RandomNoise, ()),
    "jpeg": (RandomJpeg, (1, 3)),
}
"""The transforms in the order of a camera, by the name of their value in the recipe, with the channels that they take.

No channels means any number.
"""


def make_camera(strengths: Mapping[str, float], channels: int) -> list[v2.Transform]:
    """Return the transforms for images of `channels` whose strength is not 0; what does not apply is left out."""
    return [
        kind(strengths[name])
        for name, (kind, takes) in CAMERA.items()
        if strengths.get(name) and (not takes or channels in takes)
    ]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _to_bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)
