"""Validation during a training: tiles give the labels of the whole image, and a full GPU names the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.net.fcn.network import FCN, build
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.task import SegmentationTask, explain_image_memory, iterate_labels
from fullconv.training.train import train
from refusals import refuses
from test_train import job

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")


def random_net(**values: object) -> FCN:
    torch.manual_seed(1)
    net = build(NetSpec("digits", 4, **values))  # type: ignore[arg-type]
    for name, parameter in net.named_parameters():
        if "score" in name and parameter.ndim > 1:
            nn.init.normal_(parameter)
    return net.eval()


@pytest.mark.parametrize("size", [(350, 290), (40, 700), (33, 47)])
@pytest.mark.parametrize("stride", [32, 8])
@torch.no_grad()
def test_tiles_count_the_labels_of_the_whole_image_once(size: tuple[int, int], stride: int) -> None:
    net = random_net(stride=stride)
    blocks = torch.rand(1, 3, size[0] // 16 + 1, size[1] // 16 + 1).repeat_interleave(16, 2).repeat_interleave(16, 3)
    image, target = (255 * blocks[..., : size[0], : size[1]]).byte(), torch.randint(0, 4, (1, *size)).byte()
    counts = []
    for most in (10**9, 20_000):
        parts = list(iterate_labels(net, (image, target, ["a"]), most))
        assert sum(true.numel() for true, _ in parts) == target.numel()
        assert all(true.shape == predicted.shape for true, predicted in parts)
        pairs = torch.cat([(4 * true + predicted).flatten() for true, predicted in parts])
        counts.append(torch.bincount(pairs, minlength=16))
    assert len(parts) > 1 or size == (33, 47)
    assert abs(counts[0] - counts[1]).sum() <= 4  # logits differ by rounding
    assert counts[0].count_nonzero() > 4 or size == (33, 47)


def test_networks_with_global_context_are_not_cut() -> None:
    net = random_net(stride=8)
    net.exact = False
    seen = []
    net.encode = lambda image: seen.append(image.shape[-2:]) or FCN.encode(net, image)  # type: ignore[method-assign]
    with torch.no_grad():
        image, target = torch.zeros(1, 3, 300, 200, dtype=torch.uint8), torch.zeros(1, 300, 200, dtype=torch.uint8)
        list(iterate_labels(net, (image, target, ["a"]), 20_000))
    assert seen == [(300, 200)]


@pytest.mark.parametrize("where", ["features", "plan", "validation"])
def test_a_gpu_without_memory_for_a_validation_image_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    dataset = find_dataset(write_digit_dataset(tmp_path / "data", train=4, val=1, size=(48, 56)))
    encode, steps = FCN.encode, SegmentationTask.finish_step
    finished = [where == "plan"]
    job_of = job(epochs=1, crop=32)
    if where == "features":
        job_of = replace(job_of, spec=NetSpec("digits", 11, 32, fixed=True))

    def fail(net: FCN, image: torch.Tensor) -> list[torch.Tensor]:
        whole = where == "features" and image.shape[-1] == 56
        if whole or (not torch.is_grad_enabled() and finished[0]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return encode(net, image)

    def finish(task: SegmentationTask) -> None:
        steps(task)
        finished[0] = True

    monkeypatch.setattr(FCN, "encode", fail)
    monkeypatch.setattr(SegmentationTask, "finish_step", finish)
    name = dataset.split("val")[0].name
    with refuses("gpu-memory", f"validation image {name} (56 x 48 pixels)", "--accelerator cpu"):
        train(dataset, job_of, tmp_path / "run")


def test_a_lack_of_memory_on_the_cpu_names_the_image() -> None:
    error = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
    image = torch.zeros(1, 48, 56)
    with refuses("too-little-memory", "validation image a (56 x 48 pixels)"), explain_image_memory("a", image):
        raise error
