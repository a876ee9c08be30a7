"""Write files of a folder of data, and ask for the targets of its samples and the faults that are found in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset, survey
from fullconv.errors import DataError
from fullconv.faults import Fault

__all__ = ["faults_of", "put_grey", "put_json", "targets", "warnings_of"]


def put_grey(path: Path, size: tuple[int, int]) -> None:
    """Write a grey RGB image of a size (height, width), in a folder that may be new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def put_json(path: Path, values: Any) -> Path:
    """Write a JSON file, in a folder that may be new, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def targets(dataset: DataSet) -> dict[str, UInt8]:
    """Return the target of each sample by its name, of all splits."""
    return {sample.name: dataset.read(sample)[1] for samples in dataset.splits.values() for sample in samples}


def warnings_of(root: Path) -> list[Fault]:
    return [fault for fault in survey(root).faults if fault.severity == "warning"]


def faults_of(root: Path) -> tuple[Fault, ...]:
    """Return the faults for which the folder is refused."""
    with pytest.raises(DataError) as caught:
        find_dataset(root)
    return caught.value.faults
