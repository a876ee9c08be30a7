"""The commands that run a model: predict and evaluate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.arguments import say
from fullconv.choices import ScoredSplit, words
from fullconv.errors import FullconvError, UsageError
from fullconv.extras import need_torch
from fullconv.options import Data, RunnerName, Trained
from fullconv.terminal import print_scores, print_table, progress_bar, sample_bar

if TYPE_CHECKING:
    from fullconv.run.runner import Runner
    from fullconv.run.tiles import TiledRunner

__all__ = ["evaluate", "predict"]


def evaluate(
    model: Trained,
    data: Data,
    split: Annotated[
        ScoredSplit, typer.Option(metavar=words(ScoredSplit), help="Which images; val736 is of VOC.")
    ] = "val",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores there too; - prints only them.")
    ] = None,
    runner: RunnerName = None,
) -> None:
    """Score a model on labelled images.

    Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU, as in the paper.
    """
    from fullconv import api
    from fullconv.files import write_text

    with sample_bar("scoring") as on_sample:
        scores = api.evaluate(model, data, split=split, backend=runner, on_sample=on_sample)
    text = json.dumps(scores.to_dict(), indent=1)
    if str(json_file) == "-":
        print(text)
        return
    if json_file is not None:
        write_text(json_file, text)
    print_scores(scores)


def predict(
    model: Trained,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE|DIR|GLOB|VIDEO|-", help="Images, folders, patterns, videos; - for a list."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results, named as the images.")] = Path(
        "labelled"
    ),
    save: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="What to write, with commas: labels, overlay, probabilities, polygons, labelme, areas.",
            show_default="labels,overlay",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Cut images into tiles, halo included; labels are those of the whole."),
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Let tiles overlap by less; tells what that costs.", show_default="exact"),
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Predict each image whole, too, and print how far the tiles differ.")
    ] = False,
    runner: RunnerName = None,
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

    The label map of a georeferenced TIFF is a GeoTIFF, DIR/<stem>.tif. Images of more than 64 million pixels are read
    and written in windows; stopped, such work goes on where it was. They get labels, areas and, if --save asks for
    it, an overlay, as TIFF where PNG is too small.
    """
    if not patchwise and (step is not None or batch is not None):
        raise UsageError("--step and --batch are for --patchwise")
    if patchwise and (tile is not None or runner is not None):
        raise UsageError("--tile and --runner are not for --patchwise")
    if tile is None and (halo is not None or prove):
        raise UsageError("--halo and --prove are for --tile")
    from fullconv.run.inputs import expand_inputs
    from fullconv.run.large import LargeOptions
    from fullconv.run.outputs import DEFAULT_SAVES
    from fullconv.run.predict import predict_files
    from fullconv.run.tiles import TiledRunner

    paths = expand_inputs(images, out)
    loaded = _patchwise(model, step, batch) if patchwise else _load(model, runner)
    if tile is not None:
        loaded = tiled = TiledRunner(loaded, tile, halo)
        _tell_trade(tiled, paths)
    kinds = list(DEFAULT_SAVES) if save is None else [kind.strip() for kind in save.split(",") if kind.strip()]
    with progress_bar() as bar:
        task, tiles = bar.add_task("predicting", total=len(paths)), bar.add_task("tiles", visible=False)

        def on_tile(done: int, total: int) -> None:
            bar.update(tiles, completed=done, total=total, visible=done < total)

        large = LargeOptions(save is not None and "overlay" in kinds, on_tile, say)
        report = predict_files(loaded, paths, out, kinds, lambda path, message: bar.advance(task), large)
    print(f"{len(report.done)} of {len(paths)} images labelled in {out}")
    if prove:
        _prove(tiled, report.done)
    if report.failed:
        lines = "".join(f"\n  - {message}" for _, message in report.failed)
        raise FullconvError(f"{len(report.failed)} of {len(paths)} images failed{lines}")


def _load(model: str, kind: str | None) -> Runner:
    """The runner of a model; UsageError for a kind that is not known."""
    from fullconv.run.load import load_runner
    from fullconv.run.models import model_path

    return load_runner(model_path(model), kind)  # type: ignore[arg-type]


def _patchwise(name: str, step: int | None, batch: int | None) -> Runner:
    need_torch()
    from fullconv.net.checkpoint import holds_classifier
    from fullconv.net.runner import TorchClassifier, TorchRunner
    from fullconv.run.models import model_path
    from fullconv.run.patchwise import PatchwiseRunner

    model = model_path(name)
    if model.suffix.lower() == ".onnx":
        raise UsageError(f"--patchwise slides a run folder or a .safetensors file, not {model.name}")
    step, batch = 8 if step is None else step, 16 if batch is None else batch
    if holds_classifier(model):
        return PatchwiseRunner.sliding(TorchClassifier.load(model), step, batch)
    runner = TorchRunner.load(model)
    return PatchwiseRunner.over(runner, runner.mean_color, step, batch)


def _tell_trade(tiled: TiledRunner, paths: list[Path]) -> None:
    """What a halo of one's own gives up, measured on the first image that is cut into tiles."""
    if not tiled.runner.exact:
        say(
            f"halo {tiled.halo}: this network looks at the whole image at once, so the labels are not the whole image's"
        )
        return
    if tiled.exact:
        return
    from fullconv.run.proof import trade
    from fullconv.run.rasters import open_raster
    from fullconv.run.runner import takes

    for path in paths:
        try:
            with open_raster(path, *takes(tiled)) as raster:
                found = trade(tiled, raster)
        except (FullconvError, OSError):  # told again, and kept, when it is predicted
            continue
        if found is not None:
            need = max(max(window.before, window.after) for window in tiled.windows)
            say(
                f"halo {tiled.halo} instead of {need}: on {found.tiles} tiles of {path}, {found.differing:,} "
                f"of {found.pixels:,} labels ({100 * found.share:.2f} %) differ from the exact ones, and they take "
                f"{100 * found.saved:.0f} % less time"
            )
            return


def _prove(tiled: TiledRunner, paths: Iterable[Path]) -> None:
    """Print how far tiles differ from the whole, videos aside; FullconvError if labels do that are no ties."""
    from fullconv.run.proof import TIE, prove
    from fullconv.run.rasters import open_raster
    from fullconv.run.runner import takes
    from fullconv.run.video import is_video

    rows = [["image", "pixels", "tiles", "labels that differ", "ties", "logits differ by", "of a range of", "margin"]]
    broken, images = [], [path for path in paths if not is_video(path)]
    for path in images:
        with open_raster(path, *takes(tiled)) as raster:
            height, width = raster.size
            found = prove(tiled, raster.read(range(height), range(width))[0])
        counts = [f"{count:,}" for count in (found.pixels, found.tiles, found.differing, found.ties)]
        sizes = [f"{size:.3g}" for size in (found.largest, found.logit_range, found.margin)]
        rows.append([str(path), *counts, *sizes])
        if not found.holds:
            broken.append(path)
    print_table(rows)
    if broken:
        raise FullconvError(
            f"labels from tiles differ from those of the whole image on {len(broken)} of {len(images)} images, by more "
            f"than ties (two logits within {TIE:g} of their range)"
        )
