"""Data sets as people have them: real names of folders and files, with pairs, splits, names and label maps compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from corpus_trees import QUESTIONS, TREES, Tree, build
from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset
from fullconv.data.reading import BY_FILES, ReadingOptions
from refusals import refuses


@pytest.mark.parametrize("name", TREES)
def test_pairs_splits_classes_and_label_maps_are_right(tmp_path: Path, name: str) -> None:
    compare(tmp_path, TREES[name], build(tmp_path, TREES[name]))


@pytest.mark.parametrize("name", QUESTIONS)
def test_two_folders_that_may_be_the_labels_are_a_question(tmp_path: Path, name: str) -> None:
    tree, other = QUESTIONS[name]
    truth = build(tmp_path, tree)
    folders = list(tmp_path.glob(other))
    image, mask = (Path(pattern).parent.name for pattern in (tree.image, tree.mask))
    with refuses("ambiguous-image", folders[0].relative_to(tmp_path), "--images", "or move the other folder away"):
        find_dataset(tmp_path)
    compare(tmp_path, tree, truth, ReadingOptions(images=f"**/{image}/*", masks=f"**/{mask}/*"))
    for folder in folders:
        shutil.rmtree(folder)
    compare(tmp_path, tree, truth)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    build(tmp_path / "a", TREES["predictions in a folder"])
    assert "not read, next to labels: predictions" in " ".join(find_dataset(tmp_path / "a").notes)
    build(tmp_path / "b", TREES["overlays in one folder"])
    assert "not read, next to data: 10 files such as data/000_overlay.png" in " ".join(
        find_dataset(tmp_path / "b").notes
    )


def compare(root: Path, tree: Tree, truth: dict[Path, tuple[str, UInt8]], options: ReadingOptions = BY_FILES) -> None:
    """Compare what is read from a tree with what was written."""
    dataset = find_dataset(root, options)
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
