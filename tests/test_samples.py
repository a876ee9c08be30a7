"""Samples of a training: the memory that decoded ones take, and the crops of repeated ones."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.errors import DataError
from fullconv.images import write_image
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.data_module import DataModule
from fullconv.training.distill.unlabelled import MixedSamples
from fullconv.training.frozen_features import FeatureCache
from fullconv.training.recipe import Recipe
from fullconv.training.samples import BatchOrder

SIZE = (48, 48)
BYTES = 4 * 48 * 48
"""The bytes of a decoded sample."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("samples") / "digits", train=3, val=3, size=SIZE)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        write_image(tmp_path / f"photo {number}.png", np.full((*SIZE, 3), 40 * number, np.uint8))
    return tmp_path


def test_all_sets_of_samples_together_take_half_of_the_free_memory(
    data: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.training.samples.free_memory", lambda: 2 * 5 * BYTES)
    module = DataModule(find_dataset(data), Recipe(crop=32, batch_size=2))
    module.mix_in(photos)
    assert isinstance(module.train_set, MixedSamples)
    sets = (module.train_samples, module.val_samples, module.train_set.unlabelled)
    for samples in sets:
        for index in range(3):
            samples.decode(index)
    assert sum(len(samples._cache) for samples in sets) == 5


def test_the_time_of_decoding_is_estimated_for_images_that_will_stay_in_memory(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullconv.training.samples.free_memory", lambda: 2 * 4 * BYTES)
    module = DataModule(find_dataset(data), Recipe(crop=32, batch_size=2))
    samples = module.train_samples
    assert module.decoding_left() == 0
    samples.decode(0)
    samples.decoding = 6.0
    assert (module.decoding, samples.decoding_left(), module.decoding_left()) == (6.0, 12.0, 12.0)
    module.val_samples.decode(0)
    module.val_samples.decode(1)
    assert samples.decoding_left() == 6.0, "only one more fits"


def test_processes_and_their_workers_share_the_memory(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation has workers, too, while those of the training wait."""
    monkeypatch.setattr("fullconv.training.samples.free_memory", lambda: 2 * 1200)
    module = DataModule(find_dataset(data), Recipe(crop=32, workers=3), processes=2)
    assert module.train_samples.room.left == 1200 / (2 * 3 * 2)
    assert DataModule(find_dataset(data), Recipe(crop=32), processes=2).train_samples.room.left == 600


@pytest.mark.parametrize("batch", [4, 8])
def test_a_batch_that_is_filled_up_holds_no_crop_twice(data: Path, batch: int) -> None:
    samples = DataModule(find_dataset(data), Recipe(crop=32, batch_size=batch)).train_samples
    (positions,) = BatchOrder(3, batch, seed=1, epoch=2)
    indices = [number % 3 for _, number in positions]
    assert indices == (3 * indices[:3])[:batch]
    crops = [samples[position][0] for position in positions]
    assert not any(torch.equal(one, other) for one, other in combinations(crops, 2))


def test_an_order_without_repeats_has_the_indices_of_the_samples() -> None:
    assert sorted(position for batch in BatchOrder(6, 3, seed=1, epoch=2) for position in batch) == [
        (2, index) for index in range(6)
    ]


def test_repeats_of_cached_features_are_those_of_another_view(data: Path) -> None:
    samples = DataModule(find_dataset(data), Recipe(crop=32)).train_samples
    features = FeatureCache(samples, build(NetSpec("digits", 11)).eval(), 2, False, lambda done, total: None)
    assert features[0, 1 - 3][0][-1].equal(features[1, 1][0][-1])
    assert features[0, 1 - 6][0][-1].equal(features[0, 1][0][-1])


def test_damaged_photos_are_found_before_the_first_step_and_name_their_folder(data: Path, photos: Path) -> None:
    module = DataModule(find_dataset(data), Recipe(crop=32, batch_size=2))
    room = module.train_samples.room.left
    module.mix_in(photos)
    assert module.train_samples.room.left == room, "the labelled images come first"
    for name in ("photo 1.png", "photo 2.png"):
        path = photos / name
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError) as caught:
        module.mix_in(photos)
    assert "photo 1.png" in str(caught.value)
    assert f"remove it from {photos} (--unlabelled-images)" in str(caught.value)
    assert str(caught.value).endswith("\n1 more cannot be read")
    assert "fullconv check" not in str(caught.value)
    assert module.val_samples.remedy.startswith("fullconv check ")
