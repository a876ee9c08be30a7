"""Masks of the Semantic Boundaries Dataset: class ids in a MATLAB file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault

__all__ = ["MASK_SUFFIX", "read_sbd_mask"]

MASK_SUFFIX = ".mat"


def read_sbd_mask(path: Path) -> npt.NDArray[np.uint8]:
    """`GTcls.Segmentation` of a file of SBD's `cls` folder: H x W uint8, VOC's class ids; no pixel is ignored.

    Source: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011, and the README of its release.
    Raises DataError for files that are missing, damaged or built otherwise, MissingExtra without SciPy.
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
    except Exception as error:  # loadmat raises nearly everything on damaged input
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split()) or type(error).__name__
        problem = f"cannot be read as a MATLAB file ({reason})"
        raise DataError.of(Fault("unreadable-file", path, problem, "unpack SBD's archive again")) from error
    try:
        mask = stored["GTcls"]["Segmentation"][0, 0]
    except (KeyError, IndexError, ValueError) as error:
        problem, remedy = "holds no GTcls.Segmentation", "take the files of SBD's folder cls"
        raise DataError.of(Fault("unreadable-file", path, problem, remedy)) from error
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        found = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        problem = f"GTcls.Segmentation is {found}, not height x width of uint8"
        raise DataError.of(Fault("unreadable-file", path, problem, "unpack SBD's archive again"))
    return np.ascontiguousarray(mask)
