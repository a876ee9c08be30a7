"""Measure the time from one image to its label map on every runner, in milliseconds and as ratios.

    pip install -e ".[train,openvino,bench]"
    python benchmarks/latency.py [--nets street,mobilenet_v2:4] [--image FILE] [--rounds 9] [--threads N]
                                 [--yolo DIR] [--no-peers] [--json FILE]

Prints a Markdown table. A network is a bundled model or a .onnx file (with NAME-int8.onnx next to it), a run folder, a
weights file, or BACKBONE:STRIDE with 11 classes and random weights (BACKBONE:STRIDE:relu has ReLU in place of ReLU6).
The last three are exported as `fullconv export` does, also in eight bits. With random weights, labels change from pixel
to pixel, which is the slowest case for our label maps. Without --image, an image of 480x360 is drawn.
`latency_peers.py` says what the networks of others do; every time is from the decoded image, uint8, to its label map.
With --yolo DIR yolo26n-sem is one of them, also with --no-peers, which leaves out the others.

All take turns in one process, networks on the same runner after each other, and ratios are taken within a round. Each
turn is one call that does not count and the median of the next five, because ONNX Runtime's threads keep spinning into
the next turn. Time is wall-clock time.

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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from latency_peers import YOLO, export_peers, export_yolo, peer_jobs
from tiling import draw_picture
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fullconv.arrays import UInt8
from fullconv.choices import Precision
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
from fullconv.runtime.models import bundled_names, model_path
from fullconv.runtime.onnx import OnnxFile
from fullconv.runtime.openvino import OpenVinoFile

CLASSES = 11
GEMM = 2048
CALLS = 5
PRECISIONS: dict[str, Precision] = {"float32": "f32", "bfloat16": "bf16"}

Job = Callable[[], object]


def write_data(folder: Path, image: UInt8, labels: LabelSet) -> Path:
    """Write a data set of one image, for the calibration of eight bits. Its scores mean nothing."""
    (folder / "images").mkdir(parents=True)
    for split in ("train", "val"):
        write_image(folder / "images" / split / "one.png", image)
        write_label_map(folder / "masks" / split / "one.png", image[..., 0] % labels.num_classes, labels)
    write_text(folder / "classes.txt", "\n".join(labels.class_names))
    return folder


def write_random_net(name: str, path: Path) -> Path:
    """Write a weights file for BACKBONE:STRIDE, or BACKBONE:STRIDE:relu, with random weights."""
    model, stride, *rest = name.split(":")
    spec = NetSpec(model, CLASSES, int(stride), activation="relu" if rest == ["relu"] else "keep")
    net = rebuild(spec)
    for part, module in net.named_children():
        if part.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    save_net(path, net.state_dict(), Saved(spec, LabelSet.named([f"class {number}" for number in range(CLASSES)]), {}))
    return path


def prepare_ours(net: str, folder: Path, image: UInt8, threads: int) -> tuple[dict[str, Job], float | None]:
    """Return the jobs that label the image with one of our networks, and its multiply-accumulates if they are known."""
    if net in bundled_names() or net.endswith(".onnx"):
        return prepare_files(model_path(net), image, threads), None
    weights, batch = Path(net), image[None]
    if not weights.exists():
        weights = write_random_net(net, folder / "net.safetensors")
    built, saved = load_net(weights)
    labels = saved.labels
    exact = export(weights, folder / "net.onnx").path
    data = find_dataset(write_data(folder / "data", image, labels))
    export(weights, folder / "net-int8.onnx", int8=data, force=True)
    torch_runner = TorchRunner(built, labels, "cpu")

    def half() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return torch_runner.label_maps(batch)

    jobs: dict[str, Job] = {"torch float32": lambda: torch_runner.label_maps(batch), "torch bfloat16": half}
    jobs |= prepare_files(exact, image, threads)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        built(torch.from_numpy(batch).permute(0, 3, 1, 2))
    return jobs, counter.get_total_flops() / 2


def prepare_files(exact: Path, image: UInt8, threads: int) -> dict[str, Job]:
    """Return the jobs of an exported file, and of its eight-bit version (NAME-int8.onnx) if that is next to it."""
    files: dict[str, OnnxFile | OpenVinoFile] = {"ONNX Runtime float32": OnnxFile.load(exact, threads)}
    files |= {f"OpenVINO {name}": OpenVinoFile.load(exact, threads, hint) for name, hint in PRECISIONS.items()}
    small = exact.with_name(f"{exact.stem}-int8.onnx")
    if small.is_file():
        files["ONNX Runtime int8"] = OnnxFile.load(small, threads)
        files["OpenVINO int8"] = OpenVinoFile.load(small, threads)
    runners = {name: ExportedRunner(file.metadata, file.scores) for name, file in sorted(files.items())}
    return {name: (lambda runner=runner: runner.label_maps(image[None])) for name, runner in runners.items()}  # type: ignore[misc]


def prepare_peers(options: argparse.Namespace, folder: Path, image: UInt8) -> dict[str, Job]:
    """Return the jobs of the peers that the options name, on all runners."""
    peers = [] if options.no_peers else list(export_peers(folder, image, CLASSES))
    if options.yolo:
        peers.insert(0, export_yolo(options.yolo, folder, image, CLASSES))
    return {f"{peer.name}, {runner}": job for peer in peers for runner, job in peer_jobs(peer, image, options.threads)}


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
    """Return the seconds of each job in each round; every round begins with a different job.

    Jobs on the same runner follow each other, because the speed of a shared machine changes within seconds.
    """
    names, samples = sorted(jobs, key=lambda name: name.rpartition(", ")[2]), {name: list[float]() for name in jobs}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(measure_turn(jobs[name]))
    return samples


def format_spread(values: list[float], digits: int, scale: float = 1.0) -> str:
    """Format median (smallest to largest)."""
    low, middle, high = (f"{scale * value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


def find_rival(name: str, samples: dict[str, list[float]]) -> str | None:
    """Return the row of yolo26n-sem on the runner and in the precision of a row; int8 is compared with its fastest."""
    runner = name.rpartition(", ")[2]
    fastest = {"ONNX Runtime int8": "ONNX Runtime float32", "OpenVINO int8": "OpenVINO bfloat16"}
    rival = f"{YOLO}, {fastest.get(runner, runner)}"
    return rival if rival in samples and rival != name else None


def make_table(title: str, samples: dict[str, list[float]], macs: float | None, ours: int) -> str:
    """Return a Markdown table: medians and ranges of the times, and of ratios within rounds."""
    rates = [GEMM**3 / seconds for seconds in samples["matrix product"]]
    base = samples["ONNX Runtime float32"]
    lines = [f"### {title}" + (f", {macs / 1e9:.2f} G multiply-accumulates" if macs else ""), ""]
    rate = f"A float32 matrix product runs at {median(rates) / 1e9:.0f} G a second"
    lines += [f"{rate}: {1e3 * macs / median(rates):.1f} ms." if macs else f"{rate}.", ""]
    lines += [f"| runner | ms | x ONNX Runtime float32 | x {YOLO} on this runner | x the matrix product's time |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for index, name in enumerate(name for name in samples if name != "matrix product"):
        seconds, rival = samples[name], find_rival(name, samples)
        ratio = format_spread([a / b for a, b in zip(seconds, base, strict=True)], 2)
        other = format_spread([a / b for a, b in zip(seconds, samples[rival], strict=True)], 2) if rival else ""
        bound = [a * rate / macs for a, rate in zip(seconds, rates, strict=True)] if macs and index < ours else []
        last = f"{median(bound):.2f}" if bound else ""
        lines.append(f"| {name} | {format_spread(seconds, 1, 1e3)} | {ratio} | {other} | {last} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--nets", default="street,vgg16:8", help="bundled models, .onnx files, run folders, weights or BACKBONE:STRIDE"
    )
    parser.add_argument("--image", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--yolo", type=Path, metavar="DIR", help=f"also {YOLO}; its venv, made in DIR if it is not there"
    )
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
            jobs |= prepare_peers(options, Path(folder), image)
            jobs["matrix product"] = lambda: factor @ factor
            samples = alternate(jobs, options.rounds)
        print(make_table(f"{net}, {image.shape[1]}x{image.shape[0]}", samples, macs, count), flush=True)
        records.append({"net": net, "macs": macs, "seconds": samples})
    if options.json:
        write_text(options.json, json.dumps({"environment": about, "measured": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
