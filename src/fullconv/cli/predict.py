"""The command `fullconv predict`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.choices import Engine, join_words
from fullconv.cli.console import TTA_COST, progress_bar, say
from fullconv.cli.options.shared import BackendName, DeviceName, ModelCode, RangeText, Trained, Tta
from fullconv.cli.predicting.blocks import predict_block
from fullconv.cli.predicting.engine import predict_by_engine, refuse_ray_options
from fullconv.cli.predicting.outcome import print_count, raise_failed, show_colors
from fullconv.cli.predicting.tiles import report_halo, report_verification
from fullconv.errors import UsageError
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
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the results, named as the images. Files next to an image are never replaced.",
        ),
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
            rich_help_panel="Large images",
        ),
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="A smaller halo than the exact one: faster, but some labels differ; prints how many, but not with "
            "--blocks or --engine ray.",
            show_default="exact",
            rich_help_panel="Large images",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Predict each whole image, too, and print how much the tiles differ.",
            rich_help_panel="Large images",
        ),
    ] = False,
    blocks: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Label only the I-th of N shares of one large image, 1/N to N/N, for any scheduler; fullconv join "
            "puts the shares together.",
            rich_help_panel="Large images",
        ),
    ] = None,
    backend: BackendName = None,
    device: DeviceName = "auto",
    patchwise: Annotated[
        bool,
        typer.Option(
            "--patchwise",
            help="Slide a window over the image and classify each patch; slow, for comparison.",
            rich_help_panel="Sliding window",
        ),
    ] = False,
    step: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Distance from patch to patch, with --patchwise.",
            show_default="8",
            rich_help_panel="Sliding window",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Patches per batch, with --patchwise.",
            show_default="16",
            rich_help_panel="Sliding window",
        ),
    ] = None,
    tta: Tta = False,
    engine: Annotated[
        Engine,
        typer.Option(
            metavar=join_words(Engine),
            help="The processes that predict: this one, or the workers of a Ray cluster, which also read s3://, gs://, "
            "https:// and http://.",
            rich_help_panel="Cluster",
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="A Ray cluster that runs, with --engine ray.",
            show_default="Ray is started on this machine",
            rich_help_panel="Cluster",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Workers of one core each, with --engine ray.",
            show_default="all cores but one",
            rich_help_panel="Cluster",
        ),
    ] = None,
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

    With --blocks, several machines label one image: each runs the command with its own share, and writes
    DIR/<stem>.blocks/I-of-N.tif. The labels are those of one machine.

    With --engine ray, the workers write the same files. DIR/manifest.jsonl lists the images that are done, and the same
    command does only what is left. Large images are labelled in blocks by all workers.
    """
    _check_combination(patchwise, step, batch, tile, halo, verify, blocks, backend, engine)
    from fullconv.cluster.session import RayOptions
    from fullconv.cluster.worker import WorkerSpec
    from fullconv.predict.inputs import expand_inputs
    from fullconv.predict.outputs import check_kinds
    from fullconv.predict.ranges import parse_range
    from fullconv.runtime.models import model_path
    from fullconv.runtime.tiles import TiledRunner

    if engine == "local":
        refuse_ray_options(address, workers)
    kinds = None if save is None else [kind.strip() for kind in save.split(",") if kind.strip()]
    if kinds is not None:
        check_kinds(kinds)
    bounds = None if value_range is None else parse_range(value_range)
    if tta:
        say(TTA_COST)
    if engine == "ray":
        code = None if model_code is None else os.path.abspath(model_code)
        saved = None if kinds is None else tuple(kinds)
        folders = Path(os.path.abspath(model_path(model))), Path(os.path.abspath(out))
        spec = WorkerSpec(*folders, saved, backend, code, bounds, tile, halo, tta, device=device)
        predict_by_engine(spec, images, out, RayOptions(address, workers))
        return
    paths = expand_inputs(images, out)
    window = (step, batch) if patchwise else None
    runner = _load(model, backend, model_code, device, window, tta, bounds)
    tiled = None if tile is None else TiledRunner(runner, tile, halo)
    if blocks is not None:
        predict_block(tiled or runner, paths, out, blocks, kinds)
    elif tiled is None:
        _predict(runner, paths, out, kinds)
    else:
        report_halo(tiled, paths)
        _predict(tiled, paths, out, kinds, verify=tiled if verify else None)


def _check_combination(
    patchwise: bool,
    step: int | None,
    batch: int | None,
    tile: int | None,
    halo: int | None,
    verify: bool,
    blocks: str | None,
    backend: BackendName,
    engine: Engine,
) -> None:
    """Raise UsageError for options that cannot be used together."""
    if not patchwise and (step is not None or batch is not None):
        raise UsageError(
            "--step and --batch are for --patchwise only; add --patchwise, or leave them out", code="needs-patchwise"
        )
    if patchwise and (tile is not None or backend is not None or blocks is not None):
        raise UsageError(
            "--tile, --blocks and --backend cannot be used with --patchwise; leave them out", code="not-with-patchwise"
        )
    if tile is None and (halo is not None or verify):
        raise UsageError("--halo and --verify need --tile; add --tile PIXELS, or leave them out", code="needs-tile")
    if blocks is not None and verify:
        message = "--verify cannot be used with --blocks; leave one of them out"
        raise UsageError(message, code="not-with-blocks")
    if engine == "ray" and (patchwise or verify or blocks is not None):
        message = "--patchwise, --verify and --blocks cannot be used with --engine ray; leave them out"
        raise UsageError(message, code="not-with-ray")


def _predict(
    runner: Runner, paths: list[Path], out: Path, kinds: list[str] | None, verify: TiledRunner | None = None
) -> None:
    """Label the images with a progress bar, then verify the tiles.

    Raises FullconvError that lists the images that failed, and those whose tiles differ, if there are any.
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
    print_count(report, out)
    if report.done:
        show_colors(runner.info.labels)
    raise_failed(report, None if verify is None else report_verification(verify, report.done))


def _load(
    name: str,
    backend: BackendName,
    code: Path | None,
    device: DeviceName,
    window: tuple[int | None, int | None] | None,
    tta: bool,
    bounds: tuple[float, float] | None,
) -> Runner:
    """Load the model. A window of step and batch slides over the image; bounds are the values of other images."""
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path
    from fullconv.runtime.runner import RangedRunner
    from fullconv.runtime.tiles import FlippedRunner

    if window is None:
        runner = load_runner(model_path(name), backend, code, device=device)
    else:
        runner = _load_patchwise(name, *window, code, device)
    if tta:
        runner = FlippedRunner(runner)
    return runner if bounds is None else RangedRunner(runner, bounds)


def _load_patchwise(name: str, step: int | None, batch: int | None, code: Path | None, device: DeviceName) -> Runner:
    need_torch()
    from fullconv.net.checkpoint import holds_classifier
    from fullconv.net.torch_runner import TorchClassifier, TorchRunner, find_device
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
        return PatchwiseRunner.sliding(TorchClassifier.load(model, find_device(device), code=code), step, batch)
    runner = TorchRunner.load(model, find_device(device), code=code)
    return PatchwiseRunner.over(runner, runner.mean_color, step, batch)
