"""GeoTIFFs, a runner with asymmetric windows, and installations without optional packages, for tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.transform import Affine

from fullconv.arrays import Float32, UInt8
from fullconv.geometry.tiles import Window
from fullconv.images.decoders import available
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.runtime.runner import largest

LABELS = LabelSet.named(["red", "green", "blue"])
TRANSFORM = Affine(0.25, 0, 500000, 0, -0.25, 4649000)


class Shifted:
    """A runner whose scores are red three rows above, green five rows below and blue four columns to the right."""

    info = ModelInfo(LABELS, (Window(3, 5), Window(0, 4)), exact=True)

    def __init__(self) -> None:
        self.calls = 0

    def logits(self, images: UInt8) -> Float32:
        self.calls += 1
        height, width = images.shape[1:3]
        padded = np.pad(images.astype(np.float32), ((0, 0), (3, 5), (0, 4), (0, 0)))
        red, green = padded[:, :height, :width, 0], padded[:, 8:, :width, 1]
        return np.stack([red, green, padded[:, 3 : 3 + height, 4:, 2]], 1)

    def label_maps(self, images: UInt8) -> UInt8:
        return largest(self.logits(images))


def picture(height: int, width: int, bands: int = 3, dtype: str = "uint8", seed: int = 0) -> npt.NDArray[np.generic]:
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    numbers = np.random.default_rng(seed).random((height, width, bands)) * top
    return numbers.astype(dtype)


def geotiff(path: Path, pixels: npt.NDArray[np.generic], **options: object) -> Path:
    profile = {"tiled": True, "blockxsize": 32, "blockysize": 16, "crs": "EPSG:32633", "transform": TRANSFORM} | options
    height, width, count = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype, **profile
    ) as target:
        target.write(np.moveaxis(pixels, -1, 0))
    return path


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make these packages appear not installed to all code that reads and writes images."""
    monkeypatch.setattr(available, "find_spec", lambda name: None if name in names else find_spec(name))


@pytest.fixture(params=["rasterio", "tifffile"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with rasterio, and as if rasterio were not installed."""
    hide(monkeypatch, "" if request.param == "rasterio" else "rasterio")
    return str(request.param)
