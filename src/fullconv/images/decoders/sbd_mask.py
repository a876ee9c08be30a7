"""Reading of the masks of the Semantic Boundaries Dataset (SBD) from MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault

__all__ = ["MASK_SUFFIX", "read_sbd_mask"]

MASK_SUFFIX = ".mat"


def read_sbd_mask(path: Path) -> UInt8:
    """Read `GTcls.Segmentation` from a file of SBD's `cls` folder: H x W uint8 class ids of VOC; no pixel is ignored.

    Source: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011, and the README of its release.

    Raises DataError for files that are missing, damaged or have another structure, and MissingExtra without SciPy.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtra("scipy", "train") from error
    try:
        with path.open("rb") as file:
            stored = loadmat(file, variable_names=["GTcls"])
    except MemoryError:
        raise
    except Exception as error:  # for damaged files, loadmat raises almost any type
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split()) or type(error).__name__
        problem = f"cannot be read as a MATLAB file ({reason})"
        raise DataError.of(Fault("unreadable-file", path, problem, "unpack SBD's archive again")) from error
    try:
        mask = stored["GTcls"]["Segmentation"][0, 0]
    except (KeyError, IndexError, ValueError) as error:
        problem, remedy = "holds no GTcls.Segmentation", "use the files of SBD's folder cls"
        raise DataError.of(Fault("unreadable-file", path, problem, remedy)) from error
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        content = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        problem = f"GTcls.Segmentation is {content}, not height x width of uint8"
        raise DataError.of(Fault("unreadable-file", path, problem, "unpack SBD's archive again"))
    return np.ascontiguousarray(mask)
