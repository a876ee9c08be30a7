"""nnU-Net's raw data sets of 2-D images."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset

LABELS = {"background": 0, "nucleus": 1, "ignore": 3, "wall": 2}
MASK = np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.uint8)
CASES = ("a_1", "b", "c_0000x")


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write(root: Path, labels: dict[str, Any], end: str = ".png", split: str = "Tr", channels: int = 1) -> None:
    for case in CASES:
        for channel in range(channels):
            save(root / f"images{split}" / f"{case}_{channel:04d}{end}", np.full((2, 4, 3), 90, np.uint8))
        save(root / f"labels{split}" / f"{case}{end}", MASK)
    content = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": labels, "numTraining": 3, "file_ending": end}
    (root / "dataset.json").write_text(json.dumps(content))


def names_of(dataset: DataSet) -> set[str]:
    return {sample.name for samples in dataset.splits.values() for sample in samples}


@pytest.mark.parametrize("end", [".png", ".tif", ".bmp"])
def test_cases_have_the_labels_of_dataset_json(tmp_path: Path, end: str) -> None:
    write(tmp_path, LABELS, end)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("nnunet", ("background", "nucleus", "wall"))
    assert names_of(dataset) == set(CASES)
    for samples in dataset.splits.values():
        for sample in samples:
            np.testing.assert_array_equal(dataset.read(sample)[1], [[0, 1, 2, 255]] * 2)


def test_labels_of_version_1_are_values_with_names(tmp_path: Path) -> None:
    write(tmp_path, {"0": "background", "1": "nucleus", "2": "wall", "3": "lumen"})
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "nucleus", "wall", "lumen")
    sample = next(sample for samples in dataset.splits.values() for sample in samples)
    np.testing.assert_array_equal(dataset.read(sample)[1], MASK)


def test_test_images_are_used_only_with_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path, LABELS)
    save(tmp_path / "imagesTs" / "t_0000.png", np.full((2, 4, 3), 90, np.uint8))
    dataset = find_dataset(tmp_path)
    assert names_of(dataset) == set(CASES)
    assert "imagesTs is not used, because there is no labelsTs" in dataset.about
    assert "imagesTs is not used" in caplog.text
    save(tmp_path / "labelsTs" / "t.png", MASK)
    dataset = find_dataset(tmp_path)
    assert [sample.name for sample in dataset.splits["test"]] == ["t"]
    assert {sample.name for sample in dataset.splits["train"]} <= set(CASES)


def test_several_files_of_channels_are_one_fault_with_a_command(tmp_path: Path) -> None:
    write(tmp_path, LABELS, ".tif", channels=2)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("band-count", tmp_path / "imagesTr")
    assert "3 of 3 cases have several files of channels (a_1_0000.tif, a_1_0001.tif)" in fault.problem
    assert "gdal_merge.py -separate -o a_1.tif a_1_0000.tif a_1_0001.tif" in fault.remedy


def test_volumes_regions_and_gaps_are_faults(tmp_path: Path) -> None:
    write(tmp_path, {"background": 0, "whole": [1, 2], "core": 2})
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("class-names", tmp_path / "dataset.json")
    assert "'whole' is [1, 2], a region" in fault.problem
    write(tmp_path, {"background": 0, "core": 2})
    assert "the labels are 0, 2" in faults_of(tmp_path)[0].problem
    write(tmp_path, LABELS)
    for path in (tmp_path / "imagesTr").iterdir():
        path.rename(path.with_suffix(".nii.gz"))
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("unsupported-format", tmp_path / "imagesTr")


def test_cases_without_a_partner_and_other_sizes_are_faults(tmp_path: Path) -> None:
    write(tmp_path, LABELS)
    (tmp_path / "labelsTr/a_1.png").unlink()
    (tmp_path / "imagesTr/b_0000.png").unlink()
    save(tmp_path / "labelsTr/c_0000x.png", MASK[:1])
    assert [(fault.kind, fault.sample) for fault in faults_of(tmp_path)] == [
        ("missing-mask", "a_1"),
        ("orphan-mask", "b"),
        ("size-mismatch", "c_0000x"),
    ]
