"""Find images by name below a folder, where the path in an annotation file is foreign or absolute."""

from __future__ import annotations

import logging
import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from fullconv.data.pairing import is_image, normalize_stem
from fullconv.files import list_files
from fullconv.forks import lazy_property
from fullconv.images import BAND_SUFFIXES

__all__ = ["ImageIndex", "is_below", "list_images"]

logger = logging.getLogger(__name__)

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def list_images(folder: Path, suffixes: Collection[str] = BAND_SUFFIXES) -> list[Path]:
    """Return the images below a folder, sorted; links to folders are followed once."""
    if not folder.is_dir():
        return []
    folders = list_files(folder, math.inf).folders
    return sorted(inside.path / name for inside in folders for name in inside.having(suffixes))


class ImageIndex:
    """The images below a folder by name, in any Unicode form. The folder is searched at the first use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_reference: dict[Path, tuple[str, Path]] = {}
        self.count: dict[Path, int] = defaultdict(int)
        self._next_to: dict[Path, Mapping[str, list[Path]]] = {}

    @lazy_property
    def by_name(self) -> Mapping[str, list[Path]]:
        """The images by the name of the file, in the form of `normalize_stem`."""
        images: dict[str, list[Path]] = defaultdict(list)
        for image in list_images(self.root):
            images[normalize_stem(image.name)].append(image)
        return dict(images)

    @lazy_property
    def _names_by_stem(self) -> Mapping[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for name in self.by_name:
            names[PurePosixPath(name).stem].append(name)
        return dict(names)

    def find(self, reference: str, uploaded: bool = False) -> list[Path]:
        """Return the files that `reference` may mean: those with its name.

        Of several files, those are returned that share most folders at the end of the path. If the name was `uploaded`,
        the eight digits that Label Studio adds may be missing in the file's name.
        """
        wanted = PurePosixPath(normalize_stem(reference.replace("\\", "/")))
        files = self.by_name.get(wanted.name, [])
        if not files and uploaded:
            files = self.by_name.get(_UPLOAD_PREFIX.sub("", wanted.name), [])
        if len(files) < 2:
            return files
        shared = [_count_shared_folders(path, wanted) for path in files]
        return [path for path, count in zip(files, shared, strict=True) if count == max(shared)]

    def find_foreign(self, source: Path, reference: str) -> list[Path]:
        """Return the files as `find` does, for a path in the file `source` that does not exist; `log` reports them."""
        files = self.find(reference)
        if len(files) == 1:
            self.by_reference.setdefault(source.parent, (reference, files[0]))
            self.count[source.parent] += 1
        return files

    def prefer_inside(self, source: Path, reference: str, file: Path) -> Path:
        """Return a file that the file `source` names; the only one of its name in the folder if it is outside."""
        if is_below(self.root, file) or file.resolve().is_relative_to(self.root.resolve()):
            return file
        files = self.find_foreign(source, reference)
        return files[0] if len(files) == 1 else file

    def find_stem(self, source: Path) -> list[Path]:
        """Return the files with the stem of `source` in the folder that shares most names with the folder of it."""
        names = self._names_by_stem.get(normalize_stem(source.stem), [])
        return self.find_foreign(source, f"{source.parent}/{names[0]}") if len(names) == 1 else []

    def find_next_to(self, source: Path) -> list[Path]:
        """Return the images in the folder of `source` with its stem, which may end before any dot: `a.ome.tif`."""
        if source.parent not in self._next_to:
            images: dict[str, list[Path]] = defaultdict(list)
            for image in sorted(source.parent.iterdir()):
                parts = normalize_stem(image.name).split(".") if is_image(image, BAND_SUFFIXES) else []
                for end in range(1, len(parts)):
                    images[".".join(parts[:end])].append(image)
            self._next_to[source.parent] = images
        return self._next_to[source.parent].get(normalize_stem(source.stem), [])

    def log(self) -> None:
        """Write one line for each folder of annotation files whose images were found by name."""
        for folder, (reference, path) in self.by_reference.items():
            why = "because their paths do not exist or lead outside"
            message = f"%s: %d image(s) found by the name of the file, {why}: %s is %s"
            logger.info(message, folder, self.count[folder], reference, path)


def is_below(root: Path, path: Path) -> bool:
    """Return whether a path, as it is written, leads to a file below `root`; links are not resolved."""
    return path.is_relative_to(root) and ".." not in path.relative_to(root).parts


def _count_shared_folders(path: Path, wanted: PurePosixPath) -> int:
    both = zip(map(normalize_stem, path.parts[-2::-1]), wanted.parts[-2::-1], strict=False)
    return next((count for count, (one, other) in enumerate(both) if one != other), len(wanted.parts) - 1)
