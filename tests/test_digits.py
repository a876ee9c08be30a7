"""Scenes of digits: images, targets, splits, and the data set on the disk."""

import sys

import numpy as np
import pytest

from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.demo import digits
from fullconv.demo.digits import (
    DIGIT_LABELS,
    make_digit_patches,
    make_digit_scenes,
    read_digit_samples,
    write_digit_dataset,
)
from fullconv.errors import MissingExtra
from refusals import refuses


@pytest.mark.parametrize("size", [(96, 128), (61, 50)])
def test_scenes_have_images_and_targets_of_the_size(size):
    images, targets = make_digit_scenes(6, size)
    assert (images.shape, images.dtype) == ((6, *size, 3), np.uint8)
    assert (targets.shape, targets.dtype) == ((6, *size), np.uint8)
    assert targets.max() < DIGIT_LABELS.num_classes
    assert all(0 < (target > 0).mean() < 0.5 for target in targets)


def test_a_scene_depends_only_on_seed_split_and_index():
    images, targets = make_digit_scenes(4, seed=3)
    fewer, fewer_targets = make_digit_scenes(2, seed=3)
    np.testing.assert_array_equal(images[:2], fewer)
    np.testing.assert_array_equal(targets[:2], fewer_targets)
    assert not np.array_equal(fewer, make_digit_scenes(2, seed=4)[0])
    assert not np.array_equal(fewer, make_digit_scenes(2, seed=3, split="val")[0])


def test_scenes_and_patches_have_all_classes():
    assert set(np.unique(make_digit_scenes(40)[1])) == set(range(11))
    assert set(make_digit_patches(120)[1]) == set(range(11))


def test_no_sample_is_in_both_splits():
    train, val = read_digit_samples("train")[0], read_digit_samples("val")[0]
    assert len(train) + len(val) == 1797
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in val}


@pytest.mark.parametrize("split", ["train", "val"])
def test_scenes_and_patches_use_only_digits_of_their_split(split, monkeypatch):
    splits = []

    def spy(name):
        splits.append(name)
        return read_digit_samples(name)

    monkeypatch.setattr(digits, "read_digit_samples", spy)
    make_digit_scenes(2, split=split)
    make_digit_patches(2, split=split)
    assert set(splits) == {split}


def test_the_target_covers_all_ink():
    """The same seed without digits gives the same ground, so all other pixels are ink."""
    images, targets = make_digit_scenes(1, seed=5)
    rng = np.random.default_rng([5, 0, 0, 0])
    ground = digits._make_ground(rng, images.shape[1:3])
    ink = np.abs(images[0].astype(int) - ground).max(2) > 40
    stroke = targets[0] > 0
    assert not (ink & ~stroke).any()
    assert (ink & stroke).sum() > 0.6 * stroke.sum()


def test_a_glyph_has_the_class_of_its_digit_and_thick_strokes():
    samples = read_digit_samples("train")
    for digit in range(10):
        only = samples[0][samples[1] == digit], samples[1][samples[1] == digit]
        glyph = digits._Glyph.draw(np.random.default_rng(digit), only)
        assert glyph.label == digit + 1
        assert glyph.opacity.shape == glyph.stroke.shape
        assert glyph.opacity[~glyph.stroke].max(initial=0) == 0
        assert glyph.stroke.sum() > 3 * max(glyph.stroke.shape)


def test_labelled_patches_have_a_digit_in_the_middle():
    patches, labels = make_digit_patches(200, jitter=0)
    assert (patches.shape, patches.dtype, labels.dtype) == ((200, 48, 48, 3), np.uint8, np.int64)
    assert 0.15 < (labels == 0).mean() < 0.35
    np.testing.assert_array_equal(patches[:5], make_digit_patches(5, jitter=0)[0])
    middle = patches[:, 18:30, 18:30].astype(int)
    spread = np.ptp(middle, axis=(1, 2)).max(1)
    assert np.median(spread[labels > 0]) > 1.3 * np.median(spread[labels == 0])


def test_the_written_data_set_is_read_back(tmp_path):
    root = write_digit_dataset(tmp_path / "deep" / "digits", train=3, val=2, size=(64, 80), seed=7)
    assert [path.name for path in root.parent.iterdir()] == ["digits"]
    dataset = find_dataset(root)
    assert dataset.labels == DIGIT_LABELS
    for split, count in (("train", 3), ("val", 2)):
        images, targets = make_digit_scenes(count, (64, 80), 7, split)
        for index, sample in enumerate(dataset.split(split)):
            image, target = dataset.read(sample)
            np.testing.assert_array_equal(image, images[index])
            np.testing.assert_array_equal(target, targets[index])
        assert sum(read_statistics(dataset, split).pixels) == targets.size


def test_a_folder_with_files_is_refused_and_not_changed(tmp_path):
    (tmp_path / "other.txt").write_text("text")
    with refuses("folder-not-empty", tmp_path):
        write_digit_dataset(tmp_path, train=1, val=1)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_a_failed_write_leaves_no_files(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(digits, "write_label_map", fail)
    with pytest.raises(OSError, match="disk full"):
        write_digit_dataset(tmp_path / "digits", train=1, val=1)
    assert list(tmp_path.iterdir()) == []


def test_small_scenes_and_unknown_splits_are_refused():
    with refuses("scene-too-small", "48 pixels"):
        make_digit_scenes(1, (47, 100))
    with refuses("unknown-digit-split", "'test'"):
        make_digit_patches(1, split="test")


def test_a_missing_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._load.cache_clear()
    with pytest.raises(MissingExtra, match=r"pip install .*\[train\]"):
        read_digit_samples("train")
