"""From a model to a file or folder for another program: a run is exported first, if it has no model.onnx."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from fullconv.choices import Profile, join_words, refuse_code
from fullconv.errors import UsageError
from fullconv.extras import need, need_torch
from fullconv.packages.written import Written
from fullconv.runtime.models import model_path

__all__ = ["export_profile", "export_web", "exported_file"]

Model = str | os.PathLike[str]


def export_profile(
    model: Model,
    out: Model | None = None,
    *,
    profile: Profile,
    resolution: float | None = None,
    licence: str | None = None,
    author: str | None = None,
    code: Model | None = None,
) -> Written:
    """Write a network in the form that another program runs.

    Args:
        model: A run folder, the result of `train`, a weights or .onnx file, or a bundled model by its name. The
            model.onnx of a run is taken as it is; only a model without one needs torch.
        out: The file or folder to write. None: NAME-deepness.onnx or NAME-bioimage.zip in the current folder.
        profile: "deepness" is an .onnx file for the plugin of QGIS of that name, "bioimage" a package of bioimage.io,
            which is a folder or a .zip file.
        resolution: For "deepness": the ground size of a pixel in centimetres.
        licence: For "bioimage": the licence of the network, as an identifier of SPDX.
        author: For "bioimage": the person who trained the network.
        code: As in `load`.

    Raises:
        UsageError: An argument is for the other profile, `out` has the wrong suffix or is not an empty folder, or the
            model needs no `code`.
        ModelError: There is no such model, or it has no ONNX form.
        MissingExtra: The package onnx is not installed, or torch, which is needed to export the model first.
    """
    _check_arguments(profile, resolution, licence, author)
    need("serve", "onnx")
    with exported_file(model, code) as (source, name):
        if profile == "deepness":
            target = Path(f"{name}-deepness.onnx" if out is None else out)
            if target.suffix.lower() != ".onnx":
                raise UsageError(f"{target}: name a file that ends in .onnx", code="not-onnx")
            if os.path.realpath(target) == os.path.realpath(source):
                message = f"{target}: is read by this command, and the result would replace it; name another file"
                raise UsageError(message, code="overwrites-input")
            from fullconv.packages.deepness import write_deepness

            return write_deepness(source, target, resolution=resolution)
        from fullconv.packages.bioimage import write_bioimage

        target = Path(f"{name}-bioimage.zip" if out is None else out)
        return write_bioimage(source, target, name, licence=licence, author=author)


def export_web(
    model: Model, folder: Model, *, onnxruntime_web: Model | None = None, code: Model | None = None
) -> Written:
    """Write a page that runs a network in the browser, as a new folder for any web server.

    The page needs no other server, and photos stay in the browser. Its labels are those of `predict` for PNG files
    of 8 bits without transparency.

    Args:
        model: As in `export_profile`.
        folder: The folder to write; it must not exist, or be empty.
        onnxruntime_web: The archive of onnxruntime-web, as `npm pack` writes it. None: npm fetches it once, and it is
            kept in the user's cache folder. Either way its SHA-512 is checked.
        code: As in `load`.

    Raises:
        UsageError: The folder is not empty, the archive is another one, or the model needs no `code`.
        ModelError: There is no such model, or it takes images that browsers do not decode.
        FullconvError: npm is missing, or cannot fetch the archive.
        MissingExtra: Torch is not installed, and needed to export the model first.
    """
    from fullconv.packages.page import write_page

    with exported_file(model, code) as (source, name):
        return write_page(
            source, Path(folder), name, runtime=None if onnxruntime_web is None else Path(onnxruntime_web)
        )


@contextmanager
def exported_file(model: Model, code: Model | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the .onnx file of a model and the model's name; a file that has to be made exists inside of the block."""
    path = model_path(model)
    name = path.resolve().name if path.is_dir() else path.stem
    ready = path / "model.onnx" if path.is_dir() else path
    if ready.suffix.lower() == ".onnx" and ready.is_file():
        refuse_code(ready, code)
        yield ready, name
        return
    need_torch()
    need("train", "onnx")
    from fullconv.onnx_export import export

    with TemporaryDirectory() as folder:
        yield export(path, Path(folder) / "model.onnx", code=code).path, name


def _check_arguments(profile: str, resolution: float | None, licence: str | None, author: str | None) -> None:
    if profile not in get_args(Profile):
        message = f"there is no profile {profile!r}; choose from {join_words(Profile).replace('|', ', ')}"
        raise UsageError(message, code="unknown-profile")
    given = {"resolution": resolution, "licence": licence, "author": author}
    others = ("licence", "author") if profile == "deepness" else ("resolution",)
    for name in others:
        if given[name] is not None:
            raise UsageError(f"{name} is not for the profile {profile}; leave it out", code="argument-of-other-profile")
    if resolution is not None and not 0 < resolution < 1e6:
        message = f"a resolution of {resolution:g} centimetres for a pixel is not possible; give a positive number"
        raise UsageError(message, code="impossible-resolution")
