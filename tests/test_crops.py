"""Colours and damage of cameras, crops around rare classes and pasted objects: what they do, seeded and resumable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import DataSetStatistics, read_statistics
from fullconv.demo.digits import write_digit_dataset
from fullconv.training.augment import Augmentation
from fullconv.training.crops.camera import CAMERA, RandomBlur, RandomHue, RandomJpeg, make_camera
from fullconv.training.crops.rare import CopyPaste, RareClasses, connected_region
from fullconv.training.data_module import DataModule
from fullconv.training.recipe import Recipe
from fullconv.training.train import train
from test_train import assert_same_end, job

STRONG = {"hue": 0.5, "gamma": 1.0, "grey": 1.0, "blur": 3.0, "noise": 40.0, "jpeg": 1.0}


def photo(channels: int = 3, size: tuple[int, int] = (48, 64)) -> Tensor:
    """Return a smooth random picture, uint8 C x H x W."""
    torch.manual_seed(5)
    small = torch.rand(1, channels, 6, 8)
    return (255 * torch.nn.functional.interpolate(small, size, mode="bilinear")[0]).to(torch.uint8)


def augmented(image: Tensor, target: Tensor, seed: int = 0, **camera: float) -> tuple[Tensor, Tensor]:
    fill = (0,) * len(image)
    return Augmentation(0, (1.0, 1.0), 0.0, 0.0, fill, camera=camera)(image, target, seed)


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_each_strength_changes_images_by_their_seed_and_no_label(name, channels):
    image, target = photo(channels), torch.randint(0, 4, (48, 64)).to(torch.uint8)
    results = [augmented(image, target, seed, **{name: STRONG[name]}) for seed in (*range(12), 3)]
    assert all(torch.equal(labels, target) for _, labels in results)
    assert torch.equal(results[3][0], results[-1][0])
    assert all(pixels.dtype == torch.uint8 and pixels.shape == image.shape for pixels, _ in results)
    takes = CAMERA[name][1]
    changed = sum(not torch.equal(pixels, image) for pixels, _ in results[:12])
    if takes and channels not in takes:
        assert changed == 0
    else:
        assert changed >= (3 if name in ("blur", "noise", "jpeg") else 11)
    assert torch.equal(augmented(image, target, 3, **dict.fromkeys(STRONG, 0.0))[0], image)


def test_blur_is_that_of_a_dense_gaussian_and_keeps_the_mean():
    image = photo()
    blurred = RandomBlur(2.0).change(image, 1.7)
    offsets = np.arange(-6, 7)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.7**2))
    kernel /= kernel.sum()
    padded = np.pad(image.numpy().astype(float), ((0, 0), (6, 6), (6, 6)), mode="edge")
    for channel, row, column in ((0, 0, 0), (1, 20, 30), (2, 47, 63)):
        expected = (padded[channel, row : row + 13, column : column + 13] * kernel).sum()
        assert abs(int(blurred[channel, row, column]) - expected) <= 0.51


def test_hue_keeps_grey_pixels_and_brightness_and_a_full_turn_changes_nothing():
    image = photo() // 2 + 64
    turned = RandomHue(0.5).change(image, 0.2)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert ((turned - image.float()) * weights).sum(0).abs().max() < 1.2
    assert (turned.int() - image.int()).abs().max() > 20
    assert (RandomHue(1.0).change(image, 1.0).int() - image.int()).abs().max() <= 1
    grey = image[:1].expand(3, -1, -1)
    assert (RandomHue(0.5).change(grey, 0.37).int() - grey.int()).abs().max() <= 1


def test_jpeg_of_a_lower_quality_damages_more():
    image = photo()
    errors = [(RandomJpeg(1.0).change(image, quality).int() - image.int()).abs().float().mean() for quality in (95, 10)]
    assert errors[0] < 3 < errors[1]


def test_transforms_that_do_not_apply_are_left_out():
    assert [type(step).__name__ for step in make_camera(STRONG, 5)] == ["RandomGamma", "RandomBlur", "RandomNoise"]
    assert len(make_camera(STRONG, 3)) == 6
    assert make_camera(dict.fromkeys(STRONG, 0.0), 3) == []


def statistics(pixels: tuple[int, ...], shows: list[set[int]]) -> DataSetStatistics:
    names = tuple(map(str, range(len(pixels))))
    return DataSetStatistics(len(shows), names, pixels, (None,) * len(pixels), shows=tuple(map(frozenset, shows)))


def test_rare_classes_have_less_than_the_mean_and_chances_by_inverse_frequency():
    rare = RareClasses.of(statistics((900, 60, 30, 0, 10), [{0}, {0, 1}, {0, 2, 4}, {0, 1, 255}]))
    assert rare is not None
    assert rare.chances == pytest.approx((0, 1 / 9, 2 / 9, 0, 6 / 9))
    assert rare.images == ((0, 1, 2, 3), (1, 3), (2,), (), (2,))
    assert RareClasses.of(statistics((50, 50), [{0, 1}])) is None


def test_the_statistics_name_the_classes_of_each_image(tmp_path: Path):
    dataset = find_dataset(write_digit_dataset(tmp_path / "data", train=5, val=1, size=(64, 80)))
    shows = read_statistics(dataset).shows
    for sample, shown in zip(dataset.split("train"), shows, strict=True):
        assert shown == set(np.unique(dataset.read_target(sample)).tolist())


def scene(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return an image whose red channel is its row and whose green channel is its column, and a mask with a dot."""
    rows, columns = torch.arange(size[0])[:, None].expand(size), torch.arange(size[1]).expand(size)
    image = torch.stack([rows, columns, torch.zeros(size)]).to(torch.uint8)
    target = torch.zeros(size, dtype=torch.uint8)
    target[90:92, 150:152] = 1
    return image, target


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_share_of_the_crops_is_centred_on_a_rare_class(share):
    image, target = scene((120, 200))
    rare = RareClasses((0.0, 1.0), ((), (0,)))
    augmentation = Augmentation(33, (1.0, 1.0), 0.0, 0.0, rare=rare, rare_crops=share)
    crops = [augmentation(image, target, seed)[1] for seed in range(200)]
    centred = sum(bool(crop[16, 16] == 1) for crop in crops)
    assert abs(centred - 200 * share) <= (25 if share == 0.6 else 2)
    again = augmentation(image, target, 7)[1]
    assert torch.equal(again, crops[7])


def test_a_rare_crop_at_the_border_is_as_near_as_the_border_allows_and_pads_small_images():
    rare = RareClasses((0.0, 1.0), ((), (0,)))
    image, target = scene((120, 200))
    target = target.roll((28, 48), (0, 1))  # the dot is in the corner
    crop, labels = Augmentation(32, (1.0, 1.0), 0.0, 0.0, rare=rare, rare_crops=1.0)(image, target, 0)
    assert (int(crop[0, 0, 0]), int(crop[1, 0, 0])) == (88, 168)
    small, small_labels = image[:, 80:100, 140:160], scene((120, 200))[1][80:100, 140:160]
    _, labels = Augmentation(32, (1.0, 1.0), 0.0, 0.0, rare=rare, rare_crops=1.0)(small, small_labels, 0)
    assert labels.shape == (32, 32)
    assert int((labels == 1).sum()) == 4


def regions_by_flood(inside: np.ndarray, row: int, column: int) -> np.ndarray:
    """Return the 8-connected region by a plain flood fill."""
    region, waiting = np.zeros_like(inside), [(row, column)]
    while waiting:
        y, x = waiting.pop()
        if 0 <= y < inside.shape[0] and 0 <= x < inside.shape[1] and inside[y, x] and not region[y, x]:
            region[y, x] = True
            waiting += [(y + down, x + across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return region


@pytest.mark.parametrize("density", [0.2, 0.4, 0.6, 1.0])
def test_connected_regions_are_those_of_a_flood_fill(density):
    generator = np.random.default_rng(int(10 * density))
    for size in ((1, 9), (9, 1), (12, 17), (25, 25)):
        inside = generator.random(size) < density
        for row, column in np.argwhere(inside)[:4]:
            expected = regions_by_flood(inside, row, column)
            np.testing.assert_array_equal(connected_region(inside, row, column), expected)


def paste(probability: float, scale: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> CopyPaste:
    """Return a `CopyPaste` of an L of 24 pixels, whose colours are a ramp."""
    target = torch.zeros(40, 40, dtype=torch.uint8)
    target[10:18, 20:22] = 2
    target[16:18, 22:26] = 2
    image = torch.arange(1600).view(40, 40).remainder(251).to(torch.uint8).expand(3, -1, -1)
    return CopyPaste(
        lambda index: (image, target), RareClasses((0.0, 0.0, 1.0), ((), (), (0,))), probability, scale, flip
    )


def test_pasted_objects_have_their_shape_and_colours_and_the_inputs_do_not_change():
    image, target = torch.zeros(3, 30, 30, dtype=torch.uint8), torch.ones(30, 30, dtype=torch.uint8)
    source, mask = paste(1.0).decode(0)
    shape = (mask == 2)[10:18, 20:26]
    alone = 0
    for seed in range(30):
        torch.manual_seed(seed)
        pixels, labels = paste(1.0)(image, target)
        count = int((labels == 2).sum())
        assert set(labels.unique().tolist()) == {1, 2}
        if count == 24 and (box := (labels == 2).nonzero()).numel():
            (top, left), (bottom, right) = box.amin(0).tolist(), box.amax(0).tolist()
            if (bottom - top, right - left) == (7, 5):
                alone += 1
                assert torch.equal((labels == 2)[top : bottom + 1, left : right + 1], shape)
                part = pixels[:, top : bottom + 1, left : right + 1]
                assert torch.equal(part, source[:, 10:18, 20:26] * shape)
        assert torch.equal(pixels == 0, (labels == 1).expand(3, -1, -1))
    assert alone >= 4
    assert image.count_nonzero() == 0
    assert (target == 1).all()


def test_objects_are_pasted_with_the_probability_and_fit_into_small_crops():
    image, target = torch.zeros(3, 30, 30, dtype=torch.uint8), torch.ones(30, 30, dtype=torch.uint8)
    torch.manual_seed(0)
    pasted = sum(bool((paste(0.3)(image, target)[1] == 2).any()) for _ in range(300))
    assert 60 <= pasted <= 120
    for _ in range(20):
        labels = paste(1.0, (3.0, 8.0), 0.5)(image, target)[1]
        assert labels.shape == (30, 30)
        assert (labels == 2).any()
    tiny = torch.zeros(3, 5, 5, dtype=torch.uint8), torch.ones(5, 5, dtype=torch.uint8)
    assert torch.equal(paste(1.0)(*tiny)[1], tiny[1])  # the object is larger than the crop


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("crops") / "digits", train=14, val=3, size=(64, 80))


ALL = {"rare_crops": 0.5, "copy_paste": 0.7, "hue": 0.1, "gamma": 0.3, "grey": 0.1, "blur": 1, "noise": 8, "jpeg": 0.5}


def test_samples_depend_on_seed_epoch_and_index_only(data: Path):
    dataset = find_dataset(data)
    rare = RareClasses.of(read_statistics(dataset))
    recipe = Recipe(crop=64, **ALL)

    def samples(positions: list[tuple[int, int]]) -> Iterator[tuple[Tensor, Tensor]]:
        train_samples = DataModule(dataset, recipe, rare=rare).train_samples
        yield from (train_samples[position][:2] for position in positions)

    positions = [(0, 3), (1, 3), (0, 5)]
    forward, backward = list(samples(positions)), list(samples(positions[::-1]))[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    plain = DataModule(dataset, Recipe(crop=64)).train_samples[0, 3]
    assert not torch.equal(plain[0], forward[0][0])


def test_a_run_with_all_of_it_resumes_to_the_same_weights(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fullconv.training.task import SegmentationTask

    values = {**ALL, "loss": "lovasz"}
    dataset = find_dataset(data)
    train(dataset, job(**values), tmp_path / "whole")

    class Stop(Exception):
        pass

    finish = SegmentationTask.finish_step

    def stop(task: SegmentationTask) -> None:
        finish(task)
        if task.step == 3:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "finish_step", stop)
        with pytest.raises(Stop):
            train(dataset, job(**values, save_minutes=0), tmp_path / "parts")
    train(dataset, job(**values), tmp_path / "parts", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
