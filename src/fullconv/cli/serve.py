"""The command `fullconv serve`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.cli.console import emit, say
from fullconv.cli.options.shared import BackendName, DeviceName, ModelCode, RangeText, Trained
from fullconv.errors import UsageError
from fullconv.extras import need
from fullconv.watchdog import end_soon

if TYPE_CHECKING:
    from fullconv.runtime.runner import Runner

__all__ = ["serve"]

LABEL_STUDIO = "http://localhost:8080"
"""The address of a Label Studio on this computer."""

TokenText = Annotated[
    str | None,
    typer.Option(
        metavar="T",
        envvar="FULLCONV_TOKEN",
        help="Requests must have the header Authorization: Bearer T. Every host except this computer needs it.",
    ),
]


def serve(
    model: Trained,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token: TokenText = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Predictions at a time; they share the cores.")] = 2,
    queue: Annotated[int, typer.Option(metavar="N", help="Images that wait; more are refused (429).")] = 16,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Time for an answer (504 after it).")] = 60.0,
    max_bytes: Annotated[int, typer.Option(metavar="BYTES", help="Largest request (413).")] = 2**26,
    max_pixels: Annotated[
        int, typer.Option(metavar="PIXELS", help="Largest image, by its header, before it is decoded (413).")
    ] = 64_000_000,
    label_studio: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Add the backend for Label Studio below this address, such as /label-studio.",
        ),
    ] = None,
    label_studio_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The Label Studio whose images are read, with --label-studio.",
            show_default=LABEL_STUDIO,
        ),
    ] = None,
    backend: BackendName = None,
    device: DeviceName = "auto",
    value_range: RangeText = None,
    model_code: ModelCode = None,
) -> None:
    """Answer HTTP requests with the labels of images, and show a page to drop photos on.

    POST /predict takes an image and answers with the file that fullconv predict writes: ?as=mask, overlay,
    probabilities, polygons, areas or json. / is the page, /docs lists all addresses, /metrics is for Prometheus, and
    /v2 speaks the Open Inference Protocol, as Triton's clients do. docs/serving.md has examples for nginx, systemd and
    containers.

    SIGTERM and Ctrl-C end the server: what runs is finished, and the exit code is 0. A second Ctrl-C does not wait for
    what runs. The log is one line of JSON for each request, on stderr.
    """
    need("serve", "fastapi", "uvicorn", "python_multipart", "prometheus_client")
    from fullconv.serve import ServeOptions, make_service
    from fullconv.serve.label_studio import add_label_studio
    from fullconv.serve.service import Service
    from fullconv.web import run
    from fullconv.web.security import LOOPBACK, is_loopback

    _check_token(token, is_loopback(host))
    if label_studio is None and label_studio_url is not None:
        message = "--label-studio-url needs --label-studio; add --label-studio /label-studio, or leave it out"
        raise UsageError(message, code="needs-label-studio")
    prefix = None if label_studio is None else _check_prefix(label_studio)
    options = ServeOptions(workers=workers, queue=queue, timeout=timeout, max_bytes=max_bytes, max_pixels=max_pixels)
    path = _model_path(model)
    bounds = _parse_bounds(value_range)
    service = Service(lambda: _load(path, backend, device, model_code, bounds), _short_name(path), options)
    app = make_service(service, token=token, hosts=LOOPBACK if token is None else ("*",))
    if prefix is not None:
        add_label_studio(app, service, prefix, label_studio_url or LABEL_STUDIO)
    is_forced = False
    try:
        is_forced = run(app, host, port, on_ready=_print_address, grace=timeout + 5)
    finally:
        if is_forced:
            end_soon()
        service.close(wait=not is_forced)
    if service.failure is not None:
        raise service.failure


def _check_token(token: str | None, only_here: bool) -> None:
    """Raise UsageError if a server that others reach has no token, and for a token that a header cannot hold."""
    if token is None and not only_here:
        message = "other computers can reach this host; add --token T, which every request must then have"
        raise UsageError(message, code="needs-token")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]{8,}", token):
        message = "a token has at least 8 letters, digits or - . _ ~ + / =; choose another --token"
        raise UsageError(message, code="unusable-token")


def _check_prefix(prefix: str) -> str:
    """Return the address below which Label Studio's backend is; raise UsageError for one that has another meaning."""
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", prefix) or prefix.startswith(("/v2", "/static")):
        message = f"--label-studio {prefix!r} is not an address; use /label-studio or another path of letters"
        raise UsageError(message, code="unusable-prefix")
    return prefix


def _print_address(address: str) -> None:
    import sys

    emit(address, flush=True)
    if sys.stderr.isatty():  # elsewhere, stderr is a log of JSON lines
        say("open the address in a browser; Ctrl-C ends the service")


def _model_path(model: str) -> Path:
    from fullconv.runtime.models import model_path

    return model_path(model)


def _parse_bounds(text: str | None) -> tuple[float, float] | None:
    from fullconv.predict.ranges import parse_range

    return None if text is None else parse_range(text)


def _load(
    path: Path, backend: BackendName, device: DeviceName, code: Path | None, bounds: tuple[float, float] | None
) -> Runner:
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.runner import RangedRunner

    runner = load_runner(path, backend, code, spin=False, device=device)
    return runner if bounds is None else RangedRunner(runner, bounds)


def _short_name(path: Path) -> str:
    """Return the name of the model in addresses: that of its file or run folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", path.stem if path.is_file() else path.resolve().name) or "model"
