"""Pages of a TIFF are the channels of one image where its metadata say so; stacks of depth or time are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from fullconv.data.layouts import find_dataset
from fullconv.data.mask_classes.stored_masks import read_stored_mask
from fullconv.doctor.image_check import inspect_picture
from fullconv.images import (
    InputFormat,
    open_image,
    open_label_map,
    read_header,
    read_image,
    read_label_map,
    write_label_map,
)
from fullconv.images.stored_values import sample_values
from fullconv.predict.model import Model
from geotiffs import LABELS, reader
from refusals import refuses
from test_one_decoder import Channels

__all__ = ["reader"]


def levels(count: int, dtype: str = "uint8") -> npt.NDArray[Any]:
    """Return pages, count x 20 x 30, in which each page has other numbers."""
    numbers = np.arange(20 * 30).reshape(20, 30) % 40
    return np.stack([numbers + 50 * page for page in range(count)]).astype(dtype)


def description(path: Path, text: str, pages: npt.NDArray[Any]) -> Path:
    """Write pages with this description in the first one."""
    with tifffile.TiffWriter(path) as file:
        for number, page in enumerate(pages):
            file.write(page, description=text if number == 0 else None, metadata=None, photometric="minisblack")
    return path


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels {}>{}</Pixels>'
    "</Image></OME>"
)


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"ome": True}, {"photometric": "minisblack"}, {"imagej": True, "byteorder": ">"}]
)
@pytest.mark.parametrize("count", [2, 4, 5])
def test_pages_are_channels(tmp_path: Path, reader: str, options: dict[str, Any], count: int) -> None:
    path, pages = tmp_path / "a.tif", levels(count)
    tifffile.imwrite(path, pages, metadata={"axes": "CYX"}, **options)
    header = read_header(path)
    assert (header.bands, header.channels, header.size) == (count, count, (20, 30))
    np.testing.assert_array_equal(read_image(path, InputFormat(count)).pixels, np.moveaxis(pages, 0, -1))
    assert inspect_picture(path, InputFormat(count)).faults == ()


def test_one_more_axis_of_one_plane_is_no_stack(tmp_path: Path, reader: str) -> None:
    path, pages = tmp_path / "a.tif", levels(4)
    tifffile.imwrite(path, pages[None, None], imagej=True, metadata={"axes": "TZCYX"})
    assert read_header(path).channels == 4
    np.testing.assert_array_equal(read_image(path, InputFormat(4)).pixels, np.moveaxis(pages, 0, -1))


def test_ome_channels_follow_their_list_of_pages(tmp_path: Path, reader: str) -> None:
    """The second channel is the first page."""
    pages = levels(2)
    planes = '<TiffData FirstC="1" IFD="0" PlaneCount="1"/><TiffData FirstC="0" IFD="1"/>'
    text = OME.format('SizeC="2" SizeZ="1" SizeT="1"', planes)
    path = description(tmp_path / "a.tif", text, pages)
    np.testing.assert_array_equal(read_image(path, InputFormat(2)).pixels, np.moveaxis(pages[::-1], 0, -1))


def test_deep_pages_have_a_range(tmp_path: Path, reader: str) -> None:
    path, pages = tmp_path / "a.tif", levels(4, "uint16") * 10
    tifffile.imwrite(path, pages, imagej=True, metadata={"axes": "CYX"})
    numbers = sample_values(path, 4)
    assert numbers is not None
    assert (numbers.least, numbers.most) == (0, 1890)
    scaled = read_image(path, InputFormat(4, (0, 2550))).pixels
    np.testing.assert_array_equal(scaled, np.moveaxis(pages, 0, -1) // 10)


def test_three_pages_are_rgb_and_of_five_the_first_three_are_read(tmp_path: Path, reader: str) -> None:
    for count in (3, 5):
        path, pages = tmp_path / f"{count}.tif", levels(count)
        tifffile.imwrite(path, pages, imagej=True, metadata={"axes": "CYX"})
        picture = read_image(path)
        np.testing.assert_array_equal(picture.pixels, np.moveaxis(pages[:3], 0, -1))
        assert ("5 bands" in picture.note) == (count == 5)


def test_pixels_without_data_lack_it_in_all_pages(tmp_path: Path, reader: str) -> None:
    path, pages = tmp_path / "a.tif", levels(4) + np.uint8(1)
    pages[:, :5], pages[0, 5:9] = 0, 0
    with tifffile.TiffWriter(path, imagej=True) as file:
        file.write(pages, metadata={"axes": "CYX"}, extratags=[(42113, 2, 0, "0", False)])
    empty = read_image(path, InputFormat(4)).empty
    assert empty is not None
    expected = np.zeros((20, 30), np.bool_)
    expected[:5] = True
    np.testing.assert_array_equal(empty, expected)


STACKS: dict[str, tuple[dict[str, Any], tuple[Any, ...], str]] = {
    "depth": ({"imagej": True, "metadata": {"axes": "ZYX"}}, (5,), "5 planes of depth (Z)"),
    "time": ({"imagej": True, "metadata": {"axes": "TYX"}}, (5,), "5 points in time (T)"),
    "both": ({"ome": True, "metadata": {"axes": "TZCYX"}}, (2, 3, 2), "3 planes of depth (Z) and 2 points in time (T)"),
    "channels, too": ({"imagej": True, "metadata": {"axes": "ZCYX"}}, (3, 2), "with 2 channels each"),
    "of tifffile": ({"photometric": "minisblack", "metadata": {"axes": "ZYX"}}, (3,), "3 planes of depth (Z)"),
    "RGB": ({"ome": True, "photometric": "rgb", "metadata": {"axes": "ZYXS"}}, (4, "RGB"), "4 planes of depth (Z)"),
}


@pytest.mark.parametrize("kind", STACKS)
def test_stacks_are_refused_with_the_command_that_splits_them(tmp_path: Path, reader: str, kind: str) -> None:
    options, shape, words = STACKS[kind]
    sides = [*shape[:-1], 20, 30, 3] if shape[-1] == "RGB" else [*shape, 20, 30]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros(sides, np.uint8), **options)
    for read in (read_header, read_image, Model(Channels(InputFormat(5))).predict):
        with refuses("image-stack", words, "bfconvert"):
            read(path)


def test_older_imagej_stacks_without_axes_are_stacks(tmp_path: Path) -> None:
    path = description(tmp_path / "a.tif", "ImageJ=1.50a\nimages=4\n", levels(4))
    with refuses("image-stack", "4 planes"):
        read_header(path)


def test_one_file_of_a_set_is_one_image(tmp_path: Path, reader: str) -> None:
    """OME's metadata describe all planes in each file of a set; this file has one of them."""
    text = OME.format('SizeC="1" SizeZ="12" SizeT="1"', '<TiffData FirstZ="3" IFD="0"/>')
    path = description(tmp_path / "a.tif", text, levels(1))
    np.testing.assert_array_equal(read_image(path, InputFormat(1)).pixels[..., 0], levels(1)[0])


def test_pages_without_metadata_are_separate_images_as_before(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, levels(5), photometric="minisblack")
    assert read_header(path).bands == 1
    np.testing.assert_array_equal(read_image(path, InputFormat(1)).pixels[..., 0], levels(5)[0])
    assert [fault.kind for fault in inspect_picture(path).faults] == ["several-pages"]


def test_the_first_page_is_predicted_with_a_line_that_says_so(tmp_path: Path, reader: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", levels(5), photometric="minisblack")
    assert read_image(tmp_path / "a.tif", InputFormat(1)).note == "only the first of its 5 pages is read"
    with open_image(tmp_path / "a.tif", InputFormat(1)) as image:
        assert image.note == "only the first of its 5 pages is read"


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".png"])
def test_masks_of_several_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask{suffix}"
    pages = [Image.fromarray(page % 3) for page in levels(2)]
    pages[0].save(path, save_all=True, append_images=pages[1:])

    def read_windows(path: Path) -> None:
        with open_label_map(path):
            pass

    for read in (read_label_map, read_windows, read_stored_mask):
        with refuses("image-stack", "2 pages"):
            read(path)


def test_previews_and_masks_of_a_page_are_not_pages(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    mask = levels(1)[0] % 3
    with tifffile.TiffWriter(path) as file:
        file.write(mask, metadata=None, photometric="minisblack")
        file.write(mask[::2, ::2], metadata=None, photometric="minisblack", subfiletype=1)
        file.write(mask > 0, metadata=None, photometric="mask", subfiletype=4)
        file.write(mask[::4, ::4], metadata=None, photometric="minisblack")
    np.testing.assert_array_equal(read_label_map(path), mask)
    np.testing.assert_array_equal(read_stored_mask(path).codes, mask)
    assert not inspect_picture(path).faults


def test_pages_that_differ_by_some_pixels_are_pages(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    scan = levels(1)[0] % 3
    with tifffile.TiffWriter(path) as file:
        for side in range(3):
            file.write(scan[side:], metadata=None, photometric="minisblack")
    assert [fault.kind for fault in inspect_picture(path).faults] == ["several-pages"]
    with refuses("image-stack", "3 pages"):
        read_label_map(path)


def test_channels_whose_pages_differ_or_lack_are_refused(tmp_path: Path) -> None:
    text = OME.format('SizeC="3" SizeZ="1" SizeT="1"', "<TiffData/>")
    with refuses("image-stack", "lists 2 pages"):
        read_header(description(tmp_path / "lack.tif", text, levels(2)))
    path = tmp_path / "differ.tif"
    with tifffile.TiffWriter(path) as file:
        for number, side in enumerate((20, 20, 10)):
            page = np.zeros((side, 30), np.uint8)
            file.write(page, description=text if number == 0 else None, metadata=None, photometric="minisblack")
    with refuses("image-stack", "one size and type"):
        read_header(path)


def test_a_stack_with_one_listed_page_is_a_stack(tmp_path: Path) -> None:
    """ImageJ writes stacks of more than 4 GB so: one page in the list, and all planes after it."""
    path = description(tmp_path / "a.tif", "ImageJ=1.53t\nimages=6\nslices=6\n", levels(1))
    path.write_bytes(path.read_bytes() + bytes(5 * 600))
    with refuses("image-stack", "6 planes of depth"):
        read_header(path)


def test_metadata_that_only_look_like_ome_are_ignored(tmp_path: Path) -> None:
    for number, text in enumerate(("<OME> broken </OME>", "<!DOCTYPE a><OME></OME>", "<OME></OME>", '{"shape": 3}')):
        assert read_header(description(tmp_path / f"{number}.tif", text, levels(2))).bands == 1


def test_a_data_set_of_pages_has_their_channels(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (tmp_path / folder / split).mkdir(parents=True)
        for number in range(2):
            name = f"{split}{number}"
            tifffile.imwrite(
                tmp_path / "images" / split / f"{name}.ome.tif", levels(5), ome=True, metadata={"axes": "CYX"}
            )
            truth = (levels(1)[0] > 20).astype(np.uint8)
            write_label_map(tmp_path / "masks" / split / f"{name}.ome.png", truth, LABELS)
    (tmp_path / "classes.txt").write_text("ground\nroof\n", encoding="utf-8")
    dataset = find_dataset(tmp_path)
    assert dataset.channels == 5
    image, _ = dataset.read(dataset.split("train")[0])
    np.testing.assert_array_equal(image, np.moveaxis(levels(5), 0, -1))


def test_another_number_of_bands_says_what_the_model_takes(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, levels(4), imagej=True, metadata={"axes": "CYX"})
    with refuses("band-count", "4 bands", "5 bands, in which the values 0 to 4095 become 0 to 255"):
        Model(Channels(InputFormat(5, (0, 4095)))).predict(path)
