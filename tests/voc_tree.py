"""Small folders of VOC and SBD for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from fullconv.data.formats.voc import paper_val
from fullconv.data.layouts import find_dataset
from fullconv.labels import voc_palette

VOC = Path("TrainVal/VOCdevkit/VOC2011")
VOC_TRAIN = ("2007_000032", "2008_000008")
SBD_TRAIN = ("2008_000002", "2008_000003", "2008_000007", "2009_000001", "2010_000002")
SBD_VAL = ("2008_000009", "2007_000033")
SIZE = (32, 40)


def label_map(number: int) -> np.ndarray:
    """Return a square of class 1..20 on background, inside the void border that VOC draws around objects."""
    target = np.zeros(SIZE, np.uint8)
    target[6:26, 8:28] = 255
    target[8:24, 10:26] = 1 + number % 20
    return target


def put_image(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.asarray([*voc_palette(21), *[(90, 90, 90)] * 235], np.uint8)
    Image.fromarray(colors[label_map(number)]).save(path)


def put_mat(path: Path, target: np.ndarray) -> None:
    """Write a file of SBD's `cls`: a struct of boundaries (a cell of 20 sparse maps), segmentation and categories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix(target == index + 1).astype(float)
    present = np.unique(target[target > 0])[:, None]
    fields = {"Boundaries": boundaries, "Segmentation": target, "CategoriesPresent": present}
    savemat(path, {"GTcls": fields}, do_compression=True)


def put_voc(home: Path, stems: tuple[str, ...]) -> None:
    """Write JPEGs, palette PNGs and VOC's lists: `VOC_TRAIN` for train, the first three others for val."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (home / folder).mkdir(parents=True)
    contents = []
    for number in range(4):
        put_image(home / f"{number}.jpg", number)
        mask = Image.fromarray(label_map(number))
        mask.putpalette(np.asarray([*voc_palette(21), *[(224, 224, 192)] * 235], np.uint8).tobytes())
        mask.save(home / f"{number}.png")
        files = home / f"{number}.jpg", home / f"{number}.png"
        contents.append([path.read_bytes() for path in files])
        for path in files:
            path.unlink()
    for index, stem in enumerate(stems):
        image, mask_bytes = contents[index % 4]
        (home / "JPEGImages" / f"{stem}.jpg").write_bytes(image)
        (home / "SegmentationClass" / f"{stem}.png").write_bytes(mask_bytes)
    others = [stem for stem in stems if stem not in VOC_TRAIN]
    (home / "ImageSets/Segmentation/train.txt").write_text("\n".join(VOC_TRAIN) + "\n")
    (home / "ImageSets/Segmentation/val.txt").write_text("\n".join(others[:3]) + "\n")


def put_sbd(release: Path) -> None:
    dataset = release / "dataset"
    for number, stem in enumerate((*SBD_TRAIN, *SBD_VAL)):
        put_image(dataset / "img" / f"{stem}.jpg", number)
        target = label_map(number)
        put_mat(dataset / "cls" / f"{stem}.mat", np.where(target == 255, 0, target).astype(np.uint8))
    (dataset / "train.txt").write_text("\n".join(SBD_TRAIN) + "\n")
    (dataset / "val.txt").write_text("\n".join(SBD_VAL) + "\n")


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC2011 with the paper's 736 ids and others, and SBD next to it, as the archives unpack. Do not change it."""
    root = tmp_path_factory.mktemp("pascal")
    put_voc(root / VOC, (*VOC_TRAIN, *paper_val()))
    put_sbd(root / "benchmark_RELEASE")
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """VOC with five of the paper's ids, and SBD next to it."""
    put_voc(tmp_path / VOC, (*VOC_TRAIN, *paper_val()[:5]))
    put_sbd(tmp_path / "benchmark_RELEASE")
    return tmp_path


def names(root: Path, split: str) -> tuple[str, ...]:
    return tuple(sample.name for sample in find_dataset(root).split(split))
