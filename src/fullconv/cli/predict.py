"""The commands that run a model: predict and evaluate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.cli.console import print_scores, print_table, progress_bar, sample_bar, write_results
from fullconv.cli.options import BackendName, Data, JsonFile, ScoredSplitName, Trained
from fullconv.cli.parsing import say
from fullconv.errors import FullconvError, UsageError
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from fullconv.runtime.runner import Runner
    from fullconv.runtime.tiles import TiledRunner

__all__ = ["evaluate", "predict"]


def evaluate(
    model: Trained,
    data: Data,
    split: ScoredSplitName = "val",
    json_file: JsonFile = None,
    backend: BackendName = None,
) -> None:
    """Score a model on labelled images.

    Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU, as in the paper.
    """
    from fullconv import api

    with sample_bar("scoring") as on_sample:
        scores = api.evaluate(model, data, split=split, backend=backend, on_sample=on_sample)
    write_results(json_file, scores.to_dict(), lambda: print_scores(scores))


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
        typer.Option(
            metavar="PIXELS", help="Let tiles overlap by less; prints how many labels differ.", show_default="exact"
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Predict each image whole, too, and print how far the tiles differ.")
    ] = False,
    backend: BackendName = None,
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
    Failed images are listed at the end; all others are processed. With --patchwise, MODEL may also be a classifier that
    was saved with its classes, as the demo's digits.safetensors.

    The label map of a georeferenced TIFF is a GeoTIFF, DIR/<stem>.tif. Images of more than 64 million pixels are read
    and written in windows; after an interrupt, the same command resumes. They get labels, areas and, if --save asks for
    it, an overlay, as TIFF where PNG is too small.
    """
    if not patchwise and (step is not None or batch is not None):
        raise UsageError("--step and --batch are for --patchwise", code="needs-patchwise")
    if patchwise and (tile is not None or backend is not None):
        raise UsageError("--tile and --backend are not for --patchwise", code="not-with-patchwise")
    if tile is None and (halo is not None or verify):
        raise UsageError("--halo and --verify are for --tile", code="needs-tile")
    from fullconv.predict.inputs import expand_inputs
    from fullconv.predict.outputs import check_kinds
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.tiles import TiledRunner

    kinds = None if save is None else [kind.strip() for kind in save.split(",") if kind.strip()]
    if kinds is not None:
        check_kinds(kinds)
    paths = expand_inputs(images, out)
    runner = _patchwise(model, step, batch) if patchwise else load_runner(model_path(model), backend)
    if tile is None:
        _predict(runner, paths, out, kinds)
        return
    tiled = TiledRunner(runner, tile, halo)
    _report_halo(tiled, paths)
    _predict(tiled, paths, out, kinds, verify=tiled if verify else None)


def _predict(
    runner: Runner, paths: list[Path], out: Path, kinds: list[str] | None, verify: TiledRunner | None = None
) -> None:
    """Predict with progress, then verify the tiles; FullconvError that lists the images that failed."""
    from fullconv.predict.predict_files import PredictOptions, predict_files

    with progress_bar() as bar:
        task, tiles = bar.add_task("predicting", total=len(paths)), bar.add_task("tiles", visible=False)
        options = PredictOptions(
            save=kinds,
            on_image=lambda path, message: bar.advance(task),
            on_tile=lambda done, total: bar.update(tiles, completed=done, total=total, visible=done < total),
        )
        report = predict_files(runner, paths, out, options)
    print(f"{len(report.done)} of {len(paths)} images labelled in {out}")
    if verify is not None:
        _verify(verify, report.done)
    if report.failed:
        lines = "".join(f"\n  - {message}" for _, message in report.failed)
        raise FullconvError(f"{len(report.failed)} of {len(paths)} images failed{lines}", code="images-failed")


def _patchwise(name: str, step: int | None, batch: int | None) -> Runner:
    need_torch()
    from fullconv.net.checkpoint import holds_classifier
    from fullconv.net.torch_runner import TorchClassifier, TorchRunner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.patchwise import PatchwiseRunner

    model = model_path(name)
    if model.suffix.lower() == ".onnx":
        raise UsageError(
            f"--patchwise slides a run folder or a .safetensors file, not {model.name}", code="patchwise-of-onnx"
        )
    step, batch = 8 if step is None else step, 16 if batch is None else batch
    if holds_classifier(model):
        return PatchwiseRunner.sliding(TorchClassifier.load(model), step, batch)
    runner = TorchRunner.load(model)
    return PatchwiseRunner.over(runner, runner.mean_color, step, batch)


def _report_halo(tiled: TiledRunner, paths: list[Path]) -> None:
    """Report the error of a smaller halo, measured on the first image that is cut into tiles."""
    if not tiled.runner.info.exact:
        say(
            f"halo {tiled.halo}: this network looks at the whole image at once, so the labels are not the whole image's"
        )
        return
    if tiled.info.exact:
        return
    from fullconv.images import open_image
    from fullconv.runtime.verify import halo_error

    files = tiled.info.input
    for path in paths:
        try:
            with open_image(path, files) as reader:
                error = halo_error(tiled, reader)
        except (FullconvError, OSError):  # predict_files meets it again, and reports it
            continue
        if error is not None:
            need = max(max(window.before, window.after) for window in tiled.info.windows)
            say(
                f"halo {tiled.halo} instead of {need}: on {error.tiles} tiles of {path}, {error.differing:,} "
                f"of {error.pixels:,} labels ({100 * error.share:.2f} %) differ from the exact ones, and they take "
                f"{100 * error.saved:.0f} % less time"
            )
            return


def _verify(tiled: TiledRunner, paths: Iterable[Path]) -> None:
    """Print how far tiles differ from the whole image, for all inputs but videos; FullconvError if labels differ."""
    from fullconv.images import open_image
    from fullconv.images.video import is_video
    from fullconv.runtime.verify import TIE, verify_tiles

    rows = [["image", "pixels", "tiles", "labels that differ", "ties", "logits differ by", "of a range of", "margin"]]
    broken, images, files = [], [path for path in paths if not is_video(path)], tiled.info.input
    for path in images:
        with open_image(path, files) as reader:
            height, width = reader.size
            result = verify_tiles(tiled, reader.read(range(height), range(width))[0])
        counts = [f"{count:,}" for count in (result.pixels, result.tiles, result.differing, result.ties)]
        sizes = [f"{size:.3g}" for size in (result.largest, result.logit_range, result.margin)]
        rows.append([str(path), *counts, *sizes])
        if not result.holds:
            broken.append(path)
    print_table(rows)
    if broken:
        raise FullconvError(
            f"labels from tiles differ from those of the whole image on {len(broken)} of {len(images)} images, by more "
            f"than ties (two logits within {TIE:g} of their range)",
            code="tiles-differ",
        )
