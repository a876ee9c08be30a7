"""Recognise a published data set by its folders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fullconv.data.classes import name_published
from fullconv.data.dataset import DataSet
from fullconv.data.published import ade20k, ade20k_full, cityscapes, kitti, mapillary, mvtec, synthia
from fullconv.faults import Fault

__all__ = ["recognise_published"]


def recognise_published(root: Path) -> tuple[str, Callable[[list[Fault]], DataSet | None]] | None:
    """Return the name of the data set and its reader; None for any other folder.

    Archives may unpack into a folder in `root`, except those of Cityscapes and ADE20K's 150 classes.
    """
    if (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir():
        return "Cityscapes", partial(cityscapes.read_cityscapes, root)
    halves = all((root / kind / "training").is_dir() for kind in ("images", "annotations"))
    labels = name_published(root, ade20k.ade20k_labels()) if halves else None
    if labels is not None:  # people give their own data these folders, too
        return "ADE20K", partial(ade20k.read_ade20k, root, labels)
    for home in (root, *(path for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != ".")):
        for name, is_home, read in (
            ("KITTI semantic", kitti.is_kitti, kitti.read_kitti),
            ("Mapillary Vistas", mapillary.is_mapillary, mapillary.read_mapillary),
            ("SYNTHIA", synthia.is_synthia, synthia.read_synthia),
            ("ADE20K", ade20k_full.is_full_ade20k, ade20k_full.read_full_ade20k),
        ):
            if is_home(home):
                return name, partial(read, home)
    categories = mvtec.find_categories(root)
    return ("MVTec AD", partial(mvtec.read_mvtec, root, categories)) if categories else None
