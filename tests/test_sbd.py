"""Masks of SBD: MATLAB files that can be read, and those that raise an error."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.errors import DataError
from fullconv.images.decoders.mask_arrays import read_array_mask
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
        ("empty-file", cls / f"{SBD_TRAIN[3]}.mat"),
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
    with refuses("missing-file", tmp_path / "nowhere.mat"):
        read_sbd_mask(tmp_path / "nowhere.mat")
    put_mat(tmp_path / "cut.mat", label_map(0))
    whole = (tmp_path / "cut.mat").read_bytes()
    for length in range(1, len(whole), 61):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with refuses("unreadable-file", tmp_path / "cut.mat"):
            read_sbd_mask(tmp_path / "cut.mat")


ARRAYS = {
    "float64": np.arange(12.0).reshape(3, 4) / 8,
    "int64": np.array([[-(2**40), 2**40], [0, 1]]),
    "uint16": np.arange(60000, 60006, dtype=np.uint16).reshape(2, 3),
    "bool": np.array([[True, False, True], [False, False, True]]),
    "colours": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
}


@pytest.mark.parametrize("form", ["5", "4"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_matlab_files_are_read_as_stored(tmp_path: Path, kind: str, compressed: bool, form: str) -> None:
    if form == "4" and kind in ("int64", "bool", "colours"):
        pytest.skip("version 4 has no such arrays")
    path, note = tmp_path / "a.mat", {"note": "made by hand", "empty": np.zeros((0, 0)), "one": 3.0}
    savemat(path, note | {"mask": ARRAYS[kind]}, do_compression=compressed, format=form)
    assert np.array_equal(read_array_mask(path), ARRAYS[kind])


def test_big_endian_and_small_elements_of_matlab_files_are_read(tmp_path: Path) -> None:
    def element(kind: int, content: bytes) -> bytes:
        if len(content) <= 4:
            return struct.pack(">HH4s", len(content), kind, content)
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    parts = (6, struct.pack(">II", 9, 0)), (5, struct.pack(">ii", 2, 2)), (1, b"m"), (2, bytes([1, 2, 3, 4]))
    content = b"".join(element(*part) for part in parts)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    (tmp_path / "a.mat").write_bytes(header + struct.pack(">II", 14, len(content)) + content)
    assert read_array_mask(tmp_path / "a.mat").tolist() == [[1, 3], [2, 4]]
    big = struct.pack(">5i", 1050, 2, 2, 0, 2) + b"m\0" + bytes([1, 2, 3, 4])
    (tmp_path / "a.mat").write_bytes(big)
    assert read_array_mask(tmp_path / "a.mat").tolist() == [[1, 3], [2, 4]]


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
FLAGS = struct.pack("<IIII", 6, 8, 9, 0)
HOSTILE = {
    "claims 4 GB": HEAD + struct.pack("<II", 14, 2**32 - 1),
    "claims 2**31 columns": HEAD
    + struct.pack("<II", 14, 48)
    + FLAGS
    + struct.pack("<IIii", 5, 8, 2**15, 2**15)
    + struct.pack("<HH4sII", 1, 1, b"m", 2, 2**30),
    "a negative axis": HEAD + struct.pack("<II", 14, 40) + FLAGS + struct.pack("<IIii", 5, 8, -4, -4) + bytes(8),
    "endless compression": HEAD
    + struct.pack("<II", 15, len(zlib.compress(bytes(2**22))))
    + zlib.compress(bytes(2**22)),
    "no matrix": HEAD + struct.pack("<II", 9, 8) + bytes(8),
    "version 7.3": b"MATLAB 7.3 MAT-file".ljust(512),
    "text": b"this is no MATLAB file at all",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_matlab_files_end_in_a_sentence(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(HOSTILE[case])
    for read in (read_array_mask, read_sbd_mask):
        with refuses("unreadable-file", path):
            read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipes_are_not_opened_as_masks(tmp_path: Path) -> None:
    for suffix in (".mat", ".npy", ".npz"):
        path = tmp_path / f"pipe{suffix}"
        os.mkfifo(path)
        with refuses("not-a-file", path):
            read_array_mask(path)
    with refuses("not-a-file", tmp_path / "pipe.mat"):
        read_sbd_mask(tmp_path / "pipe.mat")
