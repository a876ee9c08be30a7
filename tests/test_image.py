"""Images are read as they were stored, upright; files that cannot be read raise an error of one sentence."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageOps

from fullconv.arrays import UInt8
from fullconv.errors import DataError
from fullconv.files import atomic_write, write_text
from fullconv.images import (
    IMAGE_SUFFIXES,
    Picture,
    image_size,
    overlay,
    read_image,
    read_label_map,
    write_image,
    write_label_map,
)
from fullconv.images.png import LONGEST, write_png
from fullconv.labels import LabelSet
from refusals import refuses

LABELS = LabelSet.named(["ground", "tree", "water"])
in_one_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
label_arrays = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20))


def noise(*shape: int, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b""
    for kind, data in chunks:
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + body


def header(height: int, width: int, bits: int, colour: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


def error_message(read: Callable[[Path], Any], path: Path) -> str | None:
    try:
        result = read(path)
        assert (result.pixels if isinstance(result, Picture) else result).dtype == np.uint8
    except DataError as error:
        return str(error)
    return None


def assert_refused(read: Callable[[Path], Any], path: Path, code: str, *values: object) -> None:
    with refuses(code, *values) as refusal:
        read(path)
    assert refusal.message.startswith(f"{path}: ")
    assert "\n" not in refusal.message
    assert "; " in refusal.message


@pytest.mark.parametrize("size", [(1, 1), (37, 501), (3000, 4000)])
def test_lossless_round_trip_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[: size[0] // 2 + 1] = [[[200, 3, 77]]]
    write_image(tmp_path / "a.bmp", image)
    read = read_image(tmp_path / "a.bmp").pixels
    assert np.array_equal(read, image)
    assert read.flags.writeable
    assert image_size(tmp_path / "a.bmp") == size


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    flat = np.full((5, 7, 3), (200, 100, 50), np.uint8)
    path = tmp_path / f"a{suffix}"
    write_image(path, flat)
    assert np.abs(read_image(path).pixels.astype(int) - flat).max() <= 6
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(mode, ".png") for mode in ("1", "L", "P", "LA", "RGBA", "RGB")]
    + [
        ("CMYK", ".tif"),
        ("CMYK", ".jpg"),
        ("YCbCr", ".jpg"),
        ("L", ".jpg"),
        ("P", ".gif"),
        ("RGBA", ".webp"),
    ],
)
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    source = Image.fromarray(np.full((6, 9, 3), 255, np.uint8)).convert(mode)
    source.save(tmp_path / f"a{suffix}")
    read = read_image(tmp_path / f"a{suffix}").pixels
    assert read.dtype == np.uint8
    assert read.shape == (6, 9, 3)
    assert read.min() >= 250


def test_alpha_is_dropped_and_colours_are_the_stored_ones(tmp_path: Path) -> None:
    rgba = noise(4, 5, 4)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, rgba[..., :3])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "p.png").pixels.tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize(("suffix", "order"), [(".png", "<u2"), (".tif", "<u2"), (".tif", ">u2")])
def test_sixteen_bits_are_divided_by_257(tmp_path: Path, suffix: str, order: str) -> None:
    wide = np.array([[0, 128, 129, 257 * 77, 65535 - 129, 65535]], order)
    Image.fromarray(wide).save(tmp_path / f"a{suffix}")
    expected = np.rint(wide / 257).astype(np.uint8)
    assert np.array_equal(read_image(tmp_path / f"a{suffix}").pixels[..., 1], expected)


def test_floats_from_0_to_1_are_read_and_others_raise_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0.5, 1]], np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").pixels[0, :, 0].tolist() == [0, 128, 255]
    for bad in (-0.1, 1.5, float("nan")):
        Image.fromarray(np.array([[0, bad]], np.float32)).save(tmp_path / "bad.tif")
        code, words = ("not-finite", "-a_nodata nan") if np.isnan(bad) else ("value-range", "0 to 1")
        assert_refused(read_image, tmp_path / "bad.tif", code, words)
    Image.fromarray(np.array([[0, 70000]], np.int32)).save(tmp_path / "bad.tif")
    assert_refused(read_image, tmp_path / "bad.tif", "value-range", 70000, "0 to 65535")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_exif_orientation_is_applied_to_images_sizes_and_masks(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    stored = Image.fromarray(np.kron(noise(2, 3), np.ones((8, 8), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.convert("RGB").save(path, exif=exif, quality=100, lossless=suffix == ".webp")
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored))
    read = read_image(path).pixels
    assert read.shape[:2] == image_size(path) == upright.shape
    assert np.abs(read[..., 0].astype(int) - upright).max() <= 3
    if suffix in (".png", ".tif"):
        stored.save(path, exif=exif)
        assert np.array_equal(read_label_map(path), upright)


def broken_files(folder: Path) -> dict[str, str]:
    """Write files that are not images; return the code of each file's error."""
    write_image(folder / "good.png", noise(40, 40, 3))
    write_image(folder / "good.jpg", noise(40, 40, 3))
    write_image(folder / "good.tif", noise(40, 40, 3))
    for suffix in (".png", ".jpg", ".tif"):
        whole = (folder / f"good{suffix}").read_bytes()
        (folder / f"cut{suffix}").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not an image")
    (folder / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / "folder.png").mkdir()
    (folder / "bomb.png").write_bytes(png(header(2**16, 2**16, 8, 2), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")))
    return {
        "cut.png": "truncated-file",
        "cut.jpg": "truncated-file",
        "cut.tif": "truncated-file",
        "empty.png": "empty-file",
        "text.jpg": "not-an-image",
        "script.png": "not-an-image",
        "folder.png": "not-a-file",
        "bomb.png": "too-large",
        "missing.png": "missing-file",
        "nul\0.png": "missing-file",
        f"{'a' * 300}.png": "unreadable-file",
    }


def test_files_that_are_not_images_raise_an_error_of_one_sentence(tmp_path: Path) -> None:
    for name, code in broken_files(tmp_path).items():
        assert_refused(read_image, tmp_path / name, code)
        with pytest.raises(DataError, match="; "):
            read_label_map(tmp_path / name)
        if code != "truncated-file":
            assert_refused(image_size, tmp_path / name, code)


def test_images_above_pillows_pixel_limit_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    write_image(tmp_path / "a.tif", noise(30, 30, 3))
    assert read_image(tmp_path / "a.tif").pixels.shape == (30, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@in_one_folder
@given(data=st.data())
def test_damaged_files_give_pixels_or_an_error_that_names_the_file(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".tif", ".gif", ".bmp", ".webp", ".ppm"]))
    write_image(tmp_path / f"a{suffix}", noise(9, 11, 3))
    content = bytearray((tmp_path / f"a{suffix}").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged").write_bytes(content)
    for read in (read_image, read_label_map):
        message = error_message(read, tmp_path / "damaged")
        assert message is None or message.startswith(f"{tmp_path / 'damaged'}: ")


@in_one_folder
@given(label_map=label_arrays)
def test_label_map_round_trip(tmp_path: Path, label_map: UInt8) -> None:
    write_label_map(tmp_path / "m.png", label_map, LABELS)
    assert np.array_equal(read_label_map(tmp_path / "m.png"), label_map)
    assert np.array_equal(read_image(tmp_path / "m.png").pixels, LABELS.colorize(label_map))


@in_one_folder
@given(label_map=arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 255])))
def test_colour_masks_become_class_ids_by_the_palette(tmp_path: Path, label_map: UInt8) -> None:
    write_image(tmp_path / "m.png", LABELS.colorize(label_map))
    assert np.array_equal(read_label_map(tmp_path / "m.png", LABELS), label_map)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_values_of_grey_masks_are_their_class_ids(tmp_path: Path, dtype: npt.DTypeLike) -> None:
    stored = noise(7, 9)
    Image.fromarray(stored.astype(dtype)).save(tmp_path / "m.tif")
    assert np.array_equal(read_label_map(tmp_path / "m.tif"), stored)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_labels_of_grey_png_masks_are_not_stretched(tmp_path: Path, bits: int) -> None:
    ids = np.arange(min(2**bits, 256), dtype=np.uint32)
    digits = "".join(f"{value:0{bits}b}" for value in ids)
    row = int(digits.ljust(-(-len(digits) // 8) * 8, "0"), 2).to_bytes(-(-len(digits) // 8), "big")
    data = zlib.compress(b"\0" + row)
    content = png(header(1, len(ids), bits, 0), (b"IDAT", data), (b"IEND", b""))
    (tmp_path / "m.png").write_bytes(content)
    assert read_label_map(tmp_path / "m.png")[0].tolist() == ids.tolist()


@pytest.mark.parametrize("maximum", [3, 11, 255, 300, 65535])
def test_labels_of_pgm_masks_are_not_stretched(tmp_path: Path, maximum: int) -> None:
    ids = np.arange(min(maximum, 255) + 1)
    (tmp_path / "m.pgm").write_text(f"P2 {len(ids)} 1 {maximum} {' '.join(map(str, ids))}\n")
    assert read_label_map(tmp_path / "m.pgm")[0].tolist() == ids.tolist()
    raw = ids.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    (tmp_path / "m.pgm").write_bytes(f"P5 {len(ids)} 1 {maximum}\n".encode() + raw)
    assert read_label_map(tmp_path / "m.pgm")[0].tolist() == ids.tolist()


def test_masks_without_certain_labels_raise_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "m.jpg", noise(4, 4, 3))
    assert_refused(read_label_map, tmp_path / "m.jpg", "jpeg-mask")
    write_image(tmp_path / "rgb.png", np.full((2, 2, 3), 7, np.uint8))
    assert_refused(read_label_map, tmp_path / "rgb.png", "no-colour-table")
    with refuses("unknown-colour", tmp_path / "rgb.png", "#070707"):
        read_label_map(tmp_path / "rgb.png", LABELS)
    Image.fromarray(np.array([[0, 256]], np.uint16)).save(tmp_path / "wide.png")
    assert_refused(read_label_map, tmp_path / "wide.png", "unknown-label", 256)
    Image.fromarray(np.array([[0.0, 1.0]], np.float32)).save(tmp_path / "float.tif")
    assert_refused(read_label_map, tmp_path / "float.tif", "unsupported-format", "mode F")


@given(
    label_map=arrays(np.uint8, (3, 5), elements=st.sampled_from([0, 1, 2, 3, 200, 255])),
    alpha=st.floats(0, 1),
)
def test_overlay_tints_only_pixels_with_a_class(label_map: UInt8, alpha: float) -> None:
    image = noise(3, 5, 3)
    tinted = overlay(image, label_map, LABELS, alpha)
    known = (label_map < 3)[..., None]
    exact = np.where(known, (1 - alpha) * image + alpha * LABELS.colorize(label_map).astype(float), image)
    assert np.abs(tinted - exact).max() <= 1.01
    assert np.array_equal(overlay(image, label_map, LABELS, 0), image)
    assert np.array_equal(overlay(image, label_map, LABELS, 1), np.where(known, LABELS.colorize(label_map), image))


def test_overlay_does_not_tint_pixels_of_the_ignored_class() -> None:
    image, labels = noise(3, 5, 3), LabelSet(LABELS.class_names, LABELS.palette, ignore_index=1)
    assert np.array_equal(overlay(image, np.ones((3, 5), np.uint8), labels), image)


def test_overlay_raises_an_error_for_unequal_sizes_and_a_wrong_alpha() -> None:
    with refuses("label-map-size-differs", "5 x 3", "3 x 5"):
        overlay(noise(3, 5, 3), noise(5, 3), LABELS)
    with refuses("alpha-out-of-range", 1.5):
        overlay(noise(3, 5, 3), noise(3, 5), LABELS, 1.5)


def stop_midway(target: Path) -> None:
    with atomic_write(target) as temporary:
        assert temporary.suffix == target.suffix
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    write_text(target, "old\n")
    with pytest.raises(KeyboardInterrupt):
        stop_midway(target)
    assert target.read_bytes() == b"old\n"
    assert list(target.parent.iterdir()) == [target]


def test_failed_writes_name_the_file_and_leave_nothing(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "deep" / "a.png", tmp_path / "folder.png"):
        with refuses("file-not-writable", path):
            write_image(path, noise(2, 2, 3))
    for name in ("a.xyz", "a"):
        with refuses("unknown-image-suffix", tmp_path / name):
            write_image(tmp_path / name, np.zeros((1, 2, 3), np.uint8))
    for name, width in (("a.jpg", 70000), ("a.webp", 20000)):
        with refuses("image-too-large-for-format", tmp_path / name, width):
            write_image(tmp_path / name, np.zeros((1, width, 3), np.uint8))
    with refuses("image-too-large-for-format", tmp_path / "a.png", LONGEST + 1):
        write_png(tmp_path / "a.png", (1, LONGEST + 1), [], None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_an_error_of_another_file_does_not_name_the_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a") as temporary:
        temporary.write_bytes((tmp_path / "source").read_bytes())
