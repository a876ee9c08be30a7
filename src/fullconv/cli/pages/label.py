"""The command `fullconv label`."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.cli.console import emit, say
from fullconv.errors import FullconvError
from fullconv.extras import need
from fullconv.files import NEW_FILE
from fullconv.watchdog import end_soon

if TYPE_CHECKING:
    from fullconv.images import InputFormat
    from fullconv.labels import LabelSet

__all__ = ["label"]

PORT = 8765
"""The usual port of the page."""


def label(
    photos: Annotated[
        Path,
        typer.Argument(
            metavar="PHOTOS", help="Folder of images, a data set to correct, or the DATA of an earlier session."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DATA", help="Folder for the labels.", show_default="PHOTOS-labels"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Names of the classes.", show_default="background,object"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Model to start from: a bundled name, a run folder or an .onnx file of fullconv."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port of the page; 0: any free one.",
            show_default="8765 if it is free",
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, and do not open a browser.")
    ] = False,
) -> None:
    """Label photos in the browser while a model learns from your strokes.

    Opens a page on this computer. After every stroke the model is fitted again, and the page shows what it predicts.
    Everything is kept in DATA: masks, dataset.yaml and live.onnx, ready for `fullconv train DATA`. PHOTOS are never
    changed or copied. Ctrl-C ends the session; the same command resumes it.
    """
    need("serve", "fastapi", "uvicorn", "onnx")
    import secrets
    from contextlib import closing

    from fullconv.label.app import make_label_app, make_server
    from fullconv.label.live.learner import Learner
    from fullconv.label.store.folder import STATE, recall_start, remember_start
    from fullconv.label.store.session import open_session
    from fullconv.web import run

    chosen = None if model is None else _model_file(model)
    names = [name.strip() for name in (classes or "").split(",") if name.strip()]
    with open_session(photos, out, names, None if chosen is None else _describe(chosen)) as store:
        if chosen is not None:
            remember_start(store.data, chosen)
        start = recall_start(store.data)
        learner = Learner(start, store.data / STATE / "taps", store.input)
        if start is not None:
            _warn_of_unknown(learner.start_names, [one.name for one in store.classes.classes])
        server = make_server(store, learner, None if start is None else model or start.parent.name)
        token = secrets.token_urlsafe(24)
        app = make_label_app(server, token)
        file = store.data / STATE / "open.html"

        def show(address: str) -> None:
            emit(f"{address}/#token={token}", flush=True)
            say(f"{len(store.photos)} images; labels go to {store.data}; Ctrl-C ends the session")
            opened = not no_browser and _open_browser(f"{address}/#token={token}", file)
            say("if no page appears, open the address in a browser" if opened else "open the address in a browser")

        logging.getLogger("fullconv.web").setLevel(logging.WARNING)  # requests are no news to who paints
        with closing(server):
            server.open()
            if run(app, "127.0.0.1", _free_port() if port is None else port, show, grace=10):
                end_soon()  # all strokes are on the disk
            file.unlink(missing_ok=True)
    if store.failure:
        message = f"{store.failure}; all strokes are kept: the same command writes the mask"
        raise FullconvError(message, code="masks-not-written")
    if any(store.painted(photo) for photo in store.photos):
        say(f"all labels are in {store.data}; next: {shlex.join(['fullconv', 'train', str(store.data)])}")
    else:
        say("nothing is labelled yet; the same command opens the page again")


def _warn_of_unknown(names: Sequence[str], known: Sequence[str]) -> None:
    """Say which classes of a model are not predicted, because no class of the session has their names."""
    from fullconv.labels import fold_name

    folded = {fold_name(name) for name in known}
    unknown = [name for name in names if fold_name(name) not in folded]
    if unknown:
        say(f"these classes of the model are not predicted, because no class here has their name: {', '.join(unknown)}")


def _open_browser(address: str, file: Path) -> bool:
    """Open an address with a token by `file`, which only this user can read; return whether a browser was found.

    Every user of this computer can read the command line of the browser.
    """
    import webbrowser

    if sys.platform == "win32" or "microsoft" in platform.release().lower():
        return webbrowser.open(address)  # the browser is one of Windows, which cannot open files of WSL
    try:
        file.unlink(missing_ok=True)
        descriptor = os.open(file, NEW_FILE, 0o600)
        with open(descriptor, "w", encoding="utf-8") as page:
            page.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">\n')
    except OSError:
        return False
    return webbrowser.open(file.absolute().as_uri())


def _free_port() -> int:
    """Return the usual port, under whose address the browser keeps what a tab can undo; 0 if it is in use."""
    import socket

    try:
        with socket.create_server(("127.0.0.1", PORT)):
            return PORT
    except OSError:
        return 0


def _model_file(model: str) -> Path:
    """Return the .onnx file of a model. Raises ModelError if it has none."""
    from fullconv.errors import ModelError
    from fullconv.runtime.models import model_path

    path = model_path(model)
    file = path / "model.onnx" if path.is_dir() else path
    if file.suffix.lower() != ".onnx" or not file.is_file():
        message = f"{file}: is not an .onnx file; name a run folder with model.onnx, or run fullconv export first"
        raise ModelError(message, code="not-an-onnx-file")
    return file


def _describe(file: Path) -> tuple[LabelSet, InputFormat]:
    """Return the classes of a model and the format of its images."""
    from fullconv.runtime.onnx import OnnxFile

    info = OnnxFile.load(file).metadata.info
    return info.labels, info.input
