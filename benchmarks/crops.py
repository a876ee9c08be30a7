"""Measure the time of a training sample with each value of the recipe that changes crops, as a ratio to the default.

    python benchmarks/crops.py ../shared/camvid [--rounds 60]

One core makes crops of 352 x 352 pixels from images in memory. All recipes take turns on the same samples, and ratios
are taken between totals of one run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from fullconv.data.statistics import read_training_data
from fullconv.training.crops.rare import RareClasses
from fullconv.training.data_module import DataModule
from fullconv.training.recipe import Recipe

VALUES: dict[str, dict[str, float]] = {
    "default": {},
    "hue": {"hue": 0.1},
    "gamma": {"gamma": 0.5},
    "grey": {"grey": 0.1},
    "blur": {"blur": 1.5},
    "noise": {"noise": 10},
    "jpeg": {"jpeg": 0.7},
    "rare_crops": {"rare_crops": 0.5},
    "copy_paste": {"copy_paste": 0.5},
}


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset, statistics = read_training_data(arguments.data)
    rare = RareClasses.of(statistics)
    kinds = {**VALUES, "all": {name: value for one in VALUES.values() for name, value in one.items()}}
    modules = {
        name: DataModule(dataset, Recipe.from_dict({"crop": 352, **values}), rare=rare)
        for name, values in kinds.items()
    }
    cache = modules["default"].train_samples._cache
    for module in modules.values():
        module.train_samples._cache = cache  # all use the same decoded images
    count = len(dataset.split("train"))
    for index in range(count):
        modules["default"].train_samples.decode(index)
    seconds = dict.fromkeys(kinds, 0.0)
    for number in range(arguments.rounds):
        for name, module in modules.items():
            start = time.thread_time()
            module.train_samples[number // count, number % count]
            seconds[name] += time.thread_time() - start
    print("| recipe | ms a crop | ratio |\n|---|---:|---:|")
    for name, total in seconds.items():
        print(f"| {name} | {1000 * total / arguments.rounds:.1f} | {total / seconds['default']:.2f} |")


if __name__ == "__main__":
    main()
