"""Data sets as people have them: real names of folders and files, with pairs, splits, names and label maps compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpus_trees import TREES, build
from fullconv.data.layouts import find_dataset


@pytest.mark.parametrize("name", TREES)
def test_pairs_splits_classes_and_label_maps_are_right(tmp_path: Path, name: str) -> None:
    tree = TREES[name]
    truth = build(tmp_path, tree)
    dataset = find_dataset(tmp_path)
    samples = {sample.image: (split, sample) for split, found in dataset.splits.items() for sample in found}
    assert samples.keys() == truth.keys()
    if tree.names is not None:
        assert dataset.labels.class_names == tree.names
    numbers: dict[int, int] = {}  # classes that no file names may come in any order
    for path, (split, expected) in truth.items():
        found, sample = samples[path]
        assert found == split or split == "" or (split == "train" and "val" not in tree.splits)
        _, target = dataset.read(sample)
        if tree.names is None and tree.ids is None:
            for label in range(len(tree.stores)):
                (number,) = set(target[expected == label].tolist()) or {numbers.get(label, label)}
                assert numbers.setdefault(label, number) == number
        else:
            assert np.array_equal(target, expected)
    sizes = {split: len(found) for split, found in dataset.splits.items()}
    assert sum(sizes.values()) == len(truth)
    if set(tree.splits) == {""}:
        assert sizes == {"train": 8, "val": 2}
