"""Damaged model files for each reader; `python tests/fuzz_models.py READER FIRST CASES` runs some in this process.

A case is a valid file of which some values or bytes are replaced. It may be read, or end in a FullconvError. Anything
else is a finding: another exception, a crash, 2 GB, 20 seconds. Case N of a reader is always the same file.
"""

from __future__ import annotations

import copy
import faulthandler
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS, MEMORY = 20, 2 * 2**30

NASTY: tuple[Any, ...] = (
    *(0, 1, -1, 2, 255, 256, 10**6, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e308, float("nan"), float("inf")),
    *(None, True, False, "", "x", "8", "\x00", "\x1b[2K", "../x", "1e999999999", "é" * 5000, [], {}, [[]], [None]),
    *([0] * 3, ["a"] * 300, {"a": 1}, "[" * 5000, list(range(300))),
)


def mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    """Replace, remove, repeat or cut some bytes."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        elif kind == 1:
            data[at : at + chance.choice((1, 4, 8))] = chance.randbytes(chance.choice((1, 4, 8)))
        elif kind == 2:
            del data[at : at + chance.choice((1, 2, 16, 200))]
        elif kind == 3:
            data[at:at] = data[at : at + chance.choice((1, 8, 100))]
        elif kind == 4 and chance.random() < 0.3:
            del data[at:]
        elif data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
    return bytes(data)


def mutate_values(values: Any, chance: random.Random) -> Any:
    """Replace, remove or add a value somewhere in lists and dictionaries."""
    whole = [json.loads(json.dumps(values))]
    for _ in range(chance.choice((1, 1, 2, 5))):
        part: Any = whole
        key: Any = 0
        while isinstance(part[key], list | dict) and part[key] and chance.random() < 0.85:
            part = part[key]
            key = chance.choice(list(part)) if isinstance(part, dict) else chance.randrange(len(part))
        kind = chance.randrange(5)
        if kind == 0 and part is not whole:
            del part[key]
        elif kind == 1 and isinstance(part, dict):
            part[chance.choice(("x", "", key))] = copy.deepcopy(chance.choice(NASTY))
        elif kind == 2 and isinstance(part[key], int | float):
            part[key] = chance.choice((part[key] + 1, -part[key], part[key] * 1000, part[key] / 2, str(part[key])))
        else:
            part[key] = copy.deepcopy(chance.choice(NASTY))
    return whole[0]


Case = Callable[[random.Random, Path], None]
"""Writes one damaged file into a folder, and reads it."""


def onnx() -> Case:
    """Return the cases of ONNX files: their descriptions, and their bytes."""
    from onnx import TensorProto, helper

    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import bundled
    from fullconv.runtime.onnx_bytes.scan import scan_onnx

    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w"], ["logits"], kernel_shape=[4, 4], strides=[4, 4], pads=[16] * 4),
    ]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [11, 3, 4, 4], np.linspace(-1, 1, 528).tolist())
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 11, "h", "w"])
    graph = helper.make_graph(nodes, "g", [images], [logits], [weights])
    texts = scan_onnx(bundled("street"))
    texts = {name: text for name, text in texts.items() if name not in ("recipe", "scores", "network", "weights")}

    def write(changed: dict[str, str]) -> bytes:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        helper.set_model_props(model, changed)
        content: bytes = model.SerializeToString()
        return content

    values, whole = {name: json.loads(text) for name, text in texts.items()}, write(texts)

    def case(chance: random.Random, folder: Path) -> None:
        path = folder / "net.onnx"
        if chance.random() < 0.6:
            changed = mutate_values(values, chance)
            if not isinstance(changed, dict):
                return
            path.write_bytes(write({name: json.dumps(value) for name, value in changed.items()}))
        else:
            path.write_bytes(mutate_bytes(whole, chance))
        runner = load_runner(path)
        pixels = np.zeros((1, 32, 40, runner.info.input.channels), np.uint8)
        runner.info.labels.colorize(runner.label_maps(pixels)[0])
        runner.logits(pixels)

    return case


def safetensors() -> Case:
    """Return the cases of weights files of fullconv."""
    import torch
    from safetensors.torch import save

    from fullconv.labels import LabelSet
    from fullconv.net.checkpoint import load_net
    from fullconv.net.fcn.network import build
    from fullconv.net.fcn.spec import NetSpec
    from fullconv.net.torch_runner import TorchRunner

    torch.manual_seed(0)
    net = build(NetSpec("digits", 2, 32))
    state = net.state_dict()
    values = {"spec": net.spec.to_dict(), "labels": LabelSet.named(["a", "b"]).to_dict(), "notes": {"step": 1}}
    whole = save(state, {"fullconv": json.dumps(values)})
    header = int.from_bytes(whole[:8], "little")

    def case(chance: random.Random, folder: Path) -> None:
        path = folder / "net.safetensors"
        if chance.random() < 0.6:
            path.write_bytes(save(state, {"fullconv": json.dumps(mutate_values(values, chance))}))
        elif chance.random() < 0.7:
            head = mutate_bytes(whole[8 : 8 + header], chance)
            path.write_bytes(len(head).to_bytes(8, "little") + head + whole[8 + header :])
        else:
            path.write_bytes(mutate_bytes(whole, chance))
        found, saved = load_net(path)
        pixels = np.zeros((1, 32, 40, found.spec.channels), np.uint8)
        TorchRunner(found, saved.labels, "cpu").label_maps(pixels)

    return case


def _published(suffix: str, whole: bytes) -> Case:
    from fullconv.net.reference.published import read_layers, read_published

    def case(chance: random.Random, folder: Path) -> None:
        path = folder / f"net{suffix}"
        path.write_bytes(mutate_bytes(whole, chance))
        read_layers(path)
        read_published(path)

    return case


def npz() -> Case:
    """Return the cases of published weights in NumPy's archives."""
    file = io.BytesIO()
    np.savez_compressed(file, **{"score_fr.weight": np.zeros((2, 3, 1, 1), np.float32), "fc6.bias": np.zeros(9)})
    return _published(".npz", file.getvalue())


def pth() -> Case:
    """Return the cases of published weights that torch saved."""
    import torch

    file = io.BytesIO()
    torch.save({"score_fr.weight": torch.zeros(2, 3, 1, 1), "fc6.bias": torch.zeros(9)}, file)
    return _published(".pth", file.getvalue())


def caffemodel() -> Case:
    """Return the cases of published weights of Caffe."""

    def message(number: int, content: bytes) -> bytes:
        return (
            bytes([number << 3 & 127 | 2 | (128 if number > 15 else 0)])
            + (bytes([number >> 4]) if number > 15 else b"")
            + bytes([len(content)])
            + content
        )

    blob = message(7, message(1, bytes([2, 3, 1, 1]))) + message(5, np.zeros(6, "<f4").tobytes())
    layer = message(1, b"score_fr") + message(7, blob)
    return _published(".caffemodel", message(100, layer) * 2)


def ckpt() -> Case:
    """Return the cases of checkpoints."""
    import torch

    from fullconv.training.checkpointing import load_state

    state = {"step": 3, "validated": 2, "seconds": 1.0, "best": 0.5, "losses": [1.0], "rows": [{"epoch": 1.0}]}
    values = {"fullconv": state, "optimizer_states": [{"state": {}, "param_groups": []}]}

    def write(changed: Any, path: Path) -> None:
        torch.save({**changed, "state_dict": {"a": torch.zeros(9)}} if isinstance(changed, dict) else changed, path)

    def case(chance: random.Random, folder: Path) -> None:
        path = folder / "last.ckpt"
        write(mutate_values(values, chance) if chance.random() < 0.5 else values, path)
        if chance.random() < 0.5:
            path.write_bytes(mutate_bytes(path.read_bytes(), chance))
        load_state(path)

    return case


def run_folder() -> Case:
    """Return the cases of recipe.yaml, metrics.csv and scores.json in a run folder."""
    import yaml

    from fullconv.metrics import Scores
    from fullconv.report.source import options_of_run, read_scores, read_source

    scores = Scores.from_confusion(np.array([[1, 2], [3, 4]]), ["a", "b"])
    finished = {**scores.to_dict(), "run": {"seconds": 1.0, "parameters": 7, "alarm": ""}}
    options = {"images": None, "masks": None, "mask_nodata": "ignore", "val_share": 0.2}
    recipe = {"data": "x", "network": {"model": "vgg16", "stride": 8}, "reading": {"options": options}, "weights": None}
    head = "epoch,step,seconds,lr,train_loss,pixel_accuracy,mean_accuracy,mean_iou,fw_iou\n"

    def case(chance: random.Random, folder: Path) -> None:
        (folder / "metrics.csv").write_text(head + "1,1,1,1,1,1,1,1,1\n")
        name, text, values = chance.choice(
            (("recipe.yaml", yaml.safe_dump(recipe), recipe), ("scores.json", json.dumps(finished), finished))
        )
        content = text.encode()
        if chance.random() < 0.6:
            changed = mutate_values(values, chance)
            content = (json.dumps(changed) if name == "scores.json" else yaml.safe_dump(changed)).encode()
        else:
            content = mutate_bytes(content, chance)
        (folder / "scores.json").write_text(json.dumps(finished))
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        if chance.random() < 0.2:
            name, content = "metrics.csv", mutate_bytes((folder / "metrics.csv").read_bytes(), chance)
        (folder / name).write_bytes(content)
        read_scores(folder / "scores.json")
        source = read_source(folder)
        _ = (source.network, source.stride, source.pretrained, source.recipe)
        options_of_run(folder)

    return case


READERS: dict[str, Callable[[], Case]] = {
    reader.__name__: reader for reader in (onnx, safetensors, npz, pth, caffemodel, ckpt, run_folder)
}


def run(reader: str, first: int, cases: int) -> None:
    """Run cases in this process, and print a line for each finding; a case that ends the process is printed before."""
    from fullconv.errors import FullconvError

    case = READERS[reader]()
    _limit_memory()
    if hasattr(signal, "SIGPROF"):
        faulthandler.register(signal.SIGPROF, chain=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + cases):
            print(f"case {number}", flush=True)
            faulthandler.dump_traceback_later(30 * SECONDS, exit=True)
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: the machine may be busy
            try:
                case(random.Random(f"{reader} {number}"), Path(folder))
            except FullconvError as error:
                if len(str(error)) > 5000:
                    print(f"finding {number}: a message of {len(str(error))} characters", flush=True)
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                print(f"finding {number}: {type(error).__name__} at {place}: {str(error)[:200]!r}", flush=True)
            faulthandler.cancel_dump_traceback_later()
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_PROF, 0)


def _limit_memory() -> None:
    """Allow `MEMORY` more than the libraries take, where the system has such a limit."""
    status = Path("/proc/self/statm")
    if status.exists():
        import resource

        pages = int(status.read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def find(reader: str, cases: int) -> list[str]:
    """Run the cases of a reader in child processes, one after the other; return the findings."""
    findings, first = [], 0
    while first < cases:
        command = [sys.executable, "-W", "ignore", __file__, reader, str(first), str(cases - first)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
        lines = done.stdout.splitlines()
        findings += [f"{reader} {line}" for line in lines if line.startswith("finding")]
        if done.returncode == 0:
            break
        begun = [int(line.split()[1]) for line in lines if line.startswith("case ")]
        last = begun[-1] if begun else first
        findings.append(f"{reader} case {last} ended the process ({done.returncode}): {done.stderr[-1500:]}")
        if not begun:
            break
        first = last + 1
    return findings


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
