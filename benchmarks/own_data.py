"""Compare `fullconv train` without options with segmentation_models.pytorch on people's own data, in the same minutes.

    pip install -e ".[train,bench]"
    python benchmarks/own_data.py all --minutes 10 --seeds 0 1 2 --out runs/own-data
    python benchmarks/own_data.py membranes nuclei FOLDER --minutes 10 --out runs/own-data [--methods fullconv Unet]
    python benchmarks/own_data.py --compare runs/own-data

DATA is a name of `own_data_sets.py`, or a folder that `fullconv train` reads. Ours is trained with no option but the
time. `own_data_peers.py` says how the others are trained. All have the same split, the same pretrained features, the
same cores, and nothing else should run on the machine. The last weights of each training are scored on the validation
images, so that nothing is chosen on them; our best weights, which users get, are in the .json file, too.

Each training writes OUT/DATA-METHOD-SEED.json; those that exist are not repeated, and our runs resume. --compare prints
means of mIoU with Student's 95 % intervals over the seeds, and the interval of the difference to ours, paired by seed.

If `fullconv train` has --minutes, it is used. Otherwise two short trainings measure the seconds of an epoch and of a
validation, and the number of epochs follows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from drives import STUDENT
from own_data_peers import ENCODERS, LEARNING_RATE, METHODS, train_peer
from own_data_sets import SETS, prepare

from fullconv.cores import usable_cores
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_training_data
from fullconv.evaluation.measure import measure
from fullconv.files import write_text
from fullconv.net.classifiers.backbones import bundled_weights
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.runner import Runner
from fullconv.training.choose import MODEL

OURS = "fullconv"
VALIDATIONS = 12
SHORT, LONG = 1, 3
"""The epochs of the two trainings that measure the time."""

COMMAND = [sys.executable, "-m", "fullconv", "train"]


@cache
def has_minutes() -> bool:
    """Return whether `fullconv train` plans by the time."""
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    return "--minutes" in done.stdout


def try_epochs(data: Path, epochs: int, extra: list[str]) -> float:
    """Return the seconds of a training of so many epochs with one validation."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ["--epochs", str(epochs), "--set", f"val_every={epochs}", "--out", str(out)]
        done = subprocess.run([*COMMAND, str(data), *words, *extra], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        return float(json.loads((out / "scores.json").read_text(encoding="utf-8"))["run"]["seconds"])


def plan_time(data: Path, minutes: float, extra: list[str]) -> list[str]:
    """Return the options of a training that takes so many minutes."""
    if has_minutes():
        return ["--minutes", f"{minutes:g}"]
    first, second = (try_epochs(data, epochs, extra) for epochs in (SHORT, LONG))
    epoch = max(1e-3, (second - first) / (LONG - SHORT))
    validation = max(0.0, first - SHORT * epoch)
    every = max(1, round((60 * minutes - VALIDATIONS * validation) / epoch / VALIDATIONS))
    times = max(1, int(60 * minutes / (every * epoch + validation)))
    return ["--epochs", str(times * every), "--set", f"val_every={every}"]


def train_ours(data: Path, out: Path, minutes: float, seed: int, extra: list[str]) -> dict[str, Any]:
    """Train, or resume a training; return its scores. `extra` are more options of `fullconv train`."""
    plan = out.with_name(f"{out.name}.time.json")
    if not plan.is_file():
        write_text(plan, json.dumps(plan_time(data, minutes, extra)))
    words = [*json.loads(plan.read_text(encoding="utf-8")), "--set", f"seed={seed}", *extra]
    subprocess.run([*COMMAND, str(data), *words, "--out", str(out), "--resume"], check=True)
    trained = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    values = score(TorchRunner.load(out / "last.safetensors"), find_dataset(data))
    run = trained["run"]
    return {
        **values,
        "best_mean_iou": trained["mean_iou"],
        "seconds": run["seconds"],
        "parameters": run["parameters"],
        "options": words,
    }


def train_other(method: str, data: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train a network of segmentation_models.pytorch; return its scores."""
    dataset, _ = read_training_data(data)
    weights = bundled_weights(options.backbone)
    if weights is None:
        weights = options.shared / "weights" / f"{options.backbone}_features.safetensors"
    trained = train_peer(method, dataset, (options.backbone, weights), options.minutes, seed, options.lr)
    values = score(trained.runner, dataset)
    return {**values, "seconds": trained.seconds, "parameters": trained.parameters, "steps": trained.steps}


def score(runner: Runner, dataset: DataSet) -> dict[str, Any]:
    """Return the mIoU on the validation images, and the IoU of each class; -1 for absent classes."""
    scores = measure(runner, dataset.read_as(runner.info.input), "val").scores
    pairs = zip(scores.class_names, scores.per_class_iou, strict=True)
    return {"mean_iou": scores.mean_iou, "classes": {name: -1.0 if iou is None else iou for name, iou in pairs}}


def run(out: Path, key: tuple[str, str, int], train: Callable[[], dict[str, Any]]) -> None:
    """Train by `train` and write the result, unless it is there."""
    file = out / f"{'-'.join(map(str, key))}.json"
    if not file.is_file():
        values = train()
        data, method, seed = key
        write_text(file, json.dumps({"data": data, "method": method, "seed": seed, **values}, indent=1))
    values = json.loads(file.read_text(encoding="utf-8"))
    print(*key, f"{100 * values['mean_iou']:.1f} mIoU, {values['seconds']:.0f} s", flush=True)


def format_mean(values: list[float], sign: str = "") -> str:
    """Format the mean in percent with Student's 95 % interval; a single value has none."""
    text = f"{100 * fmean(values):{sign}.1f}"
    if len(values) < 2:
        return text
    mean = fmean(values)
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{text} ± {100 * STUDENT[len(values) - 1] * deviation / len(values) ** 0.5:.1f}"


def make_table(results: list[dict[str, Any]]) -> str:
    """Return a Markdown table: a row for each data set and method, ours first."""
    lines = [
        "| data | method | seeds | mIoU | ours minus it | seconds | parameters |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    by: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for values in results:
        by.setdefault((values["data"], values["method"]), {})[values["seed"]] = values
    for data, method in sorted(by, key=lambda pair: (pair[0], pair[1] != OURS, pair[1])):
        runs, ours = by[data, method], by.get((data, OURS), {})
        shared = sorted(runs.keys() & ours.keys())
        gains = [ours[seed]["mean_iou"] - runs[seed]["mean_iou"] for seed in shared]
        gain = format_mean(gains, "+") if gains and method != OURS else ""
        mean, seconds = (
            format_mean([one["mean_iou"] for one in runs.values()]),
            fmean(one["seconds"] for one in runs.values()),
        )
        parameters = next(iter(runs.values()))["parameters"]
        lines.append(
            f"| {data} | {method} | {len(runs)} | {mean} | {gain} | {seconds:.0f} | {parameters / 1e6:.1f} M |"
        )
    return "\n".join(lines) + "\n"


def read_results(folders: list[Path]) -> list[dict[str, Any]]:
    """Read the results below some folders."""
    contents = (json.loads(file.read_text(encoding="utf-8")) for out in folders for file in sorted(out.glob("*.json")))
    return [values for values in contents if isinstance(values, dict) and "method" in values]


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help=f"folders, `all`, or any of {', '.join(SETS)}")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[OURS, *METHODS], choices=[OURS, *METHODS])
    parser.add_argument("--backbone", choices=list(ENCODERS), default=MODEL, help="that of the others; default: ours")
    parser.add_argument("--lr", type=float, default=LEARNING_RATE, help="learning rate of the others")
    parser.add_argument("--out", type=Path, default=Path("runs/own-data"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder with camvid and membranes")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="OUT", help="only print the table")
    options = parser.parse_args()
    if not options.data and not options.compare:
        parser.error("give DATA, or --compare")
    return options


def main() -> None:
    """Train what is not finished, and print the table."""
    options = parse_arguments()
    if options.compare:
        print(make_table(read_results(options.compare)))
        return
    torch.set_num_threads(usable_cores())
    names = list(SETS) if options.data == ["all"] else options.data
    for name in names:
        data = prepare(name, options.out / "data", options.shared)
        for seed in options.seeds:
            for method in options.methods:
                title = (Path(name).name, method, seed)
                folder = options.out / "-".join(map(str, title))
                if method == OURS:
                    run(options.out, title, lambda: train_ours(data, folder, options.minutes, seed, []))  # noqa: B023
                else:
                    run(options.out, title, lambda: train_other(method, data, options, seed))  # noqa: B023
    print(make_table(read_results([options.out])))


if __name__ == "__main__":
    main()
