"""Training of networks of segmentation_models.pytorch for `own_data.py`, as its documentation shows.

Its example for several classes (examples/camvid_segmentation_multiclass.ipynb) uses the Dice loss, Adam with 2e-4, a
cosine to zero, and augments with flips, random scale and shift, padding, a random crop, perspective, noise, and changes
of brightness and contrast, by albumentations. Here torchvision does the same kinds, without perspective and noise. What
differs, all in its favour: the encoder starts with fullconv's features; training is in bfloat16, with channels last,
where the processor has it; crops and batches are as large as fullconv's (the example's batches of 32 would give a few
dozen steps in ten minutes); and the cosine ends with the minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms import v2

from fullconv.arrays import Float32, UInt8
from fullconv.data.dataset import DataSet
from fullconv.data.statistics import choose_crop
from fullconv.geometry.tiles import Window
from fullconv.labels import IGNORE_INDEX
from fullconv.model_info import ModelInfo
from fullconv.net.classifiers.backbones import IMAGENET_MEAN, IMAGENET_STD
from fullconv.training.plan import has_bf16
from fullconv.training.recipe import default_recipe

__all__ = ["ENCODERS", "METHODS", "PeerRunner", "Trained", "train_peer"]

ENCODERS = {"mobilenet_v2": ("mobilenet_v2", ""), "efficientnet_lite0": ("tu-efficientnet_lite0", "model.")}
"""The name of each backbone in segmentation_models.pytorch, and the prefix of its parameters there."""

METHODS = ("Unet", "FPN", "DeepLabV3Plus")
LEARNING_RATE = 2e-4
MULTIPLE = 32
"""Height and width of the networks' inputs are multiples of this."""

_MEAN, _STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


@dataclass(frozen=True)
class Trained:
    """A trained network, with the steps and the seconds of its training."""

    runner: PeerRunner
    steps: int
    seconds: float
    parameters: int


class PeerRunner:
    """A network of segmentation_models.pytorch as a `Runner`, in float32, padded to multiples of 32."""

    def __init__(self, net: nn.Module, dataset: DataSet) -> None:
        """Wrap a network with the classes of the data set; images are always computed whole."""
        self.net = net.eval()
        self.info = ModelInfo(dataset.labels, (Window(0, 0), Window(0, 0)), False, dataset.input)

    @torch.inference_mode()
    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32."""
        height, width = images.shape[1:3]
        batch = normalize(torch.from_numpy(images).permute(0, 3, 1, 2))
        padded = functional.pad(batch, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
        logits: Float32 = self.net(padded.contiguous(memory_format=torch.channels_last))[..., :height, :width].numpy()
        return logits

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids."""
        maps: UInt8 = self.logits(images).argmax(1).astype(np.uint8)
        return maps


def normalize(images: Tensor) -> Tensor:
    """Map N x C x H x W uint8 to N x 3 x H x W floats; a grey image becomes three equal channels."""
    return (images.expand(-1, 3, -1, -1).float() / 255 - _MEAN) / _STD


def build(method: str, backbone: str, classes: int, weights: Path) -> nn.Module:
    """Build a network whose encoder has the features of a file; all its parameters must be there."""
    encoder, prefix = ENCODERS[backbone]
    net: nn.Module = smp.create_model(method, encoder_name=encoder, encoder_weights=None, classes=classes)
    features = {f"{prefix}{name}": value.float() for name, value in load_file(weights).items()}
    part = net.get_submodule("encoder")
    wanted = [name for name in part.state_dict() if not name.endswith("num_batches_tracked")]
    if missing := [name for name in wanted if name not in features]:
        raise SystemExit(f"{weights} has no {missing[0]}, nor {len(missing) - 1} other parameters of {encoder}")
    part.load_state_dict({name: features[name] for name in wanted}, strict=False)
    return net.to(memory_format=torch.channels_last)


def make_augmentation(crop: int) -> Callable[[Any, Any], tuple[Tensor, Tensor]]:
    """Return the augmentation of an image, C x H x W uint8, and its target, H x W."""
    empty = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE_INDEX}
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(0, translate=(0.1, 0.1), scale=(0.5, 1.5), fill=empty),
            v2.RandomCrop(crop, pad_if_needed=True, fill=empty),
            v2.RandomApply([v2.ColorJitter(0.2, 0.2)], 0.9),
        ]
    )

    def augment(image: Any, target: Any) -> tuple[Tensor, Tensor]:
        new_image, new_target = transform(tv_tensors.Image(image), tv_tensors.Mask(target))
        return new_image.as_subclass(Tensor), new_target.as_subclass(Tensor)

    return augment


def iterate_batches(dataset: DataSet, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of augmented crops without end; every pass over the images has a new order."""
    samples = [dataset.read(sample) for sample in dataset.split("train")]
    augment = make_augmentation(-(-choose_crop(dataset) // MULTIPLE) * MULTIPLE)
    chance, waiting = np.random.default_rng(seed), list[int]()
    while True:
        while len(waiting) < size:
            waiting += chance.permutation(len(samples)).tolist()
        chosen, waiting = waiting[:size], waiting[size:]
        pairs = [
            augment(torch.from_numpy(i).permute(2, 0, 1), torch.from_numpy(t))
            for i, t in map(samples.__getitem__, chosen)
        ]
        yield torch.stack([image for image, _ in pairs]), torch.stack([target for _, target in pairs])


def train_peer(
    method: str, dataset: DataSet, weights: tuple[str, Path], minutes: float, seed: int, rate: float = LEARNING_RATE
) -> Trained:
    """Train a network for so many minutes; `weights` are the backbone and the file of its features."""
    torch.manual_seed(seed)
    recipe = default_recipe()
    net = build(method, weights[0], dataset.labels.num_classes, weights[1]).train()
    loss = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORE_INDEX)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=has_bf16(recipe))
    start, steps = time.monotonic(), 0
    for images, target in iterate_batches(dataset, recipe.batch_size, seed):
        share = (time.monotonic() - start) / (60 * minutes)
        if share >= 1 and steps:
            break
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * min(1, share))) / 2
        optimizer.zero_grad()
        with autocast():
            logits = net(normalize(images).contiguous(memory_format=torch.channels_last))
        torch.autograd.backward(loss(logits.float(), target.long()))
        optimizer.step()
        steps += 1
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Trained(PeerRunner(net, dataset), steps, time.monotonic() - start, parameters)
