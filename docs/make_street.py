"""Write the bundled model `street` from a run: street.onnx, street-int8.onnx and street.safetensors.

    python docs/make_street.py RUN [RUN ...] --camvid CAMVID [--out src/fullconv/models]

The weights are the mean of those of the runs, which must start from the same network. They were trained on CamVid's
training and validation images together, so scores on them mean nothing, and the files have none; those of
docs/results.md are from drives that no training saw. street.safetensors is for `fullconv train --start street`; its
kernels are float16. Needs torch.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from fullconv.data.layouts import find_dataset
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn.network import FCN
from fullconv.onnx_export import export
from fullconv.onnx_graph.exported import read_exported, write_exported

ROOT = Path(__file__).parent.parent
DATA = "CamVid, training and validation images together"
LICENCE = "BSD-2-Clause for these weights; trained on CamVid, whose images are for research"


def describe(saved: Saved, labels: LabelSet) -> Saved:
    """Return the description of the run without paths of this machine and scores, with the colours of CamVid."""
    assert saved.labels.class_names == labels.class_names
    settings = {name: saved.notes["settings"][name] for name in ("recipe", "weights", "fullconv", "torch")}
    return Saved(saved.spec, labels, {"settings": {**settings, "data": DATA}})


def remove_scores(path: Path) -> None:
    """Remove the scores from an exported file; the loss by eight bits stays."""
    model, metadata = read_exported(path)
    notes = {name: value for name, value in metadata.notes.items() if name != "scores"}
    write_exported(path, model, replace(metadata, notes=notes))


def load_mean(runs: Sequence[Path]) -> tuple[FCN, Saved]:
    """Load the network of the first run with the mean weights of all runs."""
    nets, saved = zip(*(load_net(run / "last.safetensors") for run in runs), strict=True)
    states = [net.state_dict() for net in nets]
    means = {name: torch.stack([state[name].double() for state in states]).mean(0) for name in states[0]}
    nets[0].load_state_dict(means)  # to the dtype of each layer
    return nets[0], saved[0]


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "src" / "fullconv" / "models")
    given = parser.parse_args()
    out, camvid = given.out.resolve(), find_dataset(given.camvid.resolve())
    net, saved = load_mean(given.runs)
    saved = describe(saved, camvid.labels)
    with TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the files name no path of this machine
        save_net(Path("street.safetensors"), net.state_dict(), saved)
        for name, dataset in (("street", None), ("street-int8", camvid)):
            made = export(Path("street.safetensors"), out / f"{name}.onnx", licence=LICENCE, int8=dataset)
            remove_scores(made.path)
            print(f"{name}.onnx: {made.path.stat().st_size / 1e6:.2f} MB, {made.quantized or f'{made.difference:.1e}'}")
    kernels = {name: value.half() if value.ndim > 1 else value for name, value in net.state_dict().items()}
    save_net(out / "street.safetensors", {**kernels, "mean": net.mean, "std": net.std}, saved)
    stored, _ = load_net(out / "street.safetensors")
    image = torch.rand(1, 3, 360, 480)
    with torch.no_grad():
        same = (stored(image).argmax(1) == net(image).argmax(1)).float().mean()
    print(f"street.safetensors: {(out / 'street.safetensors').stat().st_size / 1e6:.2f} MB, equal labels {same:.4f}")


if __name__ == "__main__":
    main()
