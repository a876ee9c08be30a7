"""Score a recipe on drives that its training did not see: leave one drive of CamVid out, train on the others.

    python benchmarks/drives.py ../shared/camvid --out runs/drives/today --seeds 0 1 -- --stride 4 --epochs 48 \
        --set val_every=4 --set ema=0.995
    python benchmarks/drives.py --compare runs/drives/*

CamVid's training images are of three drives; the part of a name before `_` is the drive. Each drive and seed has a run
folder below --out. The arguments after `--` are those of `fullconv train`. The last weights are scored, so nothing is
chosen on the drive that is scored. If the script is run again, it resumes unfinished trainings and only reads finished
ones. It writes OUT/drives.json; --compare prints one row for each of them.

The mean over the drives is that of the three mIoU. Its interval is Student's, 95 %, over the seeds (each seed gives one
mean over the drives); with one seed there is none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from fullconv.data.dataset import DataSet, Sample
from fullconv.data.layouts import find_dataset
from fullconv.evaluation.measure import measure
from fullconv.files import write_text
from fullconv.images import write_label_map
from fullconv.net.torch_runner import TorchRunner

STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}
"""The 97.5 % quantiles of Student's distribution by degrees of freedom."""


def drive_of(sample: Sample) -> str:
    """Return the drive of an image of CamVid."""
    return sample.name.rpartition("/")[2].partition("_")[0]


def hold_out(dataset: DataSet, drive: str, root: Path) -> None:
    """Write the data set whose validation images are one drive, and whose training images are the others.

    Images are copied, and the masks are written as class ids. classes.txt is written last.
    """
    if (root / "classes.txt").is_file():
        return
    for sample in dataset.split("train"):
        split = "val" if drive_of(sample) == drive else "train"
        name = sample.name.rpartition("/")[2]
        image = root / "images" / split / f"{name}{sample.image.suffix}"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(sample.image.read_bytes())
        write_label_map(root / "masks" / split / f"{name}.png", dataset.read_mask(sample), dataset.labels)
    write_text(root / "classes.txt", "\n".join(dataset.labels.class_names) + "\n")


def run(data: Path, out: Path, seed: int, rest: list[str]) -> dict[str, Any]:
    """Train, or resume a training, and return the confusion matrix of the last weights on the drive held out."""
    done = out / "drive.json"
    if done.is_file():
        values: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return values
    command = [sys.executable, "-m", "fullconv", "train", str(data), *rest, "--set", f"seed={seed}"]
    subprocess.run([*command, "--out", str(out), "--resume"], check=True)
    measured = measure(TorchRunner.load(out / "last.safetensors"), find_dataset(data), "val")
    scores, trained = measured.scores, json.loads((out / "scores.json").read_text(encoding="utf-8"))
    values = {
        "mean_iou": scores.mean_iou,
        "classes": {
            name: -1.0 if iou is None else iou
            for name, iou in zip(scores.class_names, scores.per_class_iou, strict=True)
        },
        "best_mean_iou": trained["mean_iou"],
        "seconds": trained["run"]["seconds"],
        "parameters": trained["run"]["parameters"],
    }
    write_text(done, json.dumps(values, indent=1))
    return values


def summarize(runs: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the mean over drives and its interval from results by seed and drive."""
    means = [fmean(values["mean_iou"] for values in drives.values()) for drives in runs.values()]
    half = STUDENT[len(means) - 1] * stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
    drives = {name: fmean(by[name]["mean_iou"] for by in runs.values()) for name in next(iter(runs.values()))}
    every = [values["classes"] for by in runs.values() for values in by.values()]
    classes = {
        name: fmean(shares) if (shares := [one[name] for one in every if one[name] >= 0]) else -1.0 for name in every[0]
    }
    seconds = fmean(values["seconds"] for by in runs.values() for values in by.values())
    return {"mean_iou": fmean(means), "half": half, "drives": drives, "classes": classes, "seconds": seconds}


def make_table(summaries: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table in percent: a row a recipe, the mean over drives, each drive, each class."""
    first = next(iter(summaries.values()))
    columns = [*first["drives"], *first["classes"]]
    lines = [f"| recipe | mean over drives | {' | '.join(columns)} | s a run |", "|---|" + "---:|" * (len(columns) + 2)]
    for name, values in summaries.items():
        mean = f"{100 * values['mean_iou']:.1f}"
        mean += "" if values["half"] is None else f" ± {100 * values['half']:.1f}"
        shares = [values["drives"][drive] for drive in first["drives"]]
        shares += [values["classes"].get(label, -1.0) for label in first["classes"]]
        cells = ["" if share < 0 else f"{100 * share:.1f}" for share in shares]
        lines.append(f"| {name} | {mean} | {' | '.join(cells)} | {values['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not finished, or print the table of finished recipes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--drives", nargs="+", help="only these drives")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="OUT")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given = parser.parse_args(sys.argv[1:split])
    if given.compare:
        files = [out / "drives.json" for out in given.compare if (out / "drives.json").is_file()]
        print(make_table({file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}))
        return
    if given.data is None or given.out is None:
        parser.error("give DATA and --out, or --compare")
    dataset = find_dataset(given.data)
    drives = given.drives or sorted({drive_of(sample) for sample in dataset.split("train")})
    runs: dict[str, dict[str, dict[str, Any]]] = {str(seed): {} for seed in given.seeds}
    for drive in drives:
        hold_out(dataset, drive, given.out / "data" / drive)
    for seed in given.seeds:
        for drive in drives:
            data, out = given.out / "data" / drive, given.out / f"{drive}-{seed}"
            runs[str(seed)][drive] = run(data, out, seed, sys.argv[split + 1 :])
            print(seed, drive, f"{100 * runs[str(seed)][drive]['mean_iou']:.1f}", flush=True)
    summary = summarize(runs)
    write_text(given.out / "drives.json", json.dumps(summary, indent=1))
    print(make_table({given.out.name: summary}))


if __name__ == "__main__":
    main()
