"""Measure training and prediction on one GPU: against the CPU, and against torchvision and segmentation_models.pytorch.

    pip install -e ".[train,bench]"
    python benchmarks/gpu.py [--size 512] [--batch 16] [--rounds 10] [--seconds 540] [--json FILE]
    python benchmarks/gpu.py --parts gpu compiled --nets mobilenet fcn_resnet50

Prints one Markdown table per part, in one run of less than 10 minutes: milliseconds, the ratio to torchvision's
fcn_resnet50 on the same device, and the peak memory of the GPU. All train in bfloat16 and channels last. Ours runs the
step of `fullconv train` (loss, clipping, AdamW with groups, average of the weights); the others run cross-entropy and
one AdamW. In the end, all are measured with torch.compile, and with its CUDA graphs. On the CPU there is one round,
with one crop; times of the CPU are for a whole batch, so they are multiplied by `--batch`. No row starts after
`--seconds`.

`--device cpu` runs the same on the CPU, for tests of this script. Results are in docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from fullconv.labels import LabelSet
from fullconv.net.fcn.depthwise import speed_up_depthwise
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.runtime.models import bundled
from fullconv.training.job import Hardware
from fullconv.training.recipe import default_recipe, override
from fullconv.training.run.devices import make_fabric
from fullconv.training.task import SegmentationTask

CLASSES = 11
REFERENCE = "torchvision fcn_resnet50"
PARTS = ("gpu", "onnx", "cpu", "compiled")
COMPILED = {"": "eager", "default": "torch.compile", "reduce-overhead": "torch.compile with CUDA graphs"}


@dataclass(frozen=True)
class Row:
    """One measurement: median milliseconds of a whole batch and GiB of GPU memory at the peak, or the problem."""

    part: str
    net: str
    device: str
    mode: str
    milliseconds: float | None = None
    memory: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Setting:
    """Device, size of the images, crops in a batch, rounds, the time after which no row starts, parts of names."""

    device: torch.device
    size: int
    batch: int
    rounds: int
    deadline: float
    nets: tuple[str, ...] = ("",)


def nets() -> dict[str, Callable[[], nn.Module]]:
    """Return the networks by name, with random weights."""
    found: dict[str, Callable[[], nn.Module]] = {
        f"FCN-8s on {name}": lambda name=name: rebuild(NetSpec(name, CLASSES, 8))  # type: ignore[misc]
        for name in ("mobilenet_v2", "resnet50")
    }
    options: dict[str, Any] = {"decoder": "refined", "context": True, "late": "short", "activation": "relu"}
    found["FCN-4s-refined on efficientnet_lite0"] = lambda: rebuild(
        NetSpec("efficientnet_lite0", CLASSES, 4, **options)
    )
    found[REFERENCE] = lambda: torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=False
    )
    if find_spec("segmentation_models_pytorch") is not None:
        import segmentation_models_pytorch as smp

        for name in ("mobilenet_v2", "resnet50"):
            found[f"smp Unet on {name}"] = lambda name=name: smp.create_model(  # type: ignore[misc]
                "Unet", encoder_name=name, encoder_weights=None, classes=CLASSES
            )
    return found


def make_images(setting: Setting, device: torch.device, count: int) -> tuple[Tensor, Tensor]:
    """Return random images N x 3 x S x S and label maps N x S x S, uint8."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, setting.size, setting.size), np.uint8)
    target = random.integers(0, CLASSES, (count, setting.size, setting.size), np.uint8)
    return torch.from_numpy(images).to(device), torch.from_numpy(target).to(device)


def our_step(net: FCN, images: Tensor, target: Tensor, mode: str) -> Callable[[], object]:
    """Return a step as `fullconv.training.run.loop` runs it."""
    kind = images.device.type
    speed_up_depthwise(net)
    recipe = override(default_recipe(), {"bf16": True, "lr": 1e-4, "batch_size": len(images)})
    fabric = make_fabric(Hardware(accelerator="cuda" if kind == "cuda" else "cpu"), recipe)
    if mode:
        net.encode = torch.compile(net.encode, mode=mode)  # type: ignore[method-assign]
    labels = LabelSet.named([f"class {number}" for number in range(CLASSES)])
    task = SegmentationTask(net, recipe, labels, torch.ones(CLASSES), 10_000)
    optimizer = task.make_optimizer()
    model, stepper = fabric.setup(task, optimizer)

    def step() -> None:
        task.set_rates(optimizer)
        loss = model((images, target, ["random"]))
        stepper.zero_grad()
        fabric.backward(loss)
        nn.utils.clip_grad_norm_(task.net.parameters(), recipe.clip)
        stepper.step()
        task.finish_step()

    return step


def their_step(net: nn.Module, images: Tensor, target: Tensor, mode: str) -> Callable[[], object]:
    """Return a step of the usual loop, in bfloat16."""
    net = net.to(images.device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    forward: Callable[[Tensor], Any] = torch.compile(net, mode=mode) if mode else net

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16):
            output = forward(normalize(images))
        logits = output["out"] if isinstance(output, dict) else output
        loss = functional.cross_entropy(logits.float(), target.long())
        torch.autograd.backward(loss)
        optimizer.step()
        loss.item()

    return step


def prediction(net: nn.Module, images: Tensor, mode: str) -> Callable[[], object]:
    """Return a call that labels the images, in bfloat16."""
    net = net.to(images.device).eval()
    forward: Callable[[Tensor], Any] = torch.compile(net, mode=mode) if mode else net

    @torch.inference_mode()
    def label() -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16):
            output = forward(images if isinstance(net, FCN) else normalize(images))
        logits: Tensor = output["out"] if isinstance(output, dict) else output
        return logits.argmax(1).to(torch.uint8).cpu()

    return label


def normalize(images: Tensor) -> Tensor:
    """Return float images, channels last."""
    return (images.float() / 255).to(memory_format=torch.channels_last)


def measure(work: Callable[[], object], device: torch.device, rounds: int) -> tuple[float, float | None]:
    """Return the median milliseconds of `rounds` calls after two others, and GiB of GPU memory at the peak."""
    gpu = device.type == "cuda"
    seconds = []
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    for number in range(rounds + 2):
        start = time.perf_counter()
        work()
        if gpu:
            torch.cuda.synchronize()
        if number >= 2 or rounds == 1:
            seconds.append(time.perf_counter() - start)
        if rounds == 1:  # the CPU is too slow for more
            break
    return 1000 * statistics.median(seconds), torch.cuda.max_memory_allocated() / 2**30 if gpu else None


def measure_nets(part: str, setting: Setting, device: torch.device, modes: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of all networks; a failure is a row with its reason."""
    here = device == setting.device
    count, rounds = (setting.batch, setting.rounds) if here else (1, 1)
    chosen = {name: build for name, build in nets().items() if any(text in name for text in setting.nets)}
    for name, build in chosen.items():
        for mode in modes:
            row = Row(part, name, device.type, COMPILED[mode])
            if time.monotonic() > setting.deadline:
                yield replace(row, problem="no time was left")
                continue
            try:
                torch.manual_seed(0)
                images, target = make_images(setting, device, count)
                net = build().to(memory_format=torch.channels_last)
                if part == "prediction":
                    work = prediction(net, images, mode)
                else:
                    net.train()
                    step: Callable[..., Callable[[], object]] = our_step if isinstance(net, FCN) else their_step
                    work = step(net, images, target, mode)
                milliseconds, memory = measure(work, device, rounds)
            except Exception as error:  # of compilers and drivers, of many types
                yield replace(row, problem=f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")
            else:
                scaled = milliseconds * setting.batch / count
                yield replace(row, milliseconds=scaled, memory=memory)
            finally:
                torch.compiler.reset()
                if device.type == "cuda":
                    torch.cuda.empty_cache()


def measure_onnx(setting: Setting) -> Iterator[Row]:
    """Yield the rows of the bundled model on ONNX Runtime: each provider that is there."""
    image = np.random.default_rng(0).integers(0, 256, (1, setting.size, setting.size, 3), np.uint8)
    import onnxruntime  # after fullconv, which turns its telemetry off

    available = onnxruntime.get_available_providers()
    for provider in ("CUDAExecutionProvider", "CPUExecutionProvider"):
        row = Row("ONNX Runtime, one image", "street", provider.removesuffix("ExecutionProvider").lower(), "eager")
        if provider not in available:
            yield replace(row, problem="this build of ONNX Runtime has no such provider")
            continue
        session = onnxruntime.InferenceSession(str(bundled("street")), providers=[provider])
        work = lambda session=session: session.run(["label_map"], {"images": image})  # noqa: E731
        milliseconds, _ = measure(work, torch.device("cpu"), setting.rounds)
        yield replace(row, milliseconds=milliseconds)


def make_table(part: str, rows: Sequence[Row]) -> str:
    """Return the Markdown table of a part. The ratio is to `REFERENCE` with the same device and mode."""
    reference = {(row.device, row.mode): row.milliseconds for row in rows if row.net == REFERENCE}
    lines = [f"## {part}", "", "| network | device | mode | ms | ratio | GiB |", "|---|---|---|---:|---:|---:|"]
    for row in rows:
        base = reference.get((row.device, row.mode))
        if row.milliseconds is None:
            cells = [row.problem, "", ""]
        else:
            ratio = f"{row.milliseconds / base:.2f}" if base else ""
            cells = [f"{row.milliseconds:.1f}", ratio, "" if row.memory is None else f"{row.memory:.2f}"]
        lines.append("| " + " | ".join([row.net, row.device, row.mode, *cells]) + " |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all parts, and print their tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--nets", nargs="+", default=[""], help="only networks whose name contains one of these")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu.py: torch finds no GPU here; run it on a machine with one (--device cpu only tests the script)")
    device = torch.device(options.device)
    deadline = time.monotonic() + options.seconds
    setting = Setting(device, options.size, options.batch, options.rounds, deadline, tuple(options.nets))
    modes = ["default", "reduce-overhead"]
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(f"{name}, torch {torch.__version__}: {options.batch} images of {options.size}x{options.size}, bfloat16\n")
    rows: list[Row] = []
    cpu = torch.device("cpu")
    for part, title, measured in (
        ("gpu", "training step", measure_nets("training step", setting, device, [""])),
        ("gpu", "prediction", measure_nets("prediction", setting, device, [""])),
        ("onnx", "ONNX Runtime, one image", measure_onnx(setting)),
        ("cpu", "training step, CPU", measure_nets("training step", setting, cpu, [""])),
        ("cpu", "prediction, CPU", measure_nets("prediction", setting, cpu, [""])),
        ("compiled", "training step, compiled", measure_nets("training step", setting, device, modes)),  # takes long
        ("compiled", "prediction, compiled", measure_nets("prediction", setting, device, modes)),
    ):
        if part not in options.parts or (device == cpu and part == "cpu"):
            continue
        found = []
        for row in measured:
            found.append(row)
            if options.json is not None:
                values = [asdict(row) for row in [*rows, *found]]
                options.json.write_text(json.dumps(values, indent=1), encoding="utf-8")
        rows += found
        print(make_table(title, found) if found else "", end="", flush=True)


if __name__ == "__main__":
    main()
