"""PASCAL VOC and SBD on the disk, and the 736 images that the paper validates on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fullconv.data.classes import VOC_LABELS
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.pairing import check_sizes, list_by_stem, normalize_stem
from fullconv.faults import Fault
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX

__all__ = ["PAPER_SPLIT", "Found", "find_voc", "is_paper_val", "paper_val", "read_voc"]

PAPER_SPLIT = "val736"
"""The name of the paper's validation images where VOC's own lists are `train` and `val`."""

_DEVKITS = (Path(), Path("VOCdevkit"), Path("TrainVal/VOCdevkit"))


@dataclass(frozen=True)
class Found:
    """What lies in `root`: a year of VOC, the release of SBD, or both."""

    root: Path
    voc: Path | None
    sbd: Path | None

    @property
    def name(self) -> str:
        """The layout, for people."""
        if self.voc is None:
            return "SBD"
        return "VOC with SBD" if self.sbd else "VOC"


def paper_val() -> tuple[str, ...]:
    """The ids of the 736 images of VOC2011's segmentation val that are not in SBD's train list, ascending.

    Source: `data/pascal/seg11valid.txt` of the code of Long, Shelhamer, Darrell, "Fully Convolutional Networks for
    Semantic Segmentation", CVPR 2015.
    """
    lines = Path(__file__).with_name("voc2011_val736.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def is_paper_val(dataset: DataSet) -> bool:
    """Whether a score on `val` stands beside the paper's: its 736 images, and VOC's classes in VOC's order."""
    names = sorted(sample.name for sample in dataset.splits.get("val", ()))
    return dataset.labels.class_names == VOC_LABELS.class_names and names == list(paper_val())


def find_voc(root: Path) -> Found | None:
    """Look for VOC and SBD in `root`, at the places where their archives unpack; None where neither is.

    `root` itself may be a year of VOC or SBD's benchmark_RELEASE. Of several years the newest is taken, and with SBD
    VOC2011, the paper's. Nothing outside `root` is looked at: naming VOC's own folder leaves SBD out.
    """
    devkits = [root / devkit for devkit in _DEVKITS]
    years = [year for devkit in devkits for year in devkit.glob("VOC[12][0-9][0-9][0-9]")]
    homes = [home for home in (root, *years) if (home / "JPEGImages").is_dir()]
    releases = [root, *(folder / "benchmark_RELEASE" for folder in (*devkits, *homes))]
    sbd = next((release for release in releases if (release / "dataset" / "cls").is_dir()), None)
    if not homes:
        return Found(root, None, sbd) if sbd else None
    voc = max(homes, key=lambda home: (home == root, sbd is not None and home.name == "VOC2011", home.name))
    return Found(root, voc, sbd)


def read_voc(found: Found, faults: list[Fault]) -> DataSet:
    """The data set that `find_voc` found.

    - VOC and SBD are the paper's data: `train` is SBD's train list (8,498 images in the release) with SBD's masks,
      `val` the 736 images of `paper_val` with VOC's masks.
    - VOC alone: its own `train` and `val`, and `val736`. If that cannot be used, only asking for it is an error.
    - SBD alone: its own `train` and `val`.

    All faults are added to the list; their samples are left out.
    """
    if found.voc is None:
        assert found.sbd is not None
        return _sbd_alone(found.root, found.sbd, faults)
    return _paper(found.root, found.voc, found.sbd, faults) if found.sbd else _voc_alone(found.voc, faults)


@dataclass(frozen=True)
class _Store:
    """The images and masks of two folders by stem."""

    folders: tuple[Path, Path]
    images: dict[str, Path]
    masks: dict[str, Path]

    def absent(self, stem: str) -> str:
        """The folders that lack a stem, in words; a folder with no file at all is told once, not here."""
        both = zip(self.folders, (self.images, self.masks), strict=True)
        return " or ".join(folder.name for folder, files in both if files and stem not in files)

    def samples(self, stems: Iterable[str]) -> list[Sample]:
        """Those of the stems that have an image and a mask."""
        there = self.images.keys() & self.masks.keys()
        return [Sample(stem, self.images[stem], self.masks[stem]) for stem in stems if stem in there]


def _voc_store(home: Path, faults: list[Fault]) -> _Store:
    folders = home / "JPEGImages", home / "SegmentationClass"
    return _Store(folders, list_by_stem(folders[0], faults), list_by_stem(folders[1], faults))


def _sbd_store(release: Path, faults: list[Fault]) -> _Store:
    folders = release / "dataset" / "img", release / "dataset" / "cls"
    return _Store(folders, list_by_stem(folders[0], faults), list_by_stem(folders[1], faults, {MASK_SUFFIX}))


def _paper(root: Path, voc: Path, sbd: Path, faults: list[Fault]) -> DataSet:
    train = _listed(sbd / "dataset" / "train.txt", _sbd_store(sbd, faults), faults)
    val = _paper_samples(_voc_store(voc, faults), train, faults)
    about = (
        f"train is SBD's train list, with SBD's masks; val the {len(val)} images of VOC2011's val that the paper "
        f"scores, from {voc}"
    )
    return DataSet("voc+sbd", root, VOC_LABELS, {"train": train, "val": val}, about=about)


def _voc_alone(home: Path, faults: list[Fault]) -> DataSet:
    store = _voc_store(home, faults)
    lists = home / "ImageSets" / "Segmentation"
    own = [split for split in ("train", "val") if (lists / f"{split}.txt").is_file()]
    splits = {split: _listed(lists / f"{split}.txt", store, faults) for split in own}
    if not splits:
        remedy = "list the image stems of each split, one a line"
        faults.append(Fault("missing-list", lists, "holds neither train.txt nor val.txt", remedy))
    unusable: dict[str, tuple[Fault, ...]] = {}
    if store.samples(paper_val()):
        lacking: list[Fault] = []
        paper = _paper_samples(store, splits.get("train", ()), lacking)
        if lacking:
            unusable[PAPER_SPLIT] = tuple(lacking)
        else:
            splits[PAPER_SPLIT] = paper
    return DataSet("voc", home, VOC_LABELS, splits, unusable=unusable)


def _sbd_alone(root: Path, release: Path, faults: list[Fault]) -> DataSet:
    store = _sbd_store(release, faults)
    splits = {split: _listed(release / "dataset" / f"{split}.txt", store, faults) for split in ("train", "val")}
    about = "train and val are SBD's own lists; the paper's val needs VOC2011 or VOC2012 beside benchmark_RELEASE"
    return DataSet("sbd", root, VOC_LABELS, splits, about=about)


def _listed(path: Path, store: _Store, faults: list[Fault]) -> tuple[Sample, ...]:
    """The samples that a list file names."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        problem, remedy = f"cannot be read ({error.strerror or error})", "list the image stems there, one a line"
        faults.append(Fault("missing-list", path, problem, remedy, split=path.stem))
        return ()
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stem = normalize_stem(line.strip())
        if not stem:
            continue
        absent = store.absent(stem)
        if stem in seen:
            problem = f"line {number} repeats {stem!r} of line {seen[stem]}"
            faults.append(Fault("listed-twice", path, problem, "remove one", stem, path.stem))
        elif absent:
            problem = f"line {number} names {stem!r}, which is not in {absent}"
            faults.append(Fault("listed-absent", path, problem, "add the file or remove the line", stem, path.stem))
        seen.setdefault(stem, number)
    if not seen:
        remedy = "list the image stems, one a line"
        faults.append(Fault("empty-split", path, "the split is empty", remedy, split=path.stem))
    return check_sizes(store.samples(seen), faults, path.stem)


def _paper_samples(store: _Store, train: Iterable[Sample], faults: list[Fault]) -> tuple[Sample, ...]:
    """The paper's validation images. All 736 have to be there, and none of them in `train`."""
    ids, home = paper_val(), store.folders[0].parent
    for stem in ids:
        absent = store.absent(stem)
        if absent:
            problem = f"{stem}, one of the paper's {len(ids)} validation images, is not in {absent}"
            remedy = "unpack VOC2011 or VOC2012 completely"
            faults.append(Fault("listed-absent", home, problem, remedy, stem, "val"))
    shared = sorted({sample.name for sample in train} & set(ids))
    if shared:
        shown = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
        problem = f"{len(shared)} of the paper's {len(ids)} validation images are in the train list too ({shown})"
        faults.append(Fault("listed-twice", home, problem, "take the list as it was published", split="val"))
    return check_sizes(store.samples(ids), faults, "val")
