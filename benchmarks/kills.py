"""Kill a training, again and again, at random moments: is a checkpoint ever unreadable, is the best model ever lost?

    python benchmarks/kills.py [--kills 200] [--seed 0] [--folder DIR]

A small network is trained on drawn cells (cells.py), once undisturbed, and once in sittings that each end by SIGKILL
after a random time, until all kills are used up; then it is resumed to its end. After every kill the files of the run
folder are opened: `last.ckpt` as the trainer reads it, whose best score must never fall, `best.safetensors` as
`predict` does, and `metrics.csv`, neither of which may know a lower one. In the end both runs' weights are compared,
number by number; it exits with 1 where they differ. Sittings are forked from one process that has imported everything,
so that most of their time is training.
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
from fullconv.learn.checkpointing import load_state
from fullconv.learn.job import Job
from fullconv.learn.recipe import default_recipe, override
from fullconv.learn.train import train
from fullconv.net.checkpoint import load_net
from fullconv.net.spec import NetSpec

VALUES = {"epochs": 60, "val_every": 2, "batch_size": 2, "crop": 64, "save_minutes": 0.003, "bf16": False}
LONGEST = 6.0


def sitting(data: Path, out: Path) -> int:
    """Fork a process that trains, or goes on, to the end; its number."""
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


def readable(out: Path, best: float) -> tuple[int, float]:
    """The step that a resumed run would go on from, and the best score; raises where a file cannot be read."""
    if not (out / "last.ckpt").exists():
        return 0, best
    state, _ = load_state(out / "last.ckpt")
    if state.best < best:
        raise SystemExit(f"the best score fell from {best} to {state.best}")
    if state.best >= 0:
        kept = load_net(out / "best.safetensors")[1].notes["val"]["mean_iou"]
        with (out / "metrics.csv").open(encoding="utf-8", newline="") as file:
            told = max(float(row["mean_iou"]) for row in csv.DictReader(file))
        for name, score in (("best.safetensors", kept), ("metrics.csv", told)):
            if score < state.best:
                raise SystemExit(f"the best score of {name} is {score}, where {state.best} was reached")
    return state.step, state.best


def killed(data: Path, out: Path, kills: int, chance: random.Random) -> int:
    """Train in sittings that are killed; the kills that met a training, after which it is resumed to its end."""
    met, best, fresh = 0, -1.0, 0
    while met < kills:
        child = sitting(data, out)
        time.sleep(chance.uniform(0.2, LONGEST))
        done, _ = os.waitpid(child, os.WNOHANG)
        if done:  # it came to its end: begin another run beside it
            fresh += 1
            out, best = out.with_name(f"killed-{fresh}"), -1.0
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        met += 1
        step, best = readable(out, best)
        if met % 10 == 0:
            print(f"{met:>4} kills, run {fresh}, step {step}, best mean IU {100 * max(best, 0):.1f}", flush=True)
    _, status = os.waitpid(sitting(data, out), 0)
    if status:
        raise SystemExit("the run could not be resumed to its end")
    return fresh


def main() -> None:
    """Print a line for every ten kills, and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="for data and runs; a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        data = folder / "cells"
        maker = Path(__file__).with_name("cells.py")
        subprocess.run([sys.executable, maker, data, "--count", "10", "--size", "96x80"], check=True)
        _, status = os.waitpid(sitting(data, folder / "undisturbed"), 0)
        if status:
            raise SystemExit("the undisturbed run failed")
        fresh = killed(data, folder / "killed-0", options.kills, random.Random(options.seed))
        expected = load_file(folder / "undisturbed" / "best.safetensors")
        worst = 0
        for number in range(fresh + 1):
            found = load_file(folder / f"killed-{number}" / "best.safetensors")
            differ = [name for name in expected if not torch.equal(expected[name], found[name])]
            print(f"run {number}: {len(differ)} of {len(expected)} tensors differ from those of the undisturbed run")
            worst = max(worst, len(differ))
        if worst:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
