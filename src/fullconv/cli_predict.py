"""The commands that run a model: predict and evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.arguments import need_torch, say
from fullconv.errors import FullconvError, UsageError
from fullconv.options import Data, Trained
from fullconv.terminal import print_scores, progress_bar

if TYPE_CHECKING:
    from fullconv.run.runner import Runner

__all__ = ["evaluate", "predict"]


def evaluate(
    model: Trained,
    data: Data,
    split: Annotated[
        str, typer.Option(metavar="train|val|test|val736", help="Which images; val736 is of VOC.")
    ] = "val",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores there too; - prints only them.")
    ] = None,
) -> None:
    """Score a model on labelled images.

    Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU, as in the paper.
    """
    need_torch()
    from fullconv.data.layouts import find_dataset
    from fullconv.errors import ModelError
    from fullconv.image import write_text
    from fullconv.net.runner import TorchRunner
    from fullconv.run.evaluate import evaluate as score

    dataset = find_dataset(data)
    samples = dataset.split(split)
    if dataset.about:
        say(f"splits of {data}: {dataset.about}")
    runner = TorchRunner.load(model)
    if runner.labels.class_names != dataset.labels.class_names:
        ours, theirs = ", ".join(runner.labels.class_names), ", ".join(dataset.labels.class_names)
        raise ModelError(f"{model} knows the classes {ours}; {data} has {theirs}")
    with progress_bar() as bar:
        scores = score(runner, (dataset.read(sample) for sample in bar.track(samples, description="scoring")))
    text = json.dumps(scores.to_dict(), indent=1)
    if str(json_file) == "-":
        print(text)
        return
    if json_file is not None:
        write_text(json_file, text)
    print_scores(scores)


def predict(
    model: Trained,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR|GLOB", help="Images, folders of them, patterns.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results, named as the images.")],
    save: Annotated[
        str, typer.Option(metavar="LIST", help="What to write: labels, overlay or both.")
    ] = "labels,overlay",
    patchwise: Annotated[
        bool, typer.Option("--patchwise", help="Slide over the image, one patch for each label; slow, for comparison.")
    ] = False,
    step: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="From patch to patch, with --patchwise.", show_default="8")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Patches at a time, with --patchwise.", show_default="16")
    ] = None,
) -> None:
    """Label every pixel of images.

    Writes DIR/<stem>.png, class ids with the palette, and DIR/overlays/<stem>.jpg, both at the size of the image.
    An image that fails is told at the end, and the others are still done. With --patchwise, MODEL may also be a
    classifier that was saved with its classes, as the demo's digits.safetensors.
    """
    need_torch()
    from fullconv.net.runner import TorchRunner
    from fullconv.run.predict import expand_inputs, predict_files

    if not patchwise and (step is not None or batch is not None):
        raise UsageError("--step and --batch are for --patchwise")
    paths = expand_inputs(images, out)
    runner = (
        _patchwise(model, 8 if step is None else step, 16 if batch is None else batch)
        if patchwise
        else TorchRunner.load(model)
    )
    kinds = [kind.strip() for kind in save.split(",") if kind.strip()]
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=len(paths))
        report = predict_files(runner, paths, out, kinds, lambda path, message: bar.advance(task))
    print(f"{len(report.done)} of {len(paths)} images labelled in {out}")
    if report.failed:
        lines = "".join(f"\n  - {message}" for _, message in report.failed)
        raise FullconvError(f"{len(report.failed)} of {len(paths)} images failed{lines}")


def _patchwise(model: Path, step: int, batch: int) -> Runner:
    from fullconv.net.checkpoint import holds_classifier
    from fullconv.net.runner import TorchClassifier, TorchRunner
    from fullconv.run.patchwise import PatchwiseRunner

    if holds_classifier(model):
        return PatchwiseRunner.sliding(TorchClassifier.load(model), step, batch)
    runner = TorchRunner.load(model)
    return PatchwiseRunner.over(runner, runner.mean_color, step, batch)
