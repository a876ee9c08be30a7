"""Which of the formats a folder has, by what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

from fullconv.data.dataset import DataSet
from fullconv.data.splits import split_of
from fullconv.faults import Fault

__all__ = ["Recognised", "recognise_annotations", "recognise_masks"]

Recognised = tuple[str, Callable[[list[Fault]], DataSet | None]]

LOOKED_AT = 20
"""Files of a folder that are looked into before it counts as one without annotations."""

_MARKS = {
    "labelme": (b'"shapes"', b'"imagePath"'),
    "Datumaro": (b'"items"', b'"categories"'),
    "COCO": (b'"images"', b'"annotations"', b'"categories"'),
    "Label Studio": (b'"annotations"', b'"data"'),
}


def recognise_masks(root: Path) -> Recognised | None:
    """CVAT or VOC with classes of its own, Cityscapes or ADE20K, and what reads it."""
    from fullconv.data.formats import ade20k, cityscapes, cvat

    if cvat.has_own_classes(root):
        name = "CVAT segmentation mask" if (root / cvat.LABEL_MAP).is_file() else "VOC"
        return name, partial(cvat.read_cvat, root)
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return "Cityscapes", partial(cityscapes.read_cityscapes, root)
    if all((root / kind / "training").is_dir() for kind in ("images", "annotations")):
        return "ADE20K", partial(ade20k.read_ade20k, root)
    return None


def recognise_annotations(root: Path) -> Recognised | None:
    """labelme, COCO, Datumaro or Label Studio, and what reads it."""
    found = _annotation_files(root)
    kind = next((kind for files in found.values() for kind in map(_kind, islice(files, LOOKED_AT)) if kind), None)
    if kind is None:
        return None
    if kind == "labelme":
        from fullconv.data.formats.labelme import read_labelme

        return kind, partial(read_labelme, root, {folder: files for folder, files in found.items() if files})
    files = [path for paths in found.values() for path in paths if _kind(path) == kind or _is_cut_short(path)]
    if kind == "COCO":
        from fullconv.data.formats.coco import read_coco

        return kind, partial(read_coco, root, files)
    if kind == "Datumaro":
        from fullconv.data.formats.datumaro import read_datumaro

        return kind, partial(read_datumaro, root, files)
    from fullconv.data.formats.label_studio import read_label_studio

    return kind, partial(read_label_studio, root, files)


def _annotation_files(root: Path) -> dict[str, list[Path]]:
    """The JSON files of `root`, of `annotations` and of the folders of splits, by folder; "" is `root`."""
    folders = {"": root, "annotations": root / "annotations"}
    folders |= {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and split_of(path.name)}
    return {name: _visible(folder.glob("*.json")) for name, folder in folders.items()}


def _is_cut_short(path: Path) -> bool:
    """Whether a JSON file does not end as one, so that its kind may be gone, but not what is said of it."""
    try:
        return not path.read_bytes().rstrip().endswith((b"}", b"]"))
    except OSError:
        return True


def _visible(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and not path.name.startswith("."))


def _kind(path: Path) -> str | None:
    """By the keys that are written in the file; whether it is as it should be is found when it is parsed."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    is_list = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    for kind, marks in _MARKS.items():
        if (kind == "Label Studio") == is_list and all(mark in content for mark in marks):
            return kind
    return None
