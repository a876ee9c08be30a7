"""Compare prediction strides on small data sets, in the same minutes: which one should `train` choose?

    python benchmarks/strides.py membranes cells camvid-25 --strides 8 4 2 --minutes 8 --seeds 0 1 2 --out runs/strides
    python benchmarks/strides.py membranes --strides 4 --minutes 8 --more=--crop=256 --out runs/strides-crop-256
    python benchmarks/strides.py --compare runs/strides

DATA is as in `own_data.py`, whose functions train and score here: the last weights, no option but the time, the stride
and those after --more. Finished trainings are not repeated. The table also has the width of the thinnest objects of
each data set, by which `training/choose.py` chooses, and the stride that it chooses now.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from own_data import format_mean, read_results, run, train_ours
from own_data_sets import prepare

from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.files import write_text
from fullconv.training.choose import choose_stride


def describe(data: Path) -> str:
    """Return the thinnest objects of the training masks, and the stride that `train` chooses."""
    statistics = read_statistics(find_dataset(data))
    thinnest = statistics.thinnest
    width = f"{thinnest[1]} px ({thinnest[0]})" if thinnest else "unknown"
    return f"{width} | {choose_stride(statistics).value}"


def make_table(out: Path) -> str:
    """Return a Markdown table: a row for each data set, a column for each stride, mIoU in percent."""
    by: dict[str, dict[str, list[float]]] = {}
    for values in read_results([out]):
        by.setdefault(values["data"], {}).setdefault(values["method"], []).append(values["mean_iou"])
    strides = sorted({stride for one in by.values() for stride in one}, key=lambda name: -int(name.split()[-1]))
    lines = [
        f"| data | thinnest objects | chosen stride | {' | '.join(strides)} |",
        "|---|---|---:|" + "---:|" * len(strides),
    ]
    for data, methods in by.items():
        about = json.loads((out / "data" / f"{data}.about.json").read_text(encoding="utf-8"))
        cells = (format_mean(methods[stride]) if stride in methods else "" for stride in strides)
        lines.append(f"| {data} | {about} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not finished, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=["membranes", "cells", "camvid-25"])
    parser.add_argument("--strides", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--more", action="append", default=[], help="another option of `fullconv train`, with its value"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/strides"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="the folder with camvid and membranes")
    parser.add_argument("--compare", type=Path, metavar="OUT", help="only print the table")
    options = parser.parse_args()
    if options.compare:
        print(make_table(options.compare))
        return
    for name in options.data:
        data = prepare(name, options.out / "data", options.shared)
        title = Path(name).name
        write_text(options.out / "data" / f"{title}.about.json", json.dumps(describe(data)))
        for seed in options.seeds:
            for stride in options.strides:
                folder = options.out / f"{title}-{stride}-{seed}"
                extra = ["--stride", str(stride), *options.more]
                run(
                    options.out,
                    (title, f"stride {stride}", seed),
                    lambda: train_ours(data, folder, options.minutes, seed, extra),  # noqa: B023
                )
    print(make_table(options.out))


if __name__ == "__main__":
    main()
