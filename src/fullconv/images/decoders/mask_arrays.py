"""Masks that are arrays: .npy, .npz and MATLAB's .mat, with one array each. Sizes are checked before data are read."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError, FullconvError
from fullconv.faults import Fault
from fullconv.images.decoders.matlab import read_matrices, read_matrix
from fullconv.images.decoders.npy import ARRAY_SUFFIX
from fullconv.images.decoders.open_pillow import MAX_PIXELS, check_file
from fullconv.images.decoders.sbd_mask import MASK_SUFFIX, read_sbd_mask

__all__ = ["ARRAY_MASKS", "read_array_mask"]

ARRAY_MASKS = frozenset({ARRAY_SUFFIX, ".npz", MASK_SUFFIX})
"""Suffixes, in lower case, of the files that hold masks as arrays."""


def read_array_mask(path: Path) -> npt.NDArray[Any]:
    """Read the only mask of an array file, H x W numbers or H x W x 3 colours.

    Raises DataError for files that are damaged or hold several arrays.
    """
    check_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ARRAY_SUFFIX:
            array: npt.NDArray[Any] = _read_npy(path)
        elif suffix == MASK_SUFFIX:
            array = _read_matlab(path)
        else:
            array = _read_archive(path)
    except (FullconvError, MemoryError):
        raise
    except Exception as error:  # readers of arrays raise almost any type for damaged files
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split()) or type(error).__name__
        problem, remedy = f"cannot be read as an array ({reason})", "save the mask again, in MATLAB with -v7"
        raise DataError.of(Fault("unreadable-file", path, problem, remedy)) from error
    return array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array


def _read_npy(path: Path) -> npt.NDArray[Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.kind not in "buif" or not _is_mask(array.shape):
        problem = f"is {' x '.join(map(str, array.shape))} {array.dtype}"
        remedy = "save class ids as height x width, or colours as height x width x 3"
        raise DataError.of(Fault("unsupported-format", path, problem, remedy))
    return np.array(array)


def _read_archive(path: Path) -> npt.NDArray[Any]:
    """Read the only array of a .npz file that may be a mask."""
    with zipfile.ZipFile(path) as archive:
        shapes = {}
        for name in archive.namelist():
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
                if dtype.kind in "buif":
                    shapes[name.removesuffix(ARRAY_SUFFIX)] = shape
        with archive.open(_choose(path, shapes) + ARRAY_SUFFIX) as member:
            array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _read_matlab(path: Path) -> npt.NDArray[Any]:
    """Read the only matrix of a .mat file that may be a mask; of SBD's files, `GTcls.Segmentation`."""
    with path.open("rb") as file:
        matrices = read_matrices(file)
        if any(matrix.name == "GTcls" for matrix in matrices):
            return read_sbd_mask(path)
        by_name = {matrix.name: matrix for matrix in matrices if matrix.numbers}
        name = _choose(path, {name: matrix.shape for name, matrix in by_name.items()})
        return read_matrix(file, by_name[name])


def _choose(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of the only array that has the shape of a mask."""
    masks = [name for name, shape in shapes.items() if _is_mask(shape)]
    if len(masks) != 1:
        listed = ", ".join(f"{name} ({' x '.join(map(str, shape))})" for name, shape in list(shapes.items())[:6])
        problem = f"holds {len(masks)} arrays that may be the mask: {listed or 'none'}"
        remedy = "save one array, height x width, in each file"
        raise DataError.of(Fault("unsupported-format", path, problem, remedy))
    return masks[0]


def _is_mask(shape: tuple[int, ...]) -> bool:
    flat = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    return flat and min(shape[:2]) > 1 and prod(shape[:2]) <= MAX_PIXELS
