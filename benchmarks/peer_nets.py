"""The networks that `peers.py` compares: how their users train them and label images with them.

- Ours run as in `fullconv train` and `fullconv predict`. Training uses autocast to bfloat16 if the processor has it,
  channels last, the banded loss, clipped gradients, AdamW with groups, a schedule and an average of the weights.
  Prediction is in float32.
- The others run as their documentation shows: float32, `F.cross_entropy` on the logits at full size and one AdamW.
Images
  are padded if the network takes only multiples of its stride. With `our_settings` they also get autocast and channels
  last.

All start from uint8 images and end with logits or label maps at the size of the images, so that conversion, padding and
upsampling count. Weights are random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from fullconv.arrays import Float32, UInt8
from fullconv.labels import IGNORE_INDEX, LabelSet
from fullconv.net.classifiers.backbones import IMAGENET_MEAN, IMAGENET_STD
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.runner import label_maps
from fullconv.training.plan import has_bf16
from fullconv.training.recipe import default_recipe
from fullconv.training.task import SegmentationTask

__all__ = ["CLASSES", "NETS", "Labelling", "Net", "Training"]

CLASSES = 11
_LABELS = LabelSet.named([f"class {number}" for number in range(CLASSES)])
_MEAN, _STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


class Training(Protocol):
    """A network in training, with its optimizer."""

    def step(self, images: Tensor, target: Tensor) -> None:
        """Run forward, loss, backward and update on N x 3 x H x W and N x H x W uint8; label 255 is ignored."""
        ...


class Labelling(Protocol):
    """A network in evaluation. Images are N x H x W x 3 uint8."""

    def logits(self, images: UInt8) -> Float32:
        """Return logits, N x K x H x W float32."""
        ...

    def labels(self, images: UInt8) -> UInt8:
        """Return class ids, N x H x W uint8."""
        ...


@dataclass(frozen=True)
class Net:
    """A network by name. It is compared with our network on the same `backbone`."""

    name: str
    backbone: str
    build: Callable[[], nn.Module]

    @property
    def ours(self) -> bool:
        """Whether the network is one of fullconv."""
        return self.name.startswith("FCN-")

    def training(self, our_settings: bool) -> Training:
        """Build the network for training, with its optimizer."""
        net = self.build().train()
        return OurTraining(net) if isinstance(net, FCN) else PeerTraining(net, our_settings)

    def labelling(self, our_settings: bool) -> Labelling:
        """Build the network for evaluation."""
        net = self.build().eval()
        return OurLabelling(net) if isinstance(net, FCN) else PeerLabelling(net, our_settings)

    def count_params(self) -> int:
        """Return the number of parameters."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())

    def forward_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of the network's input for images of `size`."""
        with torch.device("meta"):
            multiple = _size_multiple(self.build())
        height, width = (-(-n // multiple) * multiple for n in size)
        return height, width


def _ours(backbone: str) -> Net:
    return Net("FCN-8s", backbone, lambda: rebuild(NetSpec(backbone, CLASSES, stride=8)))


def _smp(name: str, backbone: str) -> Net:
    return Net(
        f"smp {name}",
        backbone,
        lambda: smp.create_model(name, encoder_name=backbone, encoder_weights=None, classes=CLASSES),
    )


def _torchvision() -> nn.Module:
    net: nn.Module = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=False
    )
    return net


NETS = (
    _ours("vgg16"),
    _ours("resnet50"),
    Net("torchvision fcn_resnet50", "resnet50", _torchvision),
    *(_smp(name, "resnet50") for name in ("Unet", "FPN", "DeepLabV3Plus")),
    _ours("mobilenet_v2"),
    *(_smp(name, "mobilenet_v2") for name in ("Unet", "FPN", "DeepLabV3Plus")),
)


def compute_our_loss(task: SegmentationTask, images: Tensor, target: Tensor) -> Tensor:
    """Return the loss of one training step of `fullconv train`, which runs under autocast."""
    return task.training_step((images, target, []))


class OurTraining:
    """A step of `fullconv train` without Fabric; see `training/run/loop.py`."""

    def __init__(self, net: FCN) -> None:
        """Create task and optimizer for `net`."""
        recipe = default_recipe()
        self.bf16, self.clip = has_bf16(recipe), recipe.clip
        net = net.to(memory_format=torch.channels_last)
        self.task = SegmentationTask(net, recipe, _LABELS, torch.ones(CLASSES), total_steps=10_000)
        self.task.train()
        self.optimizer = self.task.make_optimizer()

    def step(self, images: Tensor, target: Tensor) -> None:
        """Run one step: clip gradients outside autocast, then update, then average."""
        self.task.set_rates(self.optimizer)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = compute_our_loss(self.task, images, target)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.task.net.parameters(), self.clip)
        self.optimizer.step()
        self.task.finish_step()


class PeerTraining:
    """A training with one AdamW and cross-entropy; with `our_settings`, also autocast and channels last."""

    def __init__(self, net: nn.Module, our_settings: bool) -> None:
        """Create the optimizer for `net`."""
        self.net, self.bf16 = _set_memory_format(net, our_settings), our_settings and has_bf16(default_recipe())
        self.our_settings = our_settings
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step(self, images: Tensor, target: Tensor) -> None:
        """Run one step; padded pixels are ignored."""
        multiple = _size_multiple(self.net)
        images, target = _pad(images, multiple, 0), _pad(target, multiple, IGNORE_INDEX)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = _forward(self.net, _normalize(images, self.our_settings))
        loss = functional.cross_entropy(logits.float(), target.long(), ignore_index=IGNORE_INDEX)
        torch.autograd.backward(loss)
        self.optimizer.step()
        loss.item()


class OurLabelling:
    """Our network in evaluation, as `fullconv predict` runs it."""

    def __init__(self, net: FCN) -> None:
        """Wrap the network in a runner."""
        self.runner = TorchRunner(net, _LABELS)

    def logits(self, images: UInt8) -> Float32:
        """Return logits, N x K x H x W float32."""
        return self.runner.logits(images)

    def labels(self, images: UInt8) -> UInt8:
        """Return class ids, N x H x W uint8."""
        return label_maps(self.runner, images)


class PeerLabelling:
    """A network of others in evaluation, in float32; with `our_settings`, channels last."""

    def __init__(self, net: nn.Module, our_settings: bool) -> None:
        """Set the memory format of the network."""
        self.net, self.our_settings = _set_memory_format(net, our_settings), our_settings

    def logits(self, images: UInt8) -> Float32:
        """Return logits, N x K x H x W float32."""
        logits: Float32 = self._logits(images).numpy()
        return logits

    def labels(self, images: UInt8) -> UInt8:
        """Return class ids, N x H x W uint8."""
        best: UInt8 = self._logits(images).argmax(1).to(torch.uint8).numpy()
        return best

    @torch.inference_mode()
    def _logits(self, images: UInt8) -> Tensor:
        height, width = images.shape[1:3]
        batch = _pad(torch.from_numpy(images).permute(0, 3, 1, 2), _size_multiple(self.net), 0)
        return _forward(self.net, _normalize(batch, self.our_settings))[:, :, :height, :width]


def _set_memory_format(net: nn.Module, our_settings: bool) -> nn.Module:
    return net.to(memory_format=torch.channels_last) if our_settings else net


def _size_multiple(net: nn.Module) -> int:
    """Return the number that height and width must be multiples of."""
    return int(net.encoder.output_stride) if getattr(net, "requires_divisible_input_shape", False) else 1  # type: ignore[union-attr,arg-type]


def _pad(batch: Tensor, multiple: int, value: int) -> Tensor:
    """Pad on the right and at the bottom to multiples of `multiple`."""
    below, right = (-n % multiple for n in batch.shape[-2:])
    return functional.pad(batch, (0, right, 0, below), value=value) if below or right else batch


def _normalize(images: Tensor, our_settings: bool) -> Tensor:
    """Convert uint8 to floats, normalised by ImageNet's mean and standard deviation, in the network's memory format."""
    order = torch.channels_last if our_settings else torch.contiguous_format
    return ((images.float() / 255 - _MEAN) / _STD).contiguous(memory_format=order)


def _forward(net: nn.Module, batch: Tensor) -> Tensor:
    """Return the logits; torchvision's networks return them in a dictionary."""
    out = net(batch)
    logits: Tensor = out["out"] if isinstance(out, dict) else out
    return logits
