"""The networks of others that `latency.py` times, from the decoded image to the label map, on both runners.

Each is an ONNX file of a fixed input size whose output is the label map of that size, so the arg max and the upsampling
run inside, as in the files that their users have. Around it, numpy does what their users' code does: padding, uint8 to
normalised floats with the channels first, and cutting the padding from the label map. Weights are random, which changes
no time.

- yolo26n-sem is exported by its own package, `ultralytics`, with its default settings for ONNX (sizes are multiples of
  32: 480x384 for an image of 480x360, padded evenly above and below with grey, as it does). Its export bakes the
  upsampling and the arg max into the file. ultralytics is under AGPL-3.0: it is installed in a venv of its own, runs in
  a process of its own, and nothing here imports it.
- The others are exported by torch, with an arg max. LR-ASPP is torchvision's, Unet and DeepLabV3+ are those of
  segmentation_models.pytorch, DDRNet-23-slim is in `ddrnet.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torchvision
from ddrnet import DDRNet
from torch import Tensor, nn

from fullconv.arrays import UInt8
from fullconv.net.classifiers.backbones import IMAGENET_MEAN, IMAGENET_STD
from fullconv.runtime.openvino import OpenVinoFile  # noqa: F401  # it switches OpenVINO's telemetry off

# isort: split
import onnxruntime  # after fullconv, which switches their telemetry off
import openvino

__all__ = ["YOLO", "Peer", "export_peers", "export_yolo", "peer_jobs"]

YOLO = "yolo26n-sem"

PACKAGES = (["torch==2.14.1", "torchvision==0.29.1"], ["ultralytics", "onnx", "onnxslim"])
"""The packages of the venv, installed in this order: the wheels of torch lie on this disk."""

EXPORT = """
import sys
from pathlib import Path
import ultralytics
from ultralytics import YOLO
height, width, classes = map(int, sys.argv[1:])
table = Path(ultralytics.__file__).parent / "cfg/models/26/yolo26-sem.yaml"
text = table.read_text(encoding="utf-8")
assert "nc: 19" in text
Path("yolo26-sem.yaml").write_text(text.replace("nc: 19", f"nc: {classes}"), encoding="utf-8")
model = YOLO("yolo26n-sem.yaml")
assert model.model.yaml["nc"] == classes
model.export(format="onnx", imgsz=(height, width))
"""
"""The package's own table of layers, with the number of classes of the others; `n` is the smallest of its sizes."""


class Labelled(nn.Module):
    """A network of torch that maps normalised floats to labels."""

    def __init__(self, net: nn.Module) -> None:
        """Wrap a network whose output is logits, or a dictionary with logits under `out`."""
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Map N x 3 x H x W floats to N x H x W labels."""
        out = self.net(images)
        logits: Tensor = out["out"] if isinstance(out, dict) else out
        return logits.argmax(1).to(torch.uint8)


@dataclass(frozen=True)
class Peer:
    """An exported network: `size` (height, width) is that of its input; `grey` means padding on all sides, as yolo."""

    name: str
    path: Path
    size: tuple[int, int]
    grey: bool = False

    def prepare(self, image: UInt8) -> Any:
        """Map H x W x 3 uint8 to the network's input, 1 x 3 x h x w float32."""
        top, left = self.corner(image)
        padded = np.full((*self.size, 3), 114 if self.grey else 0, np.uint8)
        padded[top : top + image.shape[0], left : left + image.shape[1]] = image
        floats = np.ascontiguousarray(padded.transpose(2, 0, 1)[None]).astype(np.float32)
        floats /= 255
        if not self.grey:
            floats -= np.array(IMAGENET_MEAN, np.float32)[:, None, None]
            floats /= np.array(IMAGENET_STD, np.float32)[:, None, None]
        return floats

    def corner(self, image: UInt8) -> tuple[int, int]:
        """Return the row and the column of the image in the padded one."""
        if not self.grey:
            return 0, 0
        return (self.size[0] - image.shape[0]) // 2, (self.size[1] - image.shape[1]) // 2

    def job(self, image: UInt8, run: Callable[[Any], Any]) -> Callable[[], UInt8]:
        """Return the function from the decoded image to its label map; `run` computes the network."""
        top, left = self.corner(image)
        height, width = image.shape[:2]

        def label() -> UInt8:
            labels = run(self.prepare(image))[0].reshape(self.size)
            return np.ascontiguousarray(labels[top : top + height, left : left + width]).astype(np.uint8, copy=False)

        return label


def round_up(size: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """Return height and width rounded up."""
    height, width = (-(-side // multiple) * multiple for side in size)
    return height, width


def prepare_venv(folder: Path) -> Path:
    """Return the Python of a venv that has ultralytics, and make the venv if it is not there."""
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if not any(folder.glob("lib/*/site-packages/ultralytics/__init__.py")):
        for packages in PACKAGES:
            subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return python


def export_yolo(venv: Path, folder: Path, image: UInt8, classes: int) -> Peer:
    """Export yolo26n-sem for the size of the image by a process of its venv."""
    size = round_up(image.shape[:2], 32)
    out = folder / "yolo"
    out.mkdir()
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(out), "YOLO_OFFLINE": "true"}
    environment.pop("PYTHONPATH", None)
    command = [str(prepare_venv(venv).absolute()), "-c", EXPORT, *map(str, (*size, classes))]
    done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, check=False)
    files = list(out.glob("*.onnx"))
    if done.returncode or len(files) != 1:
        raise SystemExit(f"ultralytics exported no file:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Peer(YOLO, files[0], size, grey=True)


def export_peers(folder: Path, image: UInt8, classes: int) -> Iterator[Peer]:
    """Export the networks that torch has."""
    nets: dict[str, tuple[nn.Module, int]] = {
        "LR-ASPP, MobileNetV3 (torchvision)": (
            torchvision.models.segmentation.lraspp_mobilenet_v3_large(
                weights=None, weights_backbone=None, num_classes=classes
            ),
            32,
        ),
        "DDRNet-23-slim": (DDRNet(classes), 8),
        "DeepLabV3+, MobileNetV2 (smp)": (
            smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=classes),
            32,
        ),
        "Unet, MobileNetV2 (smp)": (smp.Unet("mobilenet_v2", encoder_weights=None, classes=classes), 32),
    }
    for number, (name, (net, multiple)) in enumerate(nets.items()):
        path, size = folder / f"peer{number}.onnx", round_up(image.shape[:2], multiple)
        example = torch.zeros(1, 3, *size)
        torch.onnx.export(Labelled(net.eval()), (example,), path, input_names=["x"], opset_version=18, dynamo=False)
        yield Peer(name, path, size)


def peer_jobs(peer: Peer, image: UInt8, threads: int) -> Iterator[tuple[str, Callable[[], UInt8]]]:
    """Yield the name and the job of each runner for a peer."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(peer.path), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    yield "ONNX Runtime float32", peer.job(image, lambda floats: session.run(None, {source.name: floats}))
    core = openvino.Core()
    for name, precision in (("OpenVINO float32", "f32"), ("OpenVINO bfloat16", "bf16")):
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        request = core.compile_model(str(peer.path), "CPU", settings).create_infer_request()
        yield name, peer.job(image, partial(infer, request))


def infer(request: Any, floats: Any) -> Any:
    """Compute a network on OpenVINO."""
    return request.infer([floats], share_inputs=True)
