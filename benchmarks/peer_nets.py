"""The networks that `peers.py` compares, and how the users of each train it and label an image with it.

- Ours does what `fullconv train` and `fullconv predict` do: autocast to bfloat16 where the processor has it, channels
  last, the task's own loss, clipped gradients, AdamW in groups, a schedule, an average of the weights; float32 for
  prediction.
- The others do what their documentation shows: float32, `F.cross_entropy` on the logits at full size, one AdamW, and
  images padded where the network takes only multiples of its stride. With `our_settings` they get autocast
  and channels last as well.

All begin with uint8 images and end with logits or label maps at the size of the images, so that each pays for its own
conversion, padding and upsampling. Weights are random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from fullconv.labels import IGNORE_INDEX, LabelSet
from fullconv.learn.plan import has_bf16
from fullconv.learn.recipe import default_recipe
from fullconv.learn.task import SegmentationTask
from fullconv.net.backbones import IMAGENET_MEAN, IMAGENET_STD
from fullconv.net.fcn import FCN, rebuild
from fullconv.net.runner import TorchRunner
from fullconv.net.spec import NetSpec
from fullconv.run.runner import label_maps

__all__ = ["CLASSES", "NETS", "Labelling", "Net", "Training"]

CLASSES = 11
_LABELS = LabelSet.named([f"class {number}" for number in range(CLASSES)])
_MEAN, _STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

Images = npt.NDArray[np.uint8]


class Training(Protocol):
    """A network with its optimizer."""

    def step(self, images: Tensor, target: Tensor) -> None:
        """Forward, loss, backward, update. uint8 N x 3 x H x W and N x H x W, 255 ignored."""
        ...


class Labelling(Protocol):
    """A network in evaluation. Images are uint8 N x H x W x 3."""

    def logits(self, images: Images) -> npt.NDArray[np.float32]:
        """N x K x H x W."""
        ...

    def labels(self, images: Images) -> npt.NDArray[np.uint8]:
        """N x H x W class ids."""
        ...


@dataclass(frozen=True)
class Net:
    """A network by name; `backbone` says which of ours it is measured against."""

    name: str
    backbone: str
    build: Callable[[], nn.Module]

    @property
    def ours(self) -> bool:
        """Whether it is of this library."""
        return self.name.startswith("FCN-")

    def training(self, our_settings: bool) -> Training:
        """Built anew, with its optimizer."""
        net = self.build().train()
        return OurTraining(net) if isinstance(net, FCN) else PeerTraining(net, our_settings)

    def labelling(self, our_settings: bool) -> Labelling:
        """Built anew, for evaluation."""
        net = self.build().eval()
        return OurLabelling(net) if isinstance(net, FCN) else PeerLabelling(net, our_settings)

    def params(self) -> int:
        """How many numbers it learns."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())

    def forward_shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the network itself is given for images of `size`."""
        with torch.device("meta"):
            multiple = _multiple(self.build())
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


def our_loss(task: SegmentationTask, images: Tensor, target: Tensor) -> Tensor:
    """What a training step of `fullconv train` computes, under autocast, before the backward pass."""
    return task.training_step((images, target, []), 0)


class OurTraining:
    """A step of `fullconv train` without Lightning around it: see `learn/task.py` and `learn/train.py`."""

    def __init__(self, net: FCN) -> None:
        recipe = default_recipe()
        self.bf16, self.clip = has_bf16(recipe), recipe.clip
        net = net.to(memory_format=torch.channels_last)
        self.task = SegmentationTask(net, recipe, _LABELS, torch.ones(CLASSES), total_steps=10_000)
        self.task.train()
        config: Any = self.task.configure_optimizers()
        self.optimizer, self.schedule = config["optimizer"], config["lr_scheduler"]["scheduler"]

    def step(self, images: Tensor, target: Tensor) -> None:
        """As Lightning calls it: gradients are cut outside autocast, the average follows the optimizer."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            loss = our_loss(self.task, images, target)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.task.net.parameters(), self.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.task.average is not None:
            self.task.average.update_parameters(self.task.net)


class PeerTraining:
    """One AdamW over cross-entropy; with `our_settings`, autocast and channels last as ours."""

    def __init__(self, net: nn.Module, our_settings: bool) -> None:
        self.net, self.bf16 = _placed(net, our_settings), our_settings and has_bf16(default_recipe())
        self.our_settings = our_settings
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step(self, images: Tensor, target: Tensor) -> None:
        """Padded pixels are ignored."""
        multiple = _multiple(self.net)
        images, target = _padded(images, multiple, 0), _padded(target, multiple, IGNORE_INDEX)
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = _forward(self.net, _normalized(images, self.our_settings))
        loss = functional.cross_entropy(logits.float(), target.long(), ignore_index=IGNORE_INDEX)
        torch.autograd.backward(loss)
        self.optimizer.step()
        loss.item()


class OurLabelling:
    """`fullconv predict` between the files."""

    def __init__(self, net: FCN) -> None:
        self.runner = TorchRunner(net, _LABELS)

    def logits(self, images: Images) -> npt.NDArray[np.float32]:
        """N x K x H x W."""
        return self.runner.logits(images)

    def labels(self, images: Images) -> npt.NDArray[np.uint8]:
        """N x H x W class ids."""
        return label_maps(self.runner, images)


class PeerLabelling:
    """The network in evaluation and in float32; with `our_settings`, channels last as ours."""

    def __init__(self, net: nn.Module, our_settings: bool) -> None:
        self.net, self.our_settings = _placed(net, our_settings), our_settings

    def logits(self, images: Images) -> npt.NDArray[np.float32]:
        """N x K x H x W."""
        logits: npt.NDArray[np.float32] = self._logits(images).numpy()
        return logits

    def labels(self, images: Images) -> npt.NDArray[np.uint8]:
        """N x H x W class ids."""
        best: npt.NDArray[np.uint8] = self._logits(images).argmax(1).to(torch.uint8).numpy()
        return best

    @torch.inference_mode()
    def _logits(self, images: Images) -> Tensor:
        height, width = images.shape[1:3]
        batch = _padded(torch.from_numpy(images).permute(0, 3, 1, 2), _multiple(self.net), 0)
        return _forward(self.net, _normalized(batch, self.our_settings))[:, :, :height, :width]


def _placed(net: nn.Module, our_settings: bool) -> nn.Module:
    return net.to(memory_format=torch.channels_last) if our_settings else net


def _multiple(net: nn.Module) -> int:
    """What height and width must be multiples of."""
    return int(net.encoder.output_stride) if getattr(net, "requires_divisible_input_shape", False) else 1  # type: ignore[union-attr,arg-type]


def _padded(batch: Tensor, multiple: int, value: int) -> Tensor:
    """Padded on the right and the bottom."""
    below, right = (-n % multiple for n in batch.shape[-2:])
    return functional.pad(batch, (0, right, 0, below), value=value) if below or right else batch


def _normalized(images: Tensor, our_settings: bool) -> Tensor:
    """uint8 to floats with ImageNet's mean and deviation, in the order of memory that the network wants."""
    order = torch.channels_last if our_settings else torch.contiguous_format
    return ((images.float() / 255 - _MEAN) / _STD).contiguous(memory_format=order)


def _forward(net: nn.Module, batch: Tensor) -> Tensor:
    """torchvision's networks give a dictionary, the others logits."""
    out = net(batch)
    logits: Tensor = out["out"] if isinstance(out, dict) else out
    return logits
