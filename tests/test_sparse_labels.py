"""Masks that label a few pixels and leave the rest 255: crops show labels, and scores count labelled pixels."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

import fullconv
from command_line import check
from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import describe_labelled, read_training_data
from fullconv.evaluation.evaluate import evaluate
from fullconv.evaluation.measure import measure
from fullconv.labels import LabelSet
from fullconv.metrics import Scores, confusion_matrix
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.report.page import write_report
from fullconv.report.source import Source
from fullconv.runtime.runner import largest
from fullconv.training.augment import GREY, Augmentation, LabelledCrop, RandomScale
from fullconv.training.choose import choose_stride
from fullconv.training.recipe import default_recipe
from fullconv.training.samples import BatchOrder, SegmentationDataset
from fullconv.training.task import SegmentationTask
from geotiffs import LABELS, Shifted

SIZE = (150, 200)


def scribble(seed: int) -> UInt8:
    """Return a mask with a stroke of ground, 3 pixels wide, and one of roof; the rest is 255."""
    rng, mask = np.random.default_rng(seed), np.full(SIZE, 255, np.uint8)
    for label in (0, 1):
        top, left = int(rng.integers(0, SIZE[0] - 3)), int(rng.integers(0, SIZE[1] - 40))
        mask[top : top + 3, left : left + 40] = label
    return mask


def write_data(root: Path, blank: tuple[str, ...] = ()) -> Path:
    """Write four training pairs and two validation pairs; the masks of `blank` are 255 everywhere."""
    for split, seeds in (("train", range(4)), ("val", range(4, 6))):
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for seed in seeds:
            noise = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
            mask = np.full(SIZE, 255, np.uint8) if str(seed) in blank else scribble(seed)
            Image.fromarray(noise).save(root / "images" / split / f"{seed}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{seed}.png")
    (root / "classes.txt").write_text("ground\nroof\nwater\n", encoding="utf-8")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_crops_of_dense_masks_are_those_of_a_plain_random_crop() -> None:
    """With some ignored pixels, bit for bit."""
    image = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    target = torch.randint(0, 3, (60, 90), dtype=torch.uint8)
    target[:, :20] = 255
    padding = {tv_tensors.Image: GREY, tv_tensors.Mask: 255}
    plain = v2.Compose([
        RandomScale((0.5, 2.0)), v2.RandomCrop(32, pad_if_needed=True, fill=padding), v2.RandomHorizontalFlip(0.5),
        v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),
    ])  # fmt: skip
    for seed in range(40):
        crop = Augmentation(32, (0.5, 2.0), 0.5, 0.3)(image, target, seed)
        torch.manual_seed(seed)
        expected = plain(tv_tensors.Image(image), tv_tensors.Mask(target))
        if (expected[1] != 255).any():
            assert all(torch.equal(a, b.as_subclass(Tensor)) for a, b in zip(crop, expected, strict=True))
        else:
            assert (crop[1] != 255).any()


@pytest.mark.parametrize("crop", [32, 96, 180])
def test_every_crop_of_a_scribble_shows_labels(crop: int) -> None:
    """Of an image that is larger than the crop, or smaller in one direction; image and label map stay aligned."""
    target = torch.from_numpy(scribble(1))
    image = target.expand(3, -1, -1)
    starts = set()
    for seed in range(60):
        pixels, labels = Augmentation(crop, (1.0, 1.0), 0.0, 0.0, (255, 255, 255))(image, target, seed)
        assert pixels.shape == (3, crop, crop)
        assert torch.equal(pixels[0], labels)
        assert (labels != 255).any()
        starts.add(tuple((labels != 255).nonzero()[0].tolist()))
    assert len(starts) > 20
    assert {int(label) for label in np.unique(target)} == {0, 1, 255}


def test_crops_reach_the_corners_of_the_image() -> None:
    for place in ((0, 0), (0, 199), (149, 0), (149, 199)):
        mask = torch.full(SIZE, 255, dtype=torch.uint8)
        mask[place] = 1
        crop = LabelledCrop(32, pad_if_needed=True, fill={tv_tensors.Mask: 255})
        assert all((crop(tv_tensors.Mask(mask)) == 1).sum() == 1 for _ in range(20))


def make_samples(root: Path, crop: int = 48, scale: tuple[float, float] = (0.5, 2.0)) -> SegmentationDataset:
    return SegmentationDataset(find_dataset(root), "train", Augmentation(crop, scale, 0.5, 0.3), seed=3)


def test_images_without_labels_are_not_drawn(tmp_path: Path) -> None:
    """Their turn goes to the next image with labels, at any epoch."""
    samples = make_samples(write_data(tmp_path / "data", blank=("1", "2")))
    items = [samples[epoch, index] for epoch in range(5) for index in range(4)]
    assert [name for _, _, name in items] == ["0", "3", "3", "3"] * 5
    assert all((target != 255).any() for _, target, _ in items)


def test_a_crop_without_labels_after_a_resize_is_drawn_again(tmp_path: Path) -> None:
    """Half of all resizes by one half remove a single pixel."""
    root = write_data(tmp_path / "data")
    mask = np.full(SIZE, 255, np.uint8)
    mask[75, 101] = 1
    for path in (root / "masks" / "train").iterdir():
        Image.fromarray(mask).save(path)
    samples = make_samples(root, scale=(0.5, 1.0))
    assert all((samples[epoch, 0][1] == 1).any() for epoch in range(30))


def test_a_resumed_epoch_has_the_same_crops(data: Path) -> None:
    """An item depends on its position only, not on the items before it."""
    order = [position for batch in BatchOrder(4, 2, seed=3, epoch=2) for position in batch]
    late = [position for batch in BatchOrder(4, 2, seed=3, epoch=2, start=1) for position in batch]
    whole, rest = make_samples(data), make_samples(data)
    expected = [whole[position] for position in order][2:]
    for one, other in zip(expected, (rest[position] for position in late), strict=True):
        assert one[2] == other[2]
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_the_share_is_logged_and_strokes_are_not_measured_as_objects(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fullconv"):
        _, statistics = read_training_data(data)
    labelled = sum(int((scribble(seed) != 255).sum()) for seed in range(4))
    assert statistics.labelled == labelled / (4 * SIZE[0] * SIZE[1])
    assert statistics.widths == (None, None, None)
    assert "0.8 % of the pixels are labelled; training crops show labels" in caplog.text
    assert choose_stride(statistics).value == "8"
    assert "few pixels are labelled" in choose_stride(statistics).reason


def test_a_share_of_nearly_all_pixels_is_not_worth_a_line() -> None:
    assert describe_labelled(0.95) == describe_labelled(1) == ""
    assert describe_labelled(0.123).startswith("12 % of the pixels are labelled")


def test_check_states_the_share_instead_of_alarms(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "classes.txt").write_text("ground\nroof\n", encoding="utf-8")
    monkeypatch.chdir(data.parent)
    assert check(monkeypatch, data, "--json", "found.json") == 0
    assert "\n0.8 % of the pixels are labelled; " in capsys.readouterr().out
    assert "<p>0.8 % of the pixels are labelled; " in Path("data-check.html").read_text(encoding="utf-8")
    values = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert values["findings"] == []
    assert values["labelled"] == pytest.approx(0.008, abs=0.0001)


def test_images_without_labels_are_one_warning_that_says_they_are_not_used(tmp_path: Path) -> None:
    root = write_data(tmp_path / "data", blank=("1", "2"))
    (root / "classes.txt").write_text("ground\nroof\n", encoding="utf-8")
    (group,) = fullconv.check(root).groups
    assert (group.kind, len(group.faults)) == ("all-ignored", 2)
    assert group.remedy == "continue: training and scores do not use it; or label it"


def labelled_scores(dataset: DataSet, labels: LabelSet) -> Scores:
    """Score `Shifted` on the labelled pixels of the validation images, picked one by one."""
    confusion = np.zeros((3, 3), np.int64)
    for sample in dataset.split("val"):
        image, target = dataset.read(sample)
        predicted = Shifted().label_maps(image[None])[0]
        held = target != 255
        confusion += confusion_matrix(target[held], predicted[held], 3)
    return Scores.from_confusion(confusion, labels.class_names)


def test_scores_count_labelled_pixels_only(data: Path, tmp_path: Path) -> None:
    dataset = find_dataset(data)
    expected = labelled_scores(dataset, LABELS)
    assert evaluate(Shifted(), dataset, dataset.split("val")).confusion.tolist() == expected.confusion.tolist()
    measured = measure(Shifted(), dataset, "val")
    assert measured.scores.confusion.tolist() == expected.confusion.tolist()
    write_report(tmp_path / "page.html", measured, Source(tmp_path))
    assert "% of the pixels are labelled); " in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_validation_during_training_counts_labelled_pixels_only(data: Path) -> None:
    torch.manual_seed(0)
    labels = LabelSet.named([f"c{number}" for number in range(11)])
    net = build(NetSpec("digits", 11, 32))
    task = SegmentationTask(net, default_recipe(), labels, torch.ones(11), 1).eval()
    samples = SegmentationDataset(find_dataset(data), "val")
    image, target, name = samples[0, 0]
    with torch.no_grad():
        task.validation_step((image[None], target[None], [name]))
        predicted = largest(net.eval()(image[None]).numpy())[0]
    held = target.numpy() != 255
    expected = confusion_matrix(target.numpy()[held], predicted[held], 11)
    assert task.confusion.numpy().tolist() == expected.tolist()
