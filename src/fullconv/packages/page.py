"""A page that runs a network in the browser: a folder of files for any web server."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import numpy as np

import fullconv
from fullconv.errors import ModelError
from fullconv.files import atomic_folder, check_new_folder, write_json
from fullconv.packages.onnxruntime_web import RUNTIME, find_archive, read_archive
from fullconv.packages.shortened import describe_again, shorten_paths
from fullconv.packages.written import Written
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx_bytes.scan import scan_onnx

__all__ = ["MAX_PIXELS", "TILE", "write_page"]

MAX_PIXELS = 50_000_000
"""The largest photo of a page; browsers have no more memory for one."""

MAX_UNTILED = 4_000_000
"""The same for a network with global context, whose photos cannot be cut into tiles."""

TILE = 1536
"""The least side of a tile in pixels. WebAssembly has 4 GB of memory."""


def write_page(source: Path, folder: Path, name: str, *, runtime: Path | None = None) -> Written:
    """Write the page for the exported file `source` into the new folder `folder`.

    `runtime` is the archive of onnxruntime-web (see `find_archive`).

    Raises ModelError if the network takes images that browsers do not decode, or `fullconv export` did not write
    `source`; UsageError if the folder is not empty.
    """
    metadata = ModelMetadata.from_metadata(source, scan_onnx(source))
    given = metadata.info.input
    if given.channels not in (1, 3) or given.value_range not in (None, (0.0, 255.0)):
        message = f"{source} takes images of {given}; browsers decode photos as 8-bit RGB, so no page can run it"
        raise ModelError(message, code="no-photos")
    check_new_folder(folder, source)
    contents = read_archive(find_archive(runtime))
    package = files("fullconv")
    with atomic_folder(folder) as partial:
        for path in package.joinpath("packages", "static").iterdir():
            (partial / path.name).write_bytes(path.read_bytes())
        for shared in ("page.css", "photos.js"):
            (partial / shared).write_bytes(package.joinpath("serve", "static", shared).read_bytes())
        for file, content in contents.items():
            (partial / file).write_bytes(content)
        (partial / "model.onnx").write_bytes(describe_again(source.read_bytes(), shorten_paths(metadata)))
        write_json(partial / "model.json", _describe(metadata, name))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    return Written(
        folder,
        (
            f"{size:.1f} MB; put it on any web server, or try it with: python -m http.server --directory {folder}",
            f"photos stay in the browser; {RUNTIME} runs the network, and its archive has the expected SHA-512",
        ),
    )


def _describe(metadata: ModelMetadata, name: str) -> dict[str, object]:
    """Return model.json: what the page shows, and what its tiles need."""
    info, labels = metadata.info, metadata.info.labels
    windows = [asdict(window) for window in info.windows]
    return {
        "name": name,
        "version": fullconv.__version__,
        "runtime": RUNTIME,
        "classes": [
            {"name": text, "color": list(color)} for text, color in zip(labels.class_names, labels.palette, strict=True)
        ],
        "palette": labels.colorize(np.arange(256, dtype=np.uint8)).tolist(),
        "channels": info.input.channels,
        "exact": info.exact,
        "windows": windows,
        "tile": max(TILE, *(2 * (window.before + window.after) for window in info.windows)),
        "max_pixels": MAX_PIXELS if info.exact else MAX_UNTILED,
    }
