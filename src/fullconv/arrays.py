"""The numpy array types that the code names, by dtype. Shapes and value ranges are in the docstrings of their users."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Float32", "Float64", "Int32", "Int64", "Mask", "UInt8"]

UInt8 = npt.NDArray[np.uint8]
"""Images and label maps."""

Mask = npt.NDArray[np.bool_]
"""Pixels that are selected."""

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
"""Counts and coordinates."""

Float32 = npt.NDArray[np.float32]
"""Logits and kernels."""

Float64 = npt.NDArray[np.float64]
