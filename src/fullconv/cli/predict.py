"""The command `fullconv predict`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.cli.console import TTA_COST, emit, print_table, progress_bar, say
from fullconv.cli.options import BackendName, ModelCode, RangeText, Trained, Tta
from fullconv.errors import FullconvError, UsageError
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from fullconv.runtime.runner import Runner
    from fullconv.runtime.tiles import TiledRunner

__all__ = ["predict"]


def predict(
    model: Trained,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|DIR|GLOB|VIDEO|-",
            help="Images, folders, patterns or videos; - reads the list of them from stdin.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the results; they have the names of the images.")
    ] = Path("labelled"),
    save: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="What to write, separated by commas: labels, overlay, probabilities, polygons, labelme, areas.",
            show_default="labels,overlay",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Cut images into tiles of this side, halo included; the labels are those of the whole image.",
        ),
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="A smaller halo than the exact one: faster, but some labels differ; prints how many.",
            show_default="exact",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Predict each whole image, too, and print how much the tiles differ.")
    ] = False,
    backend: BackendName = None,
    patchwise: Annotated[
        bool,
        typer.Option(
            "--patchwise", help="Slide a window over the image and classify each patch; slow, for comparison."
        ),
    ] = False,
    step: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Distance from patch to patch, with --patchwise.", show_default="8"),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Patches per batch, with --patchwise.", show_default="16")
    ] = None,
    tta: Tta = False,
    value_range: RangeText = None,
    model_code: ModelCode = None,
) -> None:
    """Label every pixel of images.

    For each image, writes DIR/<stem>.png, the class ids with the palette, and DIR/overlays/<stem>.jpg; both have the
    size of the image. Failed images are listed at the end; all others are processed. With --patchwise, MODEL may also
    be a classifier that was saved with its classes, such as digits.safetensors of the demo.

    The label map of a georeferenced TIFF is a GeoTIFF, DIR/<stem>.tif. Images of more than 64 million pixels are read
    and written in windows; after an interrupt, the same command resumes. For these images, only labels, areas and, if
    --save names it, the overlay are written, as TIFF if they are too large for PNG.
    """
    if not patchwise and (step is not None or batch is not None):
        raise UsageError(
            "--step and --batch are for --patchwise only; add --patchwise, or leave them out", code="needs-patchwise"
        )
    if patchwise and (tile is not None or backend is not None):
        raise UsageError(
            "--tile and --backend cannot be used with --patchwise; leave them out", code="not-with-patchwise"
        )
    if tile is None and (halo is not None or verify):
        raise UsageError("--halo and --verify need --tile; add --tile PIXELS, or leave them out", code="needs-tile")
    from fullconv.predict.inputs import expand_inputs
    from fullconv.predict.outputs import check_kinds
    from fullconv.predict.ranges import parse_range
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.runner import RangedRunner
    from fullconv.runtime.tiles import FlippedRunner, TiledRunner

    kinds = None if save is None else [kind.strip() for kind in save.split(",") if kind.strip()]
    if kinds is not None:
        check_kinds(kinds)
    paths = expand_inputs(images, out)
    bounds = None if value_range is None else parse_range(value_range)
    runner = (
        _load_patchwise(model, step, batch, model_code)
        if patchwise
        else load_runner(model_path(model), backend, model_code)
    )
    if tta:
        say(TTA_COST)
        runner = FlippedRunner(runner)
    if bounds is not None:
        runner = RangedRunner(runner, bounds)
    if tile is None:
        _predict(runner, paths, out, kinds)
        return
    tiled = TiledRunner(runner, tile, halo)
    _report_halo(tiled, paths)
    _predict(tiled, paths, out, kinds, verify=tiled if verify else None)


def _predict(
    runner: Runner, paths: list[Path], out: Path, kinds: list[str] | None, verify: TiledRunner | None = None
) -> None:
    """Label the images with a progress bar, then verify the tiles.

    Raises FullconvError that lists the images that failed, if there are any.
    """
    from fullconv.predict.predict_files import PredictOptions, predict_files
    from fullconv.runtime.runner import RangedRunner
    from fullconv.runtime.tiles import TiledRunner

    with progress_bar() as bar:
        task, tiles = bar.add_task("predicting", total=len(paths)), bar.add_task("tiles", visible=False)
        options = PredictOptions(
            save=kinds,
            range_is_given=isinstance(runner.runner if isinstance(runner, TiledRunner) else runner, RangedRunner),
            on_image=lambda path, message: bar.advance(task),
            on_tile=lambda done, total: bar.update(tiles, completed=done, total=total, visible=done < total),
        )
        report = predict_files(runner, paths, out, options)
    emit(f"{len(report.done)} of {len(paths)} images labelled in {out}")
    if verify is not None:
        _verify(verify, report.done)
    if report.failed:
        lines = "".join(f"\n  - {message}" for _, message in report.failed)
        raise FullconvError(f"{len(report.failed)} of {len(paths)} images failed:{lines}", code="images-failed")


def _load_patchwise(name: str, step: int | None, batch: int | None, code: Path | None) -> Runner:
    need_torch()
    from fullconv.net.checkpoint import holds_classifier
    from fullconv.net.torch_runner import TorchClassifier, TorchRunner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.patchwise import PatchwiseRunner

    model = model_path(name)
    if model.suffix.lower() == ".onnx":
        raise UsageError(
            f"{model.name}: --patchwise cannot use an .onnx file; name a run folder or a .safetensors file",
            code="patchwise-of-onnx",
        )
    step, batch = 8 if step is None else step, 16 if batch is None else batch
    if holds_classifier(model):
        return PatchwiseRunner.sliding(TorchClassifier.load(model, code=code), step, batch)
    runner = TorchRunner.load(model, code=code)
    return PatchwiseRunner.over(runner, runner.mean_color, step, batch)


def _report_halo(tiled: TiledRunner, paths: list[Path]) -> None:
    """Print how many labels a smaller halo changes, measured on the first image that is cut into tiles."""
    if not tiled.runner.info.exact:
        say(
            f"halo {tiled.halo}: every label of this network depends on the whole image, so labels from tiles may "
            "differ from those of the whole image"
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
        except (FullconvError, OSError):  # predict_files will report it
            continue
        if error is not None:
            need = max(max(window.before, window.after) for window in tiled.info.windows)
            say(
                f"halo {tiled.halo} instead of {need}: on {error.tiles} tiles of {path}, {error.differing:,} "
                f"of {error.pixels:,} labels ({100 * error.share:.2f} %) differ from the exact ones; the tiles take "
                f"{100 * error.saved:.0f} % less time"
            )
            return


def _verify(tiled: TiledRunner, paths: Iterable[Path]) -> None:
    """Print how much tiles differ from the whole image, for each input that is not a video.

    Raises FullconvError if labels differ by more than ties.
    """
    from fullconv.images import open_image
    from fullconv.images.video import is_video
    from fullconv.runtime.verify import TIE, verify_tiles

    rows = [["image", "pixels", "tiles", "differing labels", "ties", "logit difference", "logit range", "margin"]]
    differing, images, files = [], [path for path in paths if not is_video(path)], tiled.info.input
    for path in images:
        with open_image(path, files) as reader:
            height, width = reader.size
            result = verify_tiles(tiled, reader.read(range(height), range(width))[0])
        counts = [f"{count:,}" for count in (result.pixels, result.tiles, result.differing, result.ties)]
        sizes = [f"{size:.3g}" for size in (result.largest, result.logit_range, result.margin)]
        rows.append([str(path), *counts, *sizes])
        if not result.holds:
            differing.append(path)
    print_table(rows)
    say(
        f"ties are labels whose two largest logits differ by less than {TIE:g} of the logit range, so that rounding "
        "decides; logit difference and margin are the largest difference to the whole image, and between the two "
        "logits of a differing label"
    )
    if differing:
        raise FullconvError(
            f"labels from tiles differ from those of the whole image on {len(differing)} of {len(images)} images, "
            f"not only at ties (two logits within {TIE:g} of their range)",
            code="tiles-differ",
        )
