"""Reading of the masks of the Semantic Boundaries Dataset (SBD) from MATLAB files."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images.decoders.matlab import read_field, read_matrices
from fullconv.images.decoders.open_pillow import check_file

__all__ = ["MASK_SUFFIX", "read_sbd_mask"]

MASK_SUFFIX = ".mat"


def read_sbd_mask(path: Path) -> UInt8:
    """Read `GTcls.Segmentation` from a file of SBD's `cls` folder: H x W uint8 class ids of VOC; no pixel is ignored.

    Source: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011, and the README of its release.

    Raises DataError for files that are missing, damaged or have another structure.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            found = [matrix for matrix in read_matrices(file) if matrix.name == "GTcls"]
            mask = read_field(file, found[0], "Segmentation") if found else None
    except (OSError, ValueError, zlib.error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        problem = f"cannot be read as a MATLAB file ({reason})"
        raise DataError.of(Fault("unreadable-file", path, problem, "unpack SBD's archive again")) from error
    if mask is None:
        problem, remedy = "holds no GTcls.Segmentation", "use the files of SBD's folder cls"
        raise DataError.of(Fault("unreadable-file", path, problem, remedy))
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        problem = f"GTcls.Segmentation is {mask.dtype} of shape {mask.shape}, not height x width of uint8"
        raise DataError.of(Fault("unreadable-file", path, problem, "unpack SBD's archive again"))
    return mask
