"""Read PASCAL VOC and SBD, and the paper's 736 validation images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from fullconv.data.classes import VOC_LABELS
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.pairing import check_sizes, list_by_stem, normalize_stem
from fullconv.faults import Fault
from fullconv.files import read_file
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX

__all__ = ["PAPER_SPLIT", "VocFolders", "find_voc", "is_paper_val", "paper_val", "read_voc"]

PAPER_SPLIT = "val736"
"""The name of the split of the paper's validation images if `val` is VOC's list."""

_DEVKITS = (Path(), Path("VOCdevkit"), Path("TrainVal/VOCdevkit"))


@dataclass(frozen=True)
class VocFolders:
    """The folders in `root` of a year of VOC, of SBD's release, or both."""

    root: Path
    voc: Path | None
    sbd: Path | None

    @property
    def name(self) -> str:
        """Return the name of the layout for messages."""
        if self.voc is None:
            return "SBD"
        return "VOC with SBD" if self.sbd else "VOC"

    @property
    def has_lists(self) -> bool:
        """Return whether the folders are VOC's or SBD's: they have lists of images."""
        return self.sbd is not None or (self.voc is not None and (self.voc / "ImageSets").is_dir())


def paper_val() -> tuple[str, ...]:
    """Return the ids of the 736 images of VOC2011's segmentation val that are not in SBD's train list, ascending.

    Source: `data/pascal/seg11valid.txt` of the code of Long, Shelhamer, Darrell, "Fully Convolutional Networks for
    Semantic Segmentation", CVPR 2015.
    """
    lines = files("fullconv.data.formats").joinpath("voc2011_val736.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def is_paper_val(dataset: DataSet) -> bool:
    """Return whether `val` is the paper's: its 736 images, and VOC's classes in VOC's order.

    Scores on such a `val` can be compared with the paper's.
    """
    names = sorted(sample.name for sample in dataset.splits.get("val", ()))
    return dataset.labels.class_names == VOC_LABELS.class_names and names == list(paper_val())


def find_voc(root: Path) -> VocFolders | None:
    """Find VOC and SBD in `root`, where their archives unpack. Return None if neither exists.

    `root` itself may be a year of VOC or SBD's benchmark_RELEASE. Of several years, the newest is used; with SBD, the
    paper's VOC2011. Folders outside `root` are not searched, so VOC's folder alone excludes SBD.
    """
    devkits = [root / devkit for devkit in _DEVKITS]
    years = [year for devkit in devkits for year in devkit.glob("VOC[12][0-9][0-9][0-9]")]
    homes = [home for home in (root, *years) if (home / "JPEGImages").is_dir()]
    releases = [root, *(folder / "benchmark_RELEASE" for folder in (*devkits, *homes))]
    sbd = next((release for release in releases if (release / "dataset" / "cls").is_dir()), None)
    if not homes:
        return VocFolders(root, None, sbd) if sbd else None
    voc = max(homes, key=lambda home: (home == root, sbd is not None and home.name == "VOC2011", home.name))
    return VocFolders(root, voc, sbd)


def read_voc(folders: VocFolders, faults: list[Fault]) -> DataSet:
    """Read the folders of `find_voc`.

    - VOC and SBD are the paper's data: `train` is SBD's train list (8,498 images in the release) with SBD's masks,
      `val` the 736 images of `paper_val` with VOC's masks.
    - VOC alone: its `train` and `val`, and `val736`. If `val736` is incomplete, only its use is an error.
    - SBD alone: its `train` and `val`.

    All faults are added to the list; their samples are left out.
    """
    if folders.voc is None:
        assert folders.sbd is not None
        return _read_sbd(folders.root, folders.sbd, faults)
    if folders.sbd is None:
        return _read_voc(folders.voc, faults)
    return _read_paper(folders.root, folders.voc, folders.sbd, faults)


@dataclass(frozen=True)
class _Store:
    """The images and masks of two folders, by stem."""

    folders: tuple[Path, Path]
    images: dict[str, Path]
    masks: dict[str, Path]

    def absent(self, stem: str) -> str:
        """Return the names of the folders without this stem. Empty folders are reported once, elsewhere."""
        both = zip(self.folders, (self.images, self.masks), strict=True)
        return " or ".join(folder.name for folder, files in both if files and stem not in files)

    def samples(self, stems: Iterable[str]) -> list[Sample]:
        """Return the samples of those stems that have an image and a mask."""
        both = self.images.keys() & self.masks.keys()
        return [Sample(stem, self.images[stem], self.masks[stem]) for stem in stems if stem in both]


def _index_voc(home: Path, faults: list[Fault]) -> _Store:
    folders = home / "JPEGImages", home / "SegmentationClass"
    return _Store(folders, list_by_stem(folders[0], faults), list_by_stem(folders[1], faults))


def _index_sbd(release: Path, faults: list[Fault]) -> _Store:
    folders = release / "dataset" / "img", release / "dataset" / "cls"
    return _Store(folders, list_by_stem(folders[0], faults), list_by_stem(folders[1], faults, {MASK_SUFFIX}))


def _read_paper(root: Path, voc: Path, sbd: Path, faults: list[Fault]) -> DataSet:
    train = _read_list(sbd / "dataset" / "train.txt", _index_sbd(sbd, faults), faults)
    val = _paper_samples(_index_voc(voc, faults), train, faults)
    about = (
        f"train is SBD's train list with SBD's masks; val is the paper's {len(val)} images of VOC2011's val, from {voc}"
    )
    return DataSet("voc+sbd", root, VOC_LABELS, {"train": train, "val": val}, about=about)


def _read_voc(home: Path, faults: list[Fault]) -> DataSet:
    store = _index_voc(home, faults)
    lists = home / "ImageSets" / "Segmentation"
    listed = [split for split in ("train", "val") if (lists / f"{split}.txt").is_file()]
    splits = {split: _read_list(lists / f"{split}.txt", store, faults) for split in listed}
    if not splits:
        remedy = "list the image stems of each split, one per line"
        faults.append(Fault("missing-list", lists, "contains neither train.txt nor val.txt", remedy))
    unusable: dict[str, tuple[Fault, ...]] = {}
    if store.samples(paper_val()):
        paper_faults: list[Fault] = []
        paper = _paper_samples(store, splits.get("train", ()), paper_faults)
        if paper_faults:
            unusable[PAPER_SPLIT] = tuple(paper_faults)
        else:
            splits[PAPER_SPLIT] = paper
    return DataSet("voc", home, VOC_LABELS, splits, unusable=unusable)


def _read_sbd(root: Path, release: Path, faults: list[Fault]) -> DataSet:
    store = _index_sbd(release, faults)
    splits = {split: _read_list(release / "dataset" / f"{split}.txt", store, faults) for split in ("train", "val")}
    about = "train and val are SBD's lists; the paper's val needs VOC2011 or VOC2012 next to benchmark_RELEASE"
    return DataSet("sbd", root, VOC_LABELS, splits, about=about)


def _read_list(path: Path, store: _Store, faults: list[Fault]) -> tuple[Sample, ...]:
    """Return the samples that a list file names."""
    try:
        text = read_file(path).decode("utf-8-sig", "replace")
    except OSError as error:
        problem, remedy = f"cannot be read ({error.strerror or error})", "list the image stems there, one per line"
        faults.append(Fault("missing-list", path, problem, remedy, split=path.stem))
        return ()
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stem = normalize_stem(line.strip())
        if not stem:
            continue
        absent = store.absent(stem)
        if stem in seen:
            problem = f"line {number} repeats {stem!r} from line {seen[stem]}"
            faults.append(Fault("listed-twice", path, problem, "remove one of the lines", stem, path.stem))
        elif absent:
            problem = f"line {number} names {stem!r}, which is not in {absent}"
            faults.append(Fault("listed-absent", path, problem, "add the file, or remove the line", stem, path.stem))
        seen.setdefault(stem, number)
    if not seen:
        remedy = "list the image stems, one per line"
        faults.append(Fault("empty-split", path, "the split is empty", remedy, split=path.stem))
    return check_sizes(store.samples(seen), faults, path.stem)


def _paper_samples(store: _Store, train: Iterable[Sample], faults: list[Fault]) -> tuple[Sample, ...]:
    """Return the paper's validation images. All 736 must exist, and none of them may be in `train`."""
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
        problem = f"{len(shared)} of the paper's {len(ids)} validation images are also in the train list ({shown})"
        faults.append(Fault("listed-twice", home, problem, "use the published list", split="val"))
    return check_sizes(store.samples(ids), faults, "val")
