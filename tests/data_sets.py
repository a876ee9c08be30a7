"""What tests ask of a folder of data: the targets of its samples, and the faults that are found in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset, survey
from fullconv.errors import DataError
from fullconv.faults import Fault

__all__ = ["faults_of", "targets", "warnings_of"]


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
