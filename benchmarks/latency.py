"""Measure the time from one image to its label map on every runner, in milliseconds and as ratios.

    pip install -e ".[train,openvino,bench]"
    python benchmarks/latency.py [--nets mobilenet_v2:4,vgg16:8] [--image FILE] [--rounds 9] [--threads N]
                                 [--no-peers] [--json FILE]

Prints a Markdown table. A network is a run folder, a weights file, or BACKBONE:STRIDE with 11 classes and random
weights. It is exported as `fullconv export` does, also in eight bits. With random weights, labels change from pixel to
pixel, which is the slowest case for our label maps. Without --image, an image of 480x360 is drawn. The peers are
networks of torchvision and segmentation_models.pytorch, exported by torch with the arg max inside, on ONNX Runtime.

All take turns in one process, and ratios are taken within a round. Each turn is one call that does not count and the
median of the next five, because ONNX Runtime's threads keep spinning into the next turn. Time is wall-clock time.

The last column divides the time by the time that the network's multiply-accumulates would take at the rate of a large
float32 matrix product, measured in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torchvision
from tiling import draw_picture
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset
from fullconv.files import write_text
from fullconv.images import read_image, write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn.network import rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.onnx_export.file import export
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.onnx import OnnxFile
from fullconv.runtime.openvino import OpenVinoFile

# isort: split
import onnxruntime  # after fullconv, which switches its telemetry off

CLASSES = 11
GEMM = 2048
CALLS = 5

Job = Callable[[], object]


class Labelled(nn.Module):
    """A peer network that maps normalised floats to labels."""

    def __init__(self, net: nn.Module) -> None:
        """Wrap a network whose output is logits, or a dictionary with logits under `out`."""
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Map N x 3 x H x W floats to N x H x W labels."""
        out = self.net(images)
        logits: Tensor = out["out"] if isinstance(out, dict) else out
        return logits.argmax(1)


def write_data(folder: Path, image: UInt8, labels: LabelSet) -> Path:
    """Write a data set of one image, for the calibration of eight bits. Its scores mean nothing."""
    (folder / "images").mkdir(parents=True)
    for split in ("train", "val"):
        write_image(folder / "images" / split / "one.png", image)
        write_label_map(folder / "masks" / split / "one.png", image[..., 0] % labels.num_classes, labels)
    write_text(folder / "classes.txt", "\n".join(labels.class_names))
    return folder


def write_random_net(name: str, path: Path) -> Path:
    """Write a weights file for BACKBONE:STRIDE with random weights."""
    model, stride = name.split(":")
    spec = NetSpec(model, CLASSES, int(stride))
    net = rebuild(spec)
    for part, module in net.named_children():
        if part.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    save_net(path, net.state_dict(), Saved(spec, LabelSet.named([f"class {number}" for number in range(CLASSES)]), {}))
    return path


def prepare_ours(net: str, folder: Path, image: UInt8, threads: int) -> tuple[dict[str, Job], float]:
    """Return the jobs that label the image with one of our networks, and its multiply-accumulates."""
    weights, batch = Path(net), image[None]
    if not weights.exists():
        weights = write_random_net(net, folder / "net.safetensors")
    built, saved = load_net(weights)
    labels = saved.labels
    exact = export(weights, folder / "float.onnx").path
    small = export(
        weights, folder / "int8.onnx", int8=find_dataset(write_data(folder / "data", image, labels)), force=True
    ).path
    torch_runner = TorchRunner(built, labels, "cpu")

    def half() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return torch_runner.label_maps(batch)

    files: dict[str, OnnxFile | OpenVinoFile] = {
        "ONNX Runtime float32": OnnxFile.load(exact, threads),
        "ONNX Runtime int8": OnnxFile.load(small, threads),
        "OpenVINO float32": OpenVinoFile.load(exact, threads, "f32"),
        "OpenVINO bfloat16": OpenVinoFile.load(exact, threads, "bf16"),
        "OpenVINO int8": OpenVinoFile.load(small, threads),
    }
    runners = {name: ExportedRunner(file.metadata, file.scores) for name, file in files.items()}
    jobs: dict[str, Job] = {"torch float32": lambda: torch_runner.label_maps(batch), "torch bfloat16": half}
    jobs |= {name: (lambda runner=runner: runner.label_maps(batch)) for name, runner in runners.items()}  # type: ignore[misc]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        built(torch.from_numpy(batch).permute(0, 3, 1, 2))
    return jobs, counter.get_total_flops() / 2


def prepare_peers(folder: Path, image: UInt8, threads: int) -> Iterator[tuple[str, Job]]:
    """Yield a job for each peer on ONNX Runtime; images are padded to multiples of 32, as the networks need."""
    nets = {
        "LR-ASPP, MobileNetV3 (torchvision)": torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=CLASSES
        ),
        "DeepLabV3+, MobileNetV2 (smp)": smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=CLASSES),
        "Unet, MobileNetV2 (smp)": smp.Unet("mobilenet_v2", encoder_weights=None, classes=CLASSES),
    }
    height, width = image.shape[:2]
    padded = np.zeros((1, -(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
    padded[:, :height, :width] = image
    for number, (name, net) in enumerate(nets.items()):
        path = folder / f"peer{number}.onnx"
        example = torch.zeros(1, 3, *padded.shape[1:3])
        torch.onnx.export(Labelled(net.eval()), (example,), path, input_names=["x"], dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def job(session: Any = session) -> object:
            floats = padded.transpose(0, 3, 1, 2).astype(np.float32) / 255
            return session.run(None, {"x": (floats - 0.45) / 0.225})[0][:, :height, :width].astype(np.uint8)

        yield name, job


def measure_turn(job: Job) -> float:
    """Return the median seconds of `CALLS` calls, after one that does not count."""
    job()
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def alternate(jobs: dict[str, Job], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each job in each round; every round begins with a different job."""
    names, samples = list(jobs), {name: list[float]() for name in jobs}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(measure_turn(jobs[name]))
    return samples


def make_table(title: str, samples: dict[str, list[float]], macs: float, ours: int) -> str:
    """Return a Markdown table: medians, and ratios to ONNX Runtime in float32 and to the matrix product's time."""
    rates = [GEMM**3 / seconds for seconds in samples["matrix product"]]
    base = samples["ONNX Runtime float32"]
    lines = [f"### {title}, {macs / 1e9:.2f} G multiply-accumulates", ""]
    lines += [
        f"A float32 matrix product runs at {median(rates) / 1e9:.0f} G a second: {1e3 * macs / median(rates):.1f} ms.",
        "",
    ]
    lines += ["| runner | ms | x ONNX Runtime float32 | x the matrix product's time |", "|---|---:|---:|---:|"]
    for index, name in enumerate(name for name in samples if name != "matrix product"):
        seconds = samples[name]
        ratio = median(a / b for a, b in zip(seconds, base, strict=True))
        bound = median(a * rate / macs for a, rate in zip(seconds, rates, strict=True))
        last = f"{bound:.2f}" if index < ours else ""
        lines.append(f"| {name} | {1e3 * median(seconds):.1f} | {ratio:.2f} | {last} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nets", default="mobilenet_v2:4,vgg16:8", help="run folders, weights files, or BACKBONE:STRIDE"
    )
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path, help="write every measurement, in seconds, to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    libraries = ("fullconv", "torch", "onnxruntime", "openvino")
    about = ", ".join(f"{name} {version(name)}" for name in libraries)
    about += f", Python {platform.python_version()}, {options.threads} threads, medians of {options.rounds} rounds"
    print(f"{about}\n", flush=True)
    image, factor = (
        read_image(options.image).pixels if options.image else draw_picture(360, 480),
        torch.rand(GEMM, GEMM),
    )
    records = []
    for net in options.nets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            jobs, macs = prepare_ours(net, Path(folder), image, options.threads)
            count = len(jobs)
            jobs |= {} if options.no_peers else dict(prepare_peers(Path(folder), image, options.threads))
            jobs["matrix product"] = lambda: factor @ factor
            samples = alternate(jobs, options.rounds)
        print(make_table(f"{net}, {image.shape[1]}x{image.shape[0]}", samples, macs, count), flush=True)
        records.append({"net": net, "macs": macs, "seconds": samples})
    if options.json:
        write_text(options.json, json.dumps({"environment": about, "measured": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
