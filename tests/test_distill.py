"""The imitation of a teacher: value and gradient, runs with images without masks, and what is refused."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.images import write_image
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import FCN, build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.onnx_export import export
from fullconv.runtime.models import bundled
from fullconv.training.data_module import DataModule
from fullconv.training.distill.teacher import Teacher, compute_imitation, describe_teacher, load_teacher
from fullconv.training.distill.unlabelled import MixedOrder, count_unlabelled, describe_unlabelled
from fullconv.training.job import TrainingOptions, make_job
from fullconv.training.recipe import Recipe
from fullconv.training.samples import BatchOrder
from fullconv.training.task import SegmentationTask
from fullconv.training.train import train
from refusals import refuses
from test_train import assert_same_end, job

SIZE = (45, 62)


def random_net(stride: int, seed: int, upsample: str = "fixed") -> FCN:
    """Build a network for digits whose scores are random, in evaluation mode."""
    torch.manual_seed(seed)
    net = build(NetSpec("digits", 11, stride, upsample=upsample))  # type: ignore[arg-type]
    for name, parameter in net.named_parameters():
        if name.startswith("score"):
            nn.init.normal_(parameter, std=0.3)
    return net.eval()


def images(count: int = 2) -> Tensor:
    torch.manual_seed(3)
    return torch.randint(0, 256, (count, 3, *SIZE)).to(torch.uint8)


def write_teacher(path: Path, stride: int = 16, labels: LabelSet = DIGIT_LABELS) -> Path:
    net = random_net(stride, 7)
    save_net(path, net.state_dict(), Saved(net.spec, labels, {}))
    return path


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("distill") / "digits", train=14, val=3, size=(64, 80))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name in ("a.png", "b/c.png", "d.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, generator.integers(0, 256, (70, 90, 3), np.uint8))
    return folder


def plain(net: FCN, other: FCN, batch: Tensor, temperature: float) -> Tensor:
    """Return the divergence on full logits by its formula: sum of p (log p - log q), the mean over pixels."""
    true, own = (other(batch) / temperature).softmax(1), (net(batch) / temperature).softmax(1)
    return temperature**2 * (true.detach() * (true.detach().log() - own.log())).sum(1).mean()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("upsample", ["fixed", "learned"])
def test_the_imitation_is_the_divergence_on_full_logits_with_its_gradient(temperature, upsample):
    net, other = random_net(8, 1, upsample).double(), random_net(32, 2).double()
    teacher, batch = Teacher(TorchRunner(other, DIGIT_LABELS, "cpu")), images()
    expected = plain(net, other, batch, temperature)
    parameters = [p for name, p in net.named_parameters() if "score" in name]
    gradients = torch.autograd.grad(expected, parameters)
    for rows in (3, 1000):
        score = net.score(net.encode(batch), SIZE)
        loss = compute_imitation(net, score, batch, teacher, temperature, band_bytes=rows * 4 * 11 * SIZE[1])
        torch.testing.assert_close(loss, expected)
        for one, two in zip(torch.autograd.grad(loss, parameters), gradients, strict=True):
            torch.testing.assert_close(one, two)
    total = compute_imitation(net, score, batch, teacher, temperature, normalized=False)
    torch.testing.assert_close(total, expected * 2 * SIZE[0] * SIZE[1])


def test_a_network_that_is_its_own_teacher_has_no_imitation_loss():
    net = random_net(8, 1)
    teacher = Teacher(TorchRunner(random_net(8, 1), DIGIT_LABELS, "cpu"))
    loss = compute_imitation(net, net.score(net.encode(images()), SIZE), images(), teacher, 2.0)
    assert abs(loss.item()) < 1e-5


def test_an_exported_teacher_equals_that_of_torch(teacher_file: Path, data: Path, tmp_path: Path):
    export(teacher_file, tmp_path / "teacher.onnx")
    net, dataset, batch = random_net(8, 1), find_dataset(data), images()
    score = net.score(net.encode(batch), SIZE)
    losses = [
        compute_imitation(net, score, batch, load_teacher(path, dataset), 2.0).item()
        for path in (teacher_file, tmp_path / "teacher.onnx")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] > 0.01


def test_the_loss_of_a_step_weighs_masks_and_teacher(teacher_file: Path, data: Path):
    net, target = random_net(8, 1), torch.randint(0, 11, (2, *SIZE)).to(torch.uint8)
    target[1] = 255
    teacher, batch = load_teacher(teacher_file, find_dataset(data)), images()
    assert teacher.net is not None
    recipe = Recipe(distill=0.3, temperature=2.0)
    task = SegmentationTask(net, recipe, DIGIT_LABELS, torch.ones(11), 10, teacher)
    with torch.no_grad():
        entropy = functional.cross_entropy(net(batch), target.long(), ignore_index=255)
        expected = 0.7 * entropy + 0.3 * plain(net, teacher.net, batch, 2.0)
        torch.testing.assert_close(task.compute_loss(net, batch, target), expected)
    assert not any("teacher" in name for name in task.state_dict())
    assert copy.deepcopy(task).teacher is teacher


def test_batches_hold_the_share_and_every_image_comes_equally_often():
    def batches(epoch: int, start: int = 0) -> list[list[tuple[int, int]]]:
        return list(MixedOrder(10, 7, 3, 8, seed=4, epoch=epoch, start=start))

    plain_order = list(BatchOrder(10, 5, seed=4, epoch=1))
    all_batches = [batch for epoch in range(7) for batch in batches(epoch)]
    assert [[p for p in batch if p[1] < 10] for batch in batches(1)] == plain_order
    assert all(sum(index >= 10 for _, index in batch) == 3 for batch in all_batches)
    counts = Counter(index for batch in all_batches for _, index in batch if index >= 10)
    assert set(counts) == set(range(10, 17))
    assert set(counts.values()) == {6}
    positions = [position for batch in all_batches for position in batch if position[1] >= 10]
    assert len(set(positions)) == len(positions)
    assert batches(2, start=1) == batches(2)[1:]
    halves = [sum(index >= 10 for _, index in batch[:4]) for batch in all_batches]
    assert set(halves) == {1}  # several processes get similar shares


@pytest.mark.parametrize(("share", "batch", "count"), [(0.5, 8, 4), (0.01, 8, 1), (0.99, 8, 7), (0.25, 4, 1)])
def test_a_batch_has_labelled_and_unlabelled_crops(share, batch, count):
    assert count_unlabelled(Recipe(unlabelled_share=share, batch_size=batch)) == count


def with_teacher(teacher: Path, photos: Path | None, **values: object) -> object:
    return replace(job(**values), teacher=teacher, unlabelled_images=photos)


def test_a_run_with_teacher_and_photos_resumes_to_the_same_weights(
    data: Path, photos: Path, teacher_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset, settings = find_dataset(data), with_teacher(teacher_file, photos, unlabelled_share=0.4)
    train(dataset, settings, tmp_path / "whole")
    kept = yaml.safe_load((tmp_path / "whole" / "recipe.yaml").read_text())
    assert kept["teacher"] == describe_teacher(teacher_file)
    assert kept["unlabelled_images"] == describe_unlabelled(photos)
    assert kept["unlabelled_images"]["images"] == 3

    class Stop(Exception):
        pass

    finish = SegmentationTask.finish_step

    def stop(task: SegmentationTask) -> None:
        finish(task)
        if task.step == 8:  # of 10: 14 images in batches of 2 labelled and 2 other crops give 7 steps an epoch
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "finish_step", stop)
        with pytest.raises(Stop):
            train(dataset, with_teacher(teacher_file, photos, unlabelled_share=0.4, save_minutes=0), tmp_path / "parts")
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(teacher_file.read_bytes())
    train(dataset, with_teacher(moved, photos, unlabelled_share=0.4), tmp_path / "parts", resume=True)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    other = write_teacher(tmp_path / "other.safetensors", stride=8)
    with refuses("run-settings-differ", "sha256 was"):
        train(dataset, with_teacher(other, photos, unlabelled_share=0.4), tmp_path / "parts", resume=True)


def test_photos_change_the_batches_and_have_no_labels(data: Path, photos: Path):
    module = DataModule(find_dataset(data), Recipe(crop=64, batch_size=4, copy_paste=1.0))
    before = module.steps_per_epoch()
    module.mix_in(photos)
    assert (before, module.steps_per_epoch()) == (4, 7)
    pixels, target, names = next(module.batches(0, 1))
    unlabelled = [name in {"a", "c", "d"} for name in names]
    assert unlabelled == [False, True, False, True]
    for other, labels in zip(unlabelled, target, strict=True):
        assert bool((labels == 255).all()) == other
    assert pixels.shape == (4, 3, 64, 64)


def test_teachers_that_do_not_fit_are_refused(data: Path, tmp_path: Path, teacher_file: Path):
    dataset = find_dataset(data)
    names = DIGIT_LABELS.class_names
    swapped = write_teacher(tmp_path / "swapped.safetensors", labels=LabelSet.named([names[1], names[0], *names[2:]]))
    with refuses("classes-differ", "swapped.safetensors"):
        load_teacher(swapped, dataset)
    with refuses("teacher-of-other-images", "3 channels", "5 channels"):
        load_teacher(teacher_file, replace(dataset, channels=5))
    with refuses("no-model", "nothing"):
        load_teacher(tmp_path / "nothing", dataset)


def test_photos_need_a_teacher_and_batches_of_two():
    with refuses("needs-teacher", "photos"):
        TrainingOptions(unlabelled_images="photos").check()
    for values in ({"batch_size": 1}, {"batch_size": 1, "crop": 0}):
        with refuses("no-room-for-unlabelled"):
            count_unlabelled(Recipe(**values))


def test_photos_without_masks_are_a_folder(data: Path, tmp_path: Path):
    for given in (tmp_path / "*.jpg", "-", tmp_path / "none"):
        with refuses("unlabelled-not-a-folder", given):
            TrainingOptions(teacher="street", unlabelled_images=given).check()


def test_a_name_of_a_bundled_model_is_no_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "street").mkdir()
    monkeypatch.chdir(tmp_path)
    teachers = [
        make_job(find_dataset(data), TrainingOptions(teacher=name, by_data=False)).teacher
        for name in ("street", "./street")
    ]
    assert teachers == [bundled("street"), Path("street")]
    with refuses("no-model", "nothing"):
        make_job(find_dataset(data), TrainingOptions(teacher="nothing", by_data=False))


@pytest.mark.parametrize(
    ("name", "needed", "options"),
    [
        ("distill", "--teacher", {"teacher": "street"}),
        ("temperature", "--teacher", {"teacher": "street"}),
        ("unlabelled_share", "--unlabelled-images", {"teacher": "street", "unlabelled_images": "."}),
        ("ohem_threshold", "--loss ohem", {"loss": "ohem"}),
        ("ohem_share", "--loss ohem", {"values": {"loss": "ohem"}}),
        ("momentum", "optimizer=sgd", {"recipe": "paper"}),
        ("rare_crops", "a --crop that is not 0", {"crop": 64}),
    ],
)
def test_values_that_would_change_nothing_are_refused(name: str, needed: str, options: dict[str, Any]):
    values = {name: 0.5, **options.pop("values", {})}
    TrainingOptions(**options, values=values).check()
    with refuses("value-without-effect", name, needed):
        TrainingOptions(crop=0, batch=1, values={name: 0.5}).check()


def test_epochs_suit_the_labelled_share_of_a_batch(data: Path, photos: Path):
    """A batch of 8 with 4 photos needs half of the epochs for the same steps."""
    dataset = find_dataset(data)
    statistics = replace(read_statistics(dataset, "train", "val"), images=80)
    alone, mixed = (
        make_job(dataset, TrainingOptions(teacher="street", unlabelled_images=folder), statistics).recipe
        for folder in (None, photos)
    )
    assert alone.epochs * 80 // 8 == pytest.approx(mixed.epochs * 80 // 4, rel=0.1)


def test_the_network_learns_from_the_teacher_alone(data: Path):
    """Without any mask, some steps of imitation lower the divergence from the teacher."""
    dataset: DataSet = find_dataset(data)
    other = random_net(8, 2)
    teacher = Teacher(TorchRunner(other, DIGIT_LABELS, "cpu"))
    net = random_net(8, 2)
    for name, parameter in net.named_parameters():
        if name.startswith("score"):
            nn.init.zeros_(parameter)
    task = SegmentationTask(net, Recipe(distill=1.0), dataset.labels, torch.ones(11), 10, teacher)
    batch, target = images(), torch.full((2, *SIZE), 255, dtype=torch.uint8)
    optimizer = torch.optim.SGD([p for n, p in net.named_parameters() if n.startswith("score")], lr=0.3)
    losses = []
    for _ in range(12):
        loss = task.compute_loss(net, batch, target)
        losses.append(loss.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
