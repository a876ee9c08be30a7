"""Measure the label map of an annotated image with many large regions of several parts.

    python benchmarks/polygons.py [--regions 1000] [--parts 3] [--corners 60] [--radius 900] [--side 4000]

Each region is `--parts` star-shaped polygons of half of `--radius` to `--radius` pixels, in a COCO file; smaller ones
are painted over larger ones. Prints processor seconds, and the peak memory of the process. Results are in
docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fullconv.data.layouts import find_dataset


def draw_star(random: np.random.Generator, corners: int, radius: float, side: int) -> list[float]:
    """Return a polygon around a random place as x, y, x, y, ..."""
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = random.uniform(radius / 2, radius, corners)
    points = random.uniform(0, side, 2) + np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    return [round(float(value), 1) for value in points.clip(0, side).ravel()]


def write_coco(root: Path, given: argparse.Namespace) -> None:
    """Write one image and its annotations."""
    random = np.random.default_rng(0)
    (root / "images").mkdir()
    Image.new("RGB", (given.side, given.side)).save(root / "images" / "large.jpg")
    regions = [
        {
            "id": number,
            "image_id": 1,
            "category_id": number % 5,
            "segmentation": [draw_star(random, given.corners, given.radius, given.side) for _ in range(given.parts)],
        }
        for number in range(given.regions)
    ]
    values = {
        "images": [{"id": 1, "file_name": "large.jpg", "width": given.side, "height": given.side}],
        "annotations": regions,
        "categories": [{"id": number, "name": f"class {number}"} for number in range(5)],
    }
    (root / "instances.json").write_text(json.dumps(values), encoding="utf-8")


def main() -> None:
    """Write the data, and read the label map."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=1000)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--corners", type=int, default=60)
    parser.add_argument("--radius", type=float, default=900)
    parser.add_argument("--side", type=int, default=4000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_coco(Path(folder), given)
        dataset = find_dataset(Path(folder))
        started = time.process_time()
        dataset.read_mask((dataset.split("train") or dataset.split("val"))[0])
        seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.regions} regions of {given.parts} parts: {seconds:.1f} s of one core, {peak:.0f} MiB at the peak")


if __name__ == "__main__":
    main()
