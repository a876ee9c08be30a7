"""From one image to its label map, by every runner that there is: milliseconds, and as ratios in one run.

    pip install -e ".[train,openvino,bench]"
    python benchmarks/latency.py [--nets mobilenet_v2:4,vgg16:8] [--image FILE] [--rounds 9] [--threads N]
                                 [--no-peers] [--json FILE]

Prints a markdown table. Networks are run folders, weights files, or BACKBONE:STRIDE, which gets 11 classes and random
weights; they are exported, in eight bits too, as `fullconv export` does it. Random weights make labels that change from
pixel to pixel, on which our label maps take longest. Without an image, one of 480x360 is made. The peers are
torchvision's and segmentation_models.pytorch's networks, exported by torch with the arg max inside, on ONNX Runtime.
All take turns in one process, and ratios are taken within a round; each turn is a call that does not count and the
median of the next five, because ONNX Runtime's threads spin for a while into the next one's turn. Time is the clock's.

The last column is the time over that which the multiply-accumulates of the network would take at the rate of a large
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
import numpy.typing as npt
import onnxruntime
import segmentation_models_pytorch as smp
import torch
import torchvision
from tiling import picture
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fullconv.data.layouts import find_dataset
from fullconv.files import write_text
from fullconv.image import read_image, write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn import rebuild
from fullconv.net.runner import TorchRunner
from fullconv.net.spec import NetSpec
from fullconv.onnx_export.file import export
from fullconv.run.exported import ExportedRunner
from fullconv.run.onnx import OnnxFile
from fullconv.run.openvino import OpenVinoFile

CLASSES = 11
GEMM = 2048
CALLS = 5

Job = Callable[[], object]
UInt8 = npt.NDArray[np.uint8]


class Labelled(nn.Module):
    """A peer from normalised floats to labels."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """N x 3 x H x W to N x H x W."""
        found = self.net(images)
        logits: Tensor = found["out"] if isinstance(found, dict) else found
        return logits.argmax(1)


def data(folder: Path, image: UInt8, labels: LabelSet) -> Path:
    """A data set of that image, for the ranges of eight bits; scores mean nothing here."""
    (folder / "images").mkdir(parents=True)
    for split in ("train", "val"):
        write_image(folder / "images" / split / "one.png", image)
        write_label_map(folder / "masks" / split / "one.png", image[..., 0] % labels.num_classes, labels)
    write_text(folder / "classes.txt", "\n".join(labels.class_names))
    return folder


def random_net(name: str, path: Path) -> Path:
    """A weights file of BACKBONE:STRIDE."""
    model, stride = name.split(":")
    spec = NetSpec(model, CLASSES, int(stride))
    net = rebuild(spec)
    for part, module in net.named_children():
        if part.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    save_net(path, net.state_dict(), Saved(spec, LabelSet.named([f"class {number}" for number in range(CLASSES)]), {}))
    return path


def ours(net: str, folder: Path, image: UInt8, threads: int) -> tuple[dict[str, Job], float]:
    """The jobs of one of our networks by name, and its multiply-accumulates."""
    weights, batch = Path(net), image[None]
    if not weights.exists():
        weights = random_net(net, folder / "net.safetensors")
    built, saved = load_net(weights)
    labels = saved.labels
    exact = export(weights, folder / "float.onnx").path
    small = export(
        weights, folder / "int8.onnx", int8=find_dataset(data(folder / "data", image, labels)), force=True
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
    runners = {name: ExportedRunner(file.about, file.scores) for name, file in files.items()}
    jobs: dict[str, Job] = {"torch float32": lambda: torch_runner.label_maps(batch), "torch bfloat16": half}
    jobs |= {name: (lambda runner=runner: runner.label_maps(batch)) for name, runner in runners.items()}  # type: ignore[misc]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        built(torch.from_numpy(batch).permute(0, 3, 1, 2))
    return jobs, counter.get_total_flops() / 2


def peers(folder: Path, image: UInt8, threads: int) -> Iterator[tuple[str, Job]]:
    """The networks of others on ONNX Runtime; images are padded to multiples of 32 where they have to be."""
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


def turn(job: Job) -> float:
    """Seconds of a call, after one that does not count."""
    job()
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def alternate(jobs: dict[str, Job], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job in each round; every round begins with another one."""
    names, samples = list(jobs), {name: list[float]() for name in jobs}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(turn(jobs[name]))
    return samples


def table(title: str, samples: dict[str, list[float]], macs: float, own: int) -> str:
    """Markdown: the median of each, and of its ratios to ONNX Runtime in float32 and to the matrix product's rate."""
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
        last = f"{bound:.2f}" if index < own else ""
        lines.append(f"| {name} | {1e3 * median(seconds):.1f} | {ratio:.2f} | {last} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nets", default="mobilenet_v2:4,vgg16:8", help="run folders, weights files, or BACKBONE:STRIDE"
    )
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path, help="file for all single measurements, in seconds")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    libraries = ("fullconv", "torch", "onnxruntime", "openvino")
    about = ", ".join(f"{name} {version(name)}" for name in libraries)
    about += f", Python {platform.python_version()}, {options.threads} threads, medians of {options.rounds} rounds"
    print(f"{about}\n", flush=True)
    image, factor = read_image(options.image) if options.image else picture(360, 480), torch.rand(GEMM, GEMM)
    records = []
    for net in options.nets.split(","):
        with tempfile.TemporaryDirectory() as folder:
            jobs, macs = ours(net, Path(folder), image, options.threads)
            own = len(jobs)
            jobs |= {} if options.no_peers else dict(peers(Path(folder), image, options.threads))
            jobs["matrix product"] = lambda: factor @ factor
            samples = alternate(jobs, options.rounds)
        print(table(f"{net}, {image.shape[1]}x{image.shape[0]}", samples, macs, own), flush=True)
        records.append({"net": net, "macs": macs, "seconds": samples})
    if options.json:
        write_text(options.json, json.dumps({"environment": about, "measured": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
