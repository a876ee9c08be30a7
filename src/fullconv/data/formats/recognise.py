"""Recognise the format of a folder by its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

from fullconv.data.dataset import DataSet
from fullconv.data.reading import ReadingOptions
from fullconv.data.splits import split_of
from fullconv.faults import Fault
from fullconv.files import is_given, read_file

__all__ = ["Recognised", "recognise_annotations", "recognise_masks", "recognise_texts"]

Recognised = tuple[str, Callable[[list[Fault]], DataSet | None]]
"""The name of a format and the function that reads the folder."""

MAX_OPENED = 20
"""At most so many JSON files of each folder are opened to recognise the format."""

DATA_YAML = ("data.yaml", "data.yml")

_MARKS = {
    "labelme": (b'"shapes"', b'"imagePath"'),
    "Datumaro": (b'"items"', b'"categories"'),
    "COCO": (b'"images"', b'"annotations"', b'"categories"'),
    "Label Studio": (b'"annotations"', b'"data"'),
}


def recognise_masks(root: Path, options: ReadingOptions) -> Recognised | None:
    """Return the format and its reader for CVAT, custom VOC, nnU-Net and published data sets; otherwise None."""
    from fullconv.data.formats import cvat, nnunet
    from fullconv.data.published.recognise import recognise_published

    if cvat.has_custom_classes(root):
        name = "CVAT segmentation mask" if (root / cvat.LABEL_MAP).is_file() else "VOC"
        return name, partial(cvat.read_cvat, root, options)
    if nnunet.is_nnunet(root):
        return "nnU-Net", partial(nnunet.read_nnunet, root)
    return recognise_published(root)


def recognise_annotations(root: Path) -> Recognised | None:
    """Return the format and its reader for labelme, COCO, Datumaro and Label Studio; otherwise None."""
    by_folder = _annotation_files(root)
    kind = next(
        (kind for files in by_folder.values() for kind in map(_recognise_file, islice(files, MAX_OPENED)) if kind), None
    )
    if kind is None:
        from fullconv.data.formats.supervisely import find_projects, read_supervisely

        folders = find_projects(root)
        if folders:
            return "Supervisely", partial(read_supervisely, root, folders)
        documents = _cvat_documents(root)
        if documents:
            from fullconv.data.formats.cvat_images import read_cvat_images

            return "CVAT for images", partial(read_cvat_images, root, documents)
        by_folder = _nested_labelme_files(root)
        kind = "labelme" if by_folder else None
    if kind is None:
        return _recognise_labelme_xml(root) or _recognise_stuff_maps(root)
    if kind == "labelme":
        from fullconv.data.formats.labelme import read_labelme

        return kind, partial(read_labelme, root, {folder: files for folder, files in by_folder.items() if files})
    files = [
        path for paths in by_folder.values() for path in paths if _recognise_file(path) == kind or _is_truncated(path)
    ]
    if kind == "COCO":
        return _recognise_coco(root, files)
    if kind == "Datumaro":
        from fullconv.data.formats.datumaro import read_datumaro

        return kind, partial(read_datumaro, root, files)
    from fullconv.data.formats.label_studio import read_label_studio

    return kind, partial(read_label_studio, root, files)


def _recognise_labelme_xml(root: Path) -> Recognised | None:
    from fullconv.data.formats.labelme_xml import find_labelme_xml, read_labelme_xml

    files = find_labelme_xml(root)
    return ("LabelMe XML", partial(read_labelme_xml, root, files)) if files else None


def _recognise_stuff_maps(root: Path) -> Recognised | None:
    from fullconv.data.formats.coco_stuff import find_stuff_maps, read_stuff_maps

    maps = find_stuff_maps(root)
    return ("COCO-Stuff", partial(read_stuff_maps, root, maps)) if maps else None


def _recognise_coco(root: Path, files: list[Path]) -> Recognised:
    """Return the reader of instances, or that of panoptic segments if there are no instances."""
    from fullconv.data.formats.coco import read_coco
    from fullconv.data.formats.coco_panoptic import MARK, read_coco_panoptic

    panoptic = [path for path in files if _holds(path, MARK)]
    others = [path for path in files if path not in panoptic]
    if any(_recognise_file(path) for path in others) or not panoptic:
        return "COCO", partial(read_coco, root, others)
    return "COCO panoptic", partial(read_coco_panoptic, root, files)


def _holds(path: Path, mark: bytes) -> bool:
    try:
        return mark in read_file(path)
    except OSError:  # its reader reports it
        return False


def recognise_texts(root: Path) -> Recognised | None:
    """Return the format and its reader for YOLO's text files; otherwise None.

    If the only data.yaml lies in a folder of `root`, that folder is the data set.
    """
    from fullconv.data.formats.yolo import is_yolo, read_yolo

    if not is_yolo(root):
        return None
    homes = [folder for folder in sorted(root.iterdir()) if any((folder / name).is_file() for name in DATA_YAML)]
    if len(homes) == 1 and not any(root.glob("*.y*ml")):
        return "YOLO", partial(read_yolo, homes[0])
    return "YOLO", partial(read_yolo, root)


def _annotation_files(root: Path) -> dict[str, list[Path]]:
    """Return the JSON files of `root`, of `annotations` and of the folders of splits, by folder; "" is `root`."""
    folders = {"": root, "annotations": root / "annotations"}
    folders |= {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and split_of(path.name)}
    return {name: _visible(folder.glob("*.json")) for name, folder in folders.items()}


def _cvat_documents(root: Path) -> list[Path]:
    """Return the XML files of "CVAT for images" in `root` and in `annotations`."""
    from fullconv.data.formats.cvat_images import is_cvat_images

    return [
        path
        for folder in (root, root / "annotations")
        for path in _visible(folder.glob("*.xml"))
        if is_cvat_images(path)
    ]


def _nested_labelme_files(root: Path) -> dict[str, list[Path]]:
    """Return the JSON files of folders and their subfolders, by path, as `images`, `json` or `images/train`.

    A folder counts if labelme wrote one of its first files.
    """
    by_folder = {}
    for pattern in ("*/*.json", "*/*/*.json"):
        folders = sorted({path.parent for path in root.glob(pattern)})
        for folder in folders:
            files = _visible(folder.glob("*.json"))
            if any(_recognise_file(path) == "labelme" for path in files[:MAX_OPENED]):
                by_folder[folder.relative_to(root).as_posix()] = files
    return by_folder


def _is_truncated(path: Path) -> bool:
    """Return whether a JSON file has no proper end. It cannot be recognised, but its reader must report it."""
    try:
        return not read_file(path).rstrip().endswith((b"}", b"]"))
    except OSError:
        return True


def _visible(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if is_given(path) and not path.name.startswith("."))


def _recognise_file(path: Path) -> str | None:
    """Return the format by the keys in the file. Its reader checks the file later."""
    try:
        content = read_file(path)
    except OSError:
        return None
    is_list = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    for kind, marks in _MARKS.items():
        if (kind == "Label Studio") == is_list and all(mark in content for mark in marks):
            return kind
    return None
