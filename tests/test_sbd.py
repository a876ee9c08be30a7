"""Masks of SBD: MATLAB files that can be read, and those that raise an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.errors import DataError
from fullconv.images.decoders.sbd_mask import read_sbd_mask
from refusals import refuses
from voc_tree import (
    SBD_TRAIN,
    SIZE,
    label_map,
    put_mat,
)


def test_statistics_list_all_faulty_sbd_masks(small: Path) -> None:
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
    ("values", "content"),
    [
        ({"GTinst": {"Segmentation": np.zeros(SIZE, np.uint8)}}, "GTcls"),
        ({"GTcls": {"Boundaries": np.zeros(SIZE, np.uint8)}}, "GTcls"),
        ({"GTcls": np.zeros(SIZE, np.uint8)}, "GTcls"),
        ({"GTcls": {"Segmentation": np.zeros(SIZE)}}, "float64 of shape (32, 40)"),
        ({"GTcls": {"Segmentation": np.zeros((*SIZE, 3), np.uint8)}}, "uint8 of shape (32, 40, 3)"),
    ],
)
def test_other_matlab_files_raise_an_error(tmp_path: Path, values: dict[str, object], content: str) -> None:
    path = tmp_path / "a.mat"
    savemat(path, values)
    with refuses("unreadable-file", path, content):
        read_sbd_mask(path)


def test_missing_and_truncated_matlab_files_raise_an_error(tmp_path: Path) -> None:
    with refuses("unreadable-file", tmp_path / "nowhere.mat"):
        read_sbd_mask(tmp_path / "nowhere.mat")
    put_mat(tmp_path / "cut.mat", label_map(0))
    whole = (tmp_path / "cut.mat").read_bytes()
    for length in range(0, len(whole), 61):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with refuses("unreadable-file", tmp_path / "cut.mat"):
            read_sbd_mask(tmp_path / "cut.mat")
