"""Images that are not RGB are read as the same arrays after convert."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from PIL import Image

from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.data.writers.write import LAYOUTS, convert
from fullconv.images import write_label_map
from fullconv.labels import LabelSet

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")

LABELS = LabelSet.named(["ground", "water"])
Numbers = npt.NDArray[np.generic]

# The suffix, the channels and the type of the files, and what dataset.yaml says of them.
KINDS = {
    "grey": (".png", 1, np.uint8, "channels: 1\n"),
    "grey read as RGB": (".png", 1, np.uint8, ""),
    "alpha as a channel": (".png", 4, np.uint8, "channels: 4\n"),
    "RGB of a TIFF of four": (".tif", 4, np.uint8, "channels: 3\n"),
    "four of 16 bits": (".tif", 4, np.uint16, "range: [100, 5000]\n"),
    "one of 16 bits": (".tif", 1, np.uint16, "channels: 1\nrange: [0, 999.5]\n"),
    "six of an array": (".npy", 6, np.float32, "range: [-1.0, 3000]\n"),
    "one of an array": (".npy", 1, np.uint8, "channels: 1\n"),
}


def save(path: Path, image: Numbers) -> None:
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".png":
        Image.fromarray(image.squeeze()).save(path)
    else:
        height, width, count = image.shape
        colours = {"photometric": "RGB"} if count > 3 else {}
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=count, dtype=image.dtype, **colours
        ) as file:
            file.write(np.moveaxis(image, -1, 0))


def make_dataset(root: Path, kind: str) -> DataSet:
    suffix, channels, dtype, description = KINDS[kind]
    for seed, split in enumerate(("train", "train", "val")):
        random = np.random.default_rng(seed)
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 255 if dtype == np.uint8 else 9999, (9, 40, channels)).astype(dtype)
        save(root / "images" / split / f"{seed}{suffix}", image)
        write_label_map(root / "masks" / split / f"{seed}.png", random.integers(0, 2, (9, 40), np.uint8), LABELS)
    (root / "dataset.yaml").write_text("names: [ground, water]\n" + description)
    return find_dataset(root)


@pytest.mark.parametrize("to", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_all_kinds_are_read_unchanged_after_convert(tmp_path: Path, kind: str, to: str) -> None:
    dataset = make_dataset(tmp_path / "in", kind)
    convert(dataset, tmp_path / "out", to)
    converted = find_dataset(tmp_path / "out")
    assert (converted.channels, converted.value_range) == (dataset.channels, dataset.value_range)
    for split in ("train", "val"):
        for sample, copy in zip(dataset.split(split), converted.split(split), strict=True):
            assert sample.name == copy.name
            for one, other in zip(dataset.read(sample), converted.read(copy), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("to", LAYOUTS)
def test_dataset_yaml_is_written_only_if_images_need_it(tmp_path: Path, to: str) -> None:
    convert(make_dataset(tmp_path / "in", "grey read as RGB"), tmp_path / "out", to)
    described = tmp_path / "out" / "dataset.yaml"
    assert described.is_file() == (to == "folder")
    assert to != "folder" or "channels" not in described.read_text()


def test_an_image_is_preferred_to_an_array_with_its_stem(tmp_path: Path) -> None:
    convert(make_dataset(tmp_path / "in", "grey"), tmp_path / "voc", "voc")
    convert(make_dataset(tmp_path / "in", "grey"), tmp_path / "labelme", "labelme")
    for path in [*tmp_path.glob("voc/JPEGImages/*.png"), *tmp_path.glob("labelme/train/*.png")]:
        np.save(path.with_suffix(".npy"), np.zeros((9, 40, 6)))
        path.rename(path.with_suffix(".webp"))  # after .npy in the alphabet; recognised by content
    for root in (tmp_path / "voc", tmp_path / "labelme"):
        assert {sample.image.suffix for sample in find_dataset(root).split("train")} == {".webp"}
