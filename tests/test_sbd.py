"""Masks of SBD: what Matlab files hold, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.errors import DataError
from fullconv.images.decoders.sbd_mask import read_sbd_mask
from voc_tree import (
    SBD_TRAIN,
    SIZE,
    label_map,
    put_mat,
)


def test_masks_of_sbd_that_do_not_fit_are_told_before_training(small: Path) -> None:
    sbd = small / "benchmark_RELEASE"
    cls = sbd / "dataset" / "cls"
    put_mat(cls / f"{SBD_TRAIN[0]}.mat", np.zeros((32, 41), np.uint8))
    put_mat(cls / f"{SBD_TRAIN[1]}.mat", np.full(SIZE, 21, np.uint8))
    (cls / f"{SBD_TRAIN[3]}.mat").write_bytes(b"")
    dataset = find_dataset(sbd)
    with pytest.raises(DataError) as caught:
        read_statistics(dataset, "train")
    expected = [
        ("size-mismatch", cls / f"{SBD_TRAIN[0]}.mat"),
        ("unknown-label", cls / f"{SBD_TRAIN[1]}.mat"),
        ("unreadable-file", cls / f"{SBD_TRAIN[3]}.mat"),
    ]
    assert [(fault.kind, fault.path) for fault in caught.value.faults] == expected


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"GTinst": {"Segmentation": np.zeros(SIZE, np.uint8)}}, "holds no GTcls.Segmentation"),
        ({"GTcls": {"Boundaries": np.zeros(SIZE, np.uint8)}}, "holds no GTcls.Segmentation"),
        ({"GTcls": np.zeros(SIZE, np.uint8)}, "holds no GTcls.Segmentation"),
        ({"GTcls": {"Segmentation": np.zeros(SIZE)}}, "is float64 of shape (32, 40), not height x width of uint8"),
        ({"GTcls": {"Segmentation": np.zeros((*SIZE, 3), np.uint8)}}, "is uint8 of shape (32, 40, 3)"),
    ],
)
def test_other_matlab_files_are_refused(tmp_path: Path, values: dict[str, object], part: str) -> None:
    path = tmp_path / "a.mat"
    savemat(path, values)
    with pytest.raises(DataError, match=re.escape(part)) as caught:
        read_sbd_mask(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_and_cut_matlab_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read as a MATLAB file \(No such file"):
        read_sbd_mask(tmp_path / "nowhere.mat")
    put_mat(tmp_path / "cut.mat", label_map(0))
    whole = (tmp_path / "cut.mat").read_bytes()
    for length in range(0, len(whole), 61):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.mat: (cannot be read as a MATLAB file|holds no GTcls)"):
            read_sbd_mask(tmp_path / "cut.mat")
