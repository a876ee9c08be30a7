"""Kill a training at random moments, many times, and check that no checkpoint and no best model is ever lost.

    python benchmarks/kills.py [--kills 200] [--seed 0] [--folder DIR]

A small network is trained on drawn cells (cells.py) twice: once without interruption, and once in sittings that SIGKILL
ends after a random time. When all kills are used, the second training is resumed to its end.

After every kill the files of the run folder are read: `last.ckpt` as the trainer reads it, `best.safetensors` as
`predict` does, and `metrics.csv`. The best score in `last.ckpt` must never fall, and the other two must not have a
lower one. At the end the weights of both trainings are compared; if any number differs, the exit code is 1. Sittings
are forked from a process that has imported everything, so that most of their time is training.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from fullconv.data.layouts import find_dataset
from fullconv.net.checkpoint import load_net
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.checkpointing import load_state
from fullconv.training.job import Job
from fullconv.training.recipe import default_recipe, override
from fullconv.training.train import train

VALUES = {"epochs": 60, "val_every": 2, "batch_size": 2, "crop": 64, "save_minutes": 0.003, "bf16": False}
LONGEST = 6.0


def start_sitting(data: Path, out: Path) -> int:
    """Fork a process that starts or resumes the training and runs it to the end; return its process id."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        status = 1
        try:
            spec = NetSpec("mobilenet_v2", 3, 8)
            train(find_dataset(data), Job(spec, override(default_recipe(), VALUES)), out, resume=True)
            status = 0
        finally:
            os._exit(status)
    return child


def check_files(out: Path, best: float) -> tuple[int, float]:
    """Return the step from which the training would resume, and the best score.

    Raises SystemExit if the best score is lower than `best`, or the files disagree; other errors mean an unreadable
    file.
    """
    if not (out / "last.ckpt").exists():
        return 0, best
    state, _ = load_state(out / "last.ckpt")
    if state.best < best:
        raise SystemExit(f"the best score fell from {best} to {state.best}")
    if state.best >= 0:
        in_model = load_net(out / "best.safetensors")[1].notes["val"]["mean_iou"]
        with (out / "metrics.csv").open(encoding="utf-8", newline="") as file:
            in_metrics = max(float(row["mean_iou"]) for row in csv.DictReader(file))
        for name, score in (("best.safetensors", in_model), ("metrics.csv", in_metrics)):
            if score < state.best:
                raise SystemExit(f"{name} has the best score {score}, but {state.best} was reached")
    return state.step, state.best


def train_with_kills(data: Path, out: Path, kills: int, chance: random.Random) -> int:
    """Train in sittings that are killed, then resume the training to its end.

    Only kills that hit a running training count. Returns how many further trainings were started because one finished.
    """
    hits, best, restarts = 0, -1.0, 0
    while hits < kills:
        child = start_sitting(data, out)
        time.sleep(chance.uniform(0.2, LONGEST))
        done, _ = os.waitpid(child, os.WNOHANG)
        if done:  # the training is finished: start another one in a new folder
            restarts += 1
            out, best = out.with_name(f"killed-{restarts}"), -1.0
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        hits += 1
        step, best = check_files(out, best)
        if hits % 10 == 0:
            print(f"{hits:>4} kills, run {restarts}, step {step}, best mIoU {100 * max(best, 0):.1f}", flush=True)
    _, status = os.waitpid(start_sitting(data, out), 0)
    if status:
        raise SystemExit("the run could not be resumed to its end")
    return restarts


def main() -> None:
    """Train, kill and compare; print a line for every ten kills, then the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="folder for data and runs; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        data = folder / "cells"
        maker = Path(__file__).with_name("cells.py")
        subprocess.run([sys.executable, maker, data, "--count", "10", "--size", "96x80"], check=True)
        _, status = os.waitpid(start_sitting(data, folder / "undisturbed"), 0)
        if status:
            raise SystemExit("the undisturbed run failed")
        restarts = train_with_kills(data, folder / "killed-0", options.kills, random.Random(options.seed))
        expected = load_file(folder / "undisturbed" / "best.safetensors")
        worst = 0
        for number in range(restarts + 1):
            weights = load_file(folder / f"killed-{number}" / "best.safetensors")
            differ = [name for name in expected if not torch.equal(expected[name], weights[name])]
            print(f"run {number}: {len(differ)} of {len(expected)} tensors differ from those of the undisturbed run")
            worst = max(worst, len(differ))
        if worst:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
