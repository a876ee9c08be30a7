"""All kinds of image files that the tests use, by name, with the function that writes one."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import tifffile
from PIL import ExifTags, Image
from rasterio.errors import NotGeoreferencedWarning

from fullconv.arrays import UInt8
from fullconv.errors import FullconvError
from fullconv.images import InputFormat, decoder_of, read_header, read_image
from geotiffs import geotiff, picture

__all__ = ["EVERY_KIND", "SIZE", "TIFFS", "Kind", "decoder_table", "smooth"]

Kind = Callable[[Path], object]
SIZE = (70, 90)


def smooth(bands: int = 3) -> UInt8:
    """Return a smooth image, which JPEG changes little."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [128 + 120 * np.sin(rows / (3 + band) + columns / (7 - band)) for band in range(bands)]
    return np.stack(waves, -1).astype(np.uint8)


def masked(path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        geotiff(path, smooth(), photometric="rgb")
        with rasterio.open(path, "r+") as target:
            valid = np.full(SIZE, 255, np.uint8)
            valid[:20] = 0
            target.write_mask(valid)


def with_alpha(path: Path, dtype: str = "uint8", premultiplied: bool = False) -> None:
    pixels = smooth(4).astype(dtype) * (257 if dtype == "uint16" else 1)
    pixels[:20, :, 3] = 0
    options = {"alpha": "premultiplied" if premultiplied else "yes"}
    geotiff(path, pixels, photometric="rgb", **options)


def jpeg(path: Path, **options: Any) -> None:
    block = {"blockxsize": 64, "blockysize": 64}
    geotiff(path, smooth(), photometric="ycbcr", compress="jpeg", **(block | options))


def floats(nodata: float | None = None, holes: float = np.nan) -> Kind:
    """Write heights from 0 to 1 with a hole of one value, which may be the nodata value."""

    def write(path: Path) -> None:
        heights = picture(*SIZE, 1, "float32")
        heights[5:30, 10:40] = holes
        geotiff(path, heights, nodata=nodata)

    return write


def from_pillow(mode: str, **options: Any) -> Kind:
    """Write an image in one of Pillow's modes."""

    def write(path: Path) -> None:
        image = Image.fromarray(smooth())
        if mode == "P":
            image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=options.pop("colors", 200))
        elif mode in ("LA", "RGBA"):
            image = image.convert(mode)
            image.putalpha(Image.fromarray(np.where(smooth(1)[..., 0] > 180, 0, 255).astype(np.uint8)))
        elif mode == "I;16":
            image = Image.fromarray(smooth(1)[..., 0].astype(np.uint16) * 250)
        else:
            image = image.convert(mode)
        image.save(path, **options)

    return write


def turned(orientation: int) -> Kind:
    """Write a JPEG with an EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return from_pillow("RGB", exif=exif)


def array(bands: int, dtype: str) -> Kind:
    """Write an array to a .npy file."""

    def write(path: Path) -> None:
        top = {"uint8": 1, "float32": 1 / 255, "float64": 1 / 255}.get(dtype, 120)
        np.save(path, (smooth(bands) * top).astype(dtype))

    return write


def of_tifffile(pixels: Callable[[], npt.NDArray[Any]], **options: Any) -> Kind:
    """Write a TIFF with tifffile."""
    return lambda path: tifffile.imwrite(path, pixels(), **options)


def pages(count: int, dtype: str = "uint8") -> Callable[[], npt.NDArray[Any]]:
    """Return a function that returns a stack of pages, bands x height x width."""
    top = {"uint8": 1, "float32": 1 / 255}.get(dtype, 120)
    return lambda: np.moveaxis(smooth(count) * top, -1, 0).astype(dtype)


def deep_png(path: Path) -> None:
    """Write a PNG with colours of 16 bits, which Pillow cannot write."""
    shape = {"height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "uint16"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="PNG", **shape) as target:
            target.write(np.moveaxis(picture(*SIZE, 3, "uint16"), -1, 0))


def cut(kind: Kind, share: float) -> Kind:
    """Write only the first part of a file's bytes."""

    def write(path: Path) -> None:
        kind(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return write


def wrong_offsets(path: Path) -> None:
    """Write a TIFF whose tags lack most of its strips."""
    tifffile.imwrite(path, smooth(), rowsperstrip=16, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages.first.tags
        for name in ("StripOffsets", "StripByteCounts"):
            tags[name].overwrite(tags[name].value[:2])


TIFFS: dict[str, Kind] = {
    "mask": masked,
    "alpha": with_alpha,
    "premultiplied alpha": partial(with_alpha, premultiplied=True),
    "alpha of 16 bits": partial(with_alpha, dtype="uint16"),
    "JPEG": jpeg,
    "YCbCr": from_pillow("YCbCr"),
    "LAB": of_tifffile(smooth, photometric="cielab"),
    "CMYK": from_pillow("CMYK"),
    "LZW": from_pillow("RGB", compression="tiff_lzw"),
    "palette": from_pillow("P"),
    "turned": from_pillow("RGB", tiffinfo={274: 6}),
    "16 bits": lambda path: geotiff(path, picture(*SIZE, 3, "uint16"), photometric="rgb"),
    "nodata": lambda path: geotiff(path, smooth() // 64 * 64, nodata=0),
    "five bands": lambda path: geotiff(path, smooth(5), photometric="minisblack"),
    "infrared": lambda path: geotiff(path, smooth(4), photometric="rgb", alpha="unspecified"),
}
"""TIFFs that prediction reads with three channels, by both libraries."""

MORE_TIFFS: dict[str, Kind] = {
    "two bands": lambda path: geotiff(path, smooth(2), photometric="minisblack"),
    "planar": lambda path: geotiff(path, smooth(), photometric="rgb", interleave="band"),
    "BigTIFF": of_tifffile(smooth, bigtiff=True, photometric="rgb"),
    "big endian": of_tifffile(lambda: picture(*SIZE, 1, "uint16")[..., 0], byteorder=">"),
    "OME-TIFF of 3 channels": of_tifffile(pages(3), ome=True, metadata={"axes": "CYX"}, photometric="minisblack"),
    "OME-TIFF of 5 channels": of_tifffile(pages(5, "uint16"), ome=True, metadata={"axes": "CYX"}),
    "OME-TIFF of 2 channels in tiles": of_tifffile(
        pages(2), ome=True, metadata={"axes": "CYX"}, tile=(32, 32), compression="zlib"
    ),
    "OME-TIFF, RGB": of_tifffile(smooth, ome=True, photometric="rgb"),
    "OME-TIFF, depth": of_tifffile(pages(3), ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"),
    "ImageJ of 3 channels": of_tifffile(pages(3), imagej=True, metadata={"axes": "CYX"}),
    "ImageJ of 5 channels": of_tifffile(pages(5, "uint16"), imagej=True, metadata={"axes": "CYX"}),
    "ImageJ of 5 channels of floats": of_tifffile(pages(5, "float32"), imagej=True, metadata={"axes": "CYX"}),
    "ImageJ, depth": of_tifffile(pages(5), imagej=True, metadata={"axes": "ZYX"}),
    "ImageJ, time": of_tifffile(pages(5), imagej=True, metadata={"axes": "TYX"}),
    "ImageJ, single image": of_tifffile(lambda: smooth(1)[..., 0].astype(np.uint16) * 200, imagej=True),
    "pages that are channels": of_tifffile(pages(5), photometric="minisblack", metadata={"axes": "CYX"}),
    "pages that may be anything": of_tifffile(pages(5), photometric="minisblack", metadata=None),
    "white at 0": of_tifffile(lambda: smooth(1)[..., 0], photometric="miniswhite"),
    "white at 0, 16 bits": of_tifffile(lambda: picture(*SIZE, 1, "uint16")[..., 0], photometric="miniswhite"),
    "1 bit": from_pillow("1"),
    "4 bits": lambda path: geotiff(path, smooth(1) // 16, nbits=4),
    "32 bits": lambda path: geotiff(path, picture(*SIZE, 1, "int32") // 65536),
    "64 bits": of_tifffile(lambda: smooth(1)[..., 0].astype(np.int64) * 100),
    "32 bits, too large": lambda path: geotiff(path, picture(*SIZE, 1, "int32")),
    "signed bytes": of_tifffile(lambda: (smooth(1)[..., 0] // 2).astype(np.int8)),
    "floats": floats(holes=0.5),
    "floats with NaN": floats(),
    "floats, nodata NaN": floats(np.nan),
    "floats, nodata -9999": floats(-9999, -9999),
    "half floats": of_tifffile(lambda: picture(*SIZE, 1, "float32")[..., 0].astype(np.float16)),
    "doubles": lambda path: geotiff(path, picture(*SIZE, 1, "float32").astype(np.float64)),
    "complex": lambda path: geotiff(path, picture(*SIZE, 1, "float32").astype(np.complex64)),
    "predictor": lambda path: geotiff(path, smooth(), photometric="rgb", compress="deflate", predictor=2),
    "predictor of floats": lambda path: geotiff(path, picture(*SIZE, 1, "float32"), compress="deflate", predictor=3),
    "PackBits": from_pillow("RGB", compression="packbits"),
    "ZSTD": lambda path: geotiff(path, smooth(), photometric="rgb", compress="zstd"),
    "JPEG in strips": lambda path: Image.fromarray(smooth()).save(path, compression="jpeg"),
    "grey with alpha": from_pillow("LA"),
    "five bands with nodata": lambda path: geotiff(path, smooth(5) // 64 * 64, photometric="minisblack", nodata=0),
    "three floats": lambda path: geotiff(path, picture(*SIZE, 3, "float32")),
    "cut short": cut(lambda path: geotiff(path, picture(*SIZE), compress="deflate"), 0.6),
    "cut in its tags": cut(from_pillow("RGB"), 0.999),
    "strips are missing": wrong_offsets,
}

OTHERS: dict[str, tuple[str, Kind]] = {
    "PNG": (".png", from_pillow("RGB")),
    "PNG, grey": (".png", from_pillow("L")),
    "PNG, 1 bit": (".png", from_pillow("1")),
    "PNG, 2 bits of grey": (".png", lambda path: path.write_bytes(packed_png(2))),
    "PNG, 4 bits of grey": (".png", lambda path: path.write_bytes(packed_png(4))),
    "PNG, 16 bits": (".png", from_pillow("I;16")),
    "PNG, colours of 16 bits": (".png", deep_png),
    "PNG, palette": (".png", from_pillow("P")),
    "PNG, palette of 4 bits": (".png", from_pillow("P", colors=12)),
    "PNG, palette with a clear entry": (".png", from_pillow("P", transparency=3)),
    "PNG, a clear colour": (".png", from_pillow("RGB", transparency=(128, 128, 128))),
    "PNG, alpha": (".png", from_pillow("RGBA")),
    "PNG, grey with alpha": (".png", from_pillow("LA")),
    "PNG, cut short": (".png", cut(from_pillow("RGB"), 0.6)),
    "JPEG": (".jpg", from_pillow("RGB")),
    "JPEG, grey": (".jpg", from_pillow("L")),
    "JPEG, progressive": (".jpg", from_pillow("RGB", progressive=True)),
    "JPEG, turned": (".jpg", turned(6)),
    "JPEG, mirrored": (".jpg", turned(2)),
    "JPEG, CMYK": (".jpg", from_pillow("CMYK")),
    "JPEG, cut short": (".jpg", cut(from_pillow("RGB"), 0.6)),
    "GIF": (".gif", from_pillow("P")),
    "BMP": (".bmp", from_pillow("RGB")),
    "WebP": (".webp", from_pillow("RGB", lossless=True)),
    "WebP, alpha": (".webp", from_pillow("RGBA", lossless=True)),
    "PPM": (".ppm", from_pillow("RGB")),
    "PGM": (".pgm", from_pillow("L")),
    "PGM, 16 bits": (".pgm", from_pillow("I;16")),
    "PBM": (".pbm", from_pillow("1")),
    "empty": (".png", lambda path: path.write_bytes(b"")),
    "web page": (".jpg", lambda path: path.write_text("<!DOCTYPE html><html></html>")),
    "text": (".png", lambda path: path.write_text("not an image at all")),
    "array": (".npy", array(3, "uint8")),
    "array of one band": (".npy", array(1, "uint8")),
    "array of two bands": (".npy", array(2, "uint8")),
    "array of five bands": (".npy", array(5, "uint16")),
    "array of 16 bits": (".npy", array(3, "uint16")),
    "array of signed bytes": (".npy", lambda path: np.save(path, (smooth() // 2).astype(np.int8))),
    "array of 32 bits": (".npy", array(3, "int32")),
    "array of floats": (".npy", array(3, "float32")),
    "array of doubles": (".npy", array(1, "float64")),
    "array with NaN": (".npy", lambda path: np.save(path, np.full((*SIZE, 3), np.nan, np.float32))),
    "array of numbers too large": (".npy", lambda path: np.save(path, np.full((*SIZE, 3), 70000.0))),
    "array of complex numbers": (".npy", lambda path: np.save(path, np.zeros((*SIZE, 3), np.complex64))),
    "array, cut short": (".npy", cut(array(3, "uint8"), 0.6)),
}


def packed_png(bits: int) -> bytes:
    """Return a PNG with grey of 2 or 4 bits, which Pillow cannot write."""
    levels = smooth(1)[..., 0] >> (8 - bits)
    per_byte = 8 // bits
    width = -(-SIZE[1] // per_byte) * per_byte
    padded = np.pad(levels, ((0, 0), (0, width - SIZE[1]))).reshape(SIZE[0], -1, per_byte)
    shifts = np.arange(per_byte)[::-1] * bits
    rows = (padded << shifts).sum(2).astype(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


EVERY_KIND: dict[str, tuple[str, Kind]] = {
    **{f"TIFF: {name}": (".tif", kind) for name, kind in (TIFFS | MORE_TIFFS).items()},
    **OTHERS,
}
"""The suffix and the function that writes the file, by kind."""


def decoder_table(folder: Path, hide: Callable[..., None]) -> str:
    """Return the table of docs/formats.md: the kinds of files by their decoder. `hide` hides packages."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for number, (name, (suffix, make)) in enumerate(EVERY_KIND.items()):
        path, cells = folder / f"{number}{suffix}", []
        make(path)
        for hidden in ((), ("rasterio",), ("rasterio", "tifffile")):
            hide(*hidden)
            cells.append(_decoder(path))
        rows.setdefault(tuple(cells), []).append(name)
    hide()
    head = ["| with rasterio | with tifffile alone | with neither | kinds of files |", "|---|---|---|---|"]
    body = [f"| {' | '.join(cells)} | {'; '.join(names)} |" for cells, names in rows.items()]
    return "\n".join([*head, *body]) + "\n"


def _decoder(path: Path) -> str:
    try:
        header, decoder = read_header(path), decoder_of(path)
        read_image(path, InputFormat(header.channels))
    except FullconvError as error:
        return f"refused: `{error.code}`"
    return decoder
