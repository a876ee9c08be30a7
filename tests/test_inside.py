"""Annotations and links that leave the data set's folder."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.data.annotations.image_index import ImageIndex, list_images
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.reading import ReadingOptions
from fullconv.data.writers.write import convert
from fullconv.faults import Fault

SQUARE = [(2, 2), (9, 2), (9, 7), (2, 7)]
needs_links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


def put_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def put_labelme(path: Path, image_path: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"label": "roof", "points": SQUARE, "shape_type": "polygon"}
    values = {"shapes": [shape], "imagePath": image_path, "imageHeight": 12, "imageWidth": 16}
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def labelme(root: Path, reference: str) -> Path:
    for number in range(3):
        put_image(root / "images" / f"{number}.png", number)
        put_labelme(root / "json" / f"{number}.json", f"../images/{number}.png")
    return put_labelme(root / "json" / "odd.json", reference)


def coco(root: Path, reference: str) -> Path:
    names = ["0.png", "1.png", "2.png", reference]
    for number in range(3):
        put_image(root / "images" / names[number], number)
    images = [{"id": n, "file_name": name, "width": 16, "height": 12} for n, name in enumerate(names)]
    corners = [value for corner in SQUARE for value in corner]
    shapes = [{"id": n, "image_id": n, "category_id": 1, "segmentation": [corners]} for n in range(4)]
    values = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "roof"}]}
    (root / "annotations").mkdir()
    path = root / "annotations" / "instances.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def datumaro(root: Path, reference: str) -> Path:
    names = ["0.png", "1.png", "2.png", reference]
    for number in range(3):
        put_image(root / "images" / "default" / names[number], number)
    corners = [value for corner in SQUARE for value in corner]
    shape = {"type": "polygon", "label_id": 0, "points": corners}
    items = [
        {"id": f"item{n}", "annotations": [shape], "image": {"path": name, "size": [12, 16]}}
        for n, name in enumerate(names)
    ]
    (root / "annotations").mkdir()
    path = root / "annotations" / "default.json"
    labels = {"label": {"labels": [{"name": "roof"}]}}
    path.write_text(json.dumps({"categories": labels, "items": items}), encoding="utf-8")
    return path


FORMATS: dict[str, Callable[[Path, str], Path]] = {"labelme": labelme, "coco": coco, "datumaro": datumaro}


def outside_faults(root: Path) -> list[Fault]:
    return [fault for fault in survey(root).faults if fault.kind == "outside-data"]


def images_of(root: Path, options: ReadingOptions | None = None) -> list[str]:
    dataset = survey(root, options or ReadingOptions()).dataset
    assert dataset is not None
    return sorted(sample.image.name for samples in dataset.splits.values() for sample in samples)


@pytest.mark.parametrize("absolute", [False, True], ids=["by ..", "absolute"])
@pytest.mark.parametrize("layout", FORMATS)
def test_images_outside_of_the_folder_are_a_fault(tmp_path: Path, layout: str, absolute: bool) -> None:
    secret, root = put_image(tmp_path / "private" / "passport.png", 9), tmp_path / "data"
    root.mkdir()
    reference = str(secret) if absolute else "../../../private/passport.png"
    if layout == "labelme" and not absolute:
        reference = "../../private/passport.png"
    if layout == "coco" and not absolute:
        reference = "../../private/passport.png"
    path = FORMATS[layout](root, reference)
    faults = outside_faults(root)
    assert [fault.path for fault in faults] == [path]
    assert os.path.join("..", "private", "passport.png") in faults[0].problem
    assert images_of(root) == ["0.png", "1.png", "2.png"]
    assert "passport.png" in images_of(root, ReadingOptions(outside=True))


@pytest.mark.parametrize("layout", FORMATS)
def test_a_copy_of_the_image_in_the_folder_is_preferred(tmp_path: Path, layout: str) -> None:
    """The paths of an export exist on the machine that wrote it; DATA holds its own copy of each image."""
    original, root = put_image(tmp_path / "original" / "odd.png", 9), tmp_path / "data"
    copy = put_image(root / "photos" / "odd.png", 8)
    FORMATS[layout](root, str(original))
    dataset = find_dataset(root)
    found = [sample.image for samples in dataset.splits.values() for sample in samples]
    assert copy in found
    assert original not in found
    assert len(found) == 4


def test_paths_with_dots_below_the_folder_are_read(tmp_path: Path) -> None:
    put_image(tmp_path / "data" / "images" / "odd.png", 9)
    labelme(tmp_path / "data", "../../data/images/odd.png")
    assert outside_faults(tmp_path / "data") == []
    assert images_of(tmp_path / "data") == ["0.png", "1.png", "2.png", "odd.png"]


def folder_layout(root: Path) -> None:
    for number in range(4):
        put_image(root / "images" / f"{number}.png", number)
        (root / "masks").mkdir(exist_ok=True)
        mask = np.zeros((12, 16), np.uint8)
        mask[2:7, 2 : 9 + number] = 1
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")


@needs_links
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_links_to_files_outside_are_a_fault_and_not_copied(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "data"
    folder_layout(root)
    path = root / folder / "1.png"
    path.rename(tmp_path / "elsewhere.png")
    path.symlink_to(tmp_path / "elsewhere.png")
    (fault,) = outside_faults(root)
    assert fault.path == path
    assert os.path.join("..", "elsewhere.png") in fault.problem
    assert images_of(root) == ["0.png", "2.png", "3.png"]
    allowed = find_dataset(root, ReadingOptions(outside=True))
    assert sum(convert(allowed, tmp_path / "out", "folder").values()) == 4


@needs_links
def test_links_to_folders_and_inside_are_followed_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    folder_layout(root)
    (root / "images").rename(tmp_path / "disk")
    (root / "images").symlink_to(tmp_path / "disk")
    (root / "masks" / "0.png").rename(root / "first.png")
    (root / "masks" / "0.png").symlink_to(root / "first.png")
    with caplog.at_level(logging.INFO):
        dataset = find_dataset(root)
    assert sum(map(len, dataset.splits.values())) == 4
    assert f"images is a link to {tmp_path / 'disk'}" in dataset.about
    (tmp_path / "link").symlink_to(root)
    assert images_of(tmp_path / "link") == ["0.png", "1.png", "2.png", "3.png"]


@needs_links
def test_images_in_a_linked_folder_are_found_by_their_name(tmp_path: Path) -> None:
    for number in range(3):
        put_image(tmp_path / "disk" / f"{number}.png", number)
        put_labelme(tmp_path / "data" / "json" / f"{number}.json", f"/elsewhere/{number}.png")
    (tmp_path / "data" / "photos").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "data")
    assert images_of(tmp_path / "data") == ["0.png", "1.png", "2.png"]


@needs_links
def test_a_folder_and_a_link_to_it_are_one_folder_under_its_own_path(tmp_path: Path) -> None:
    put_image(tmp_path / "photos" / "deep" / "0.png")
    (tmp_path / "a_link").symlink_to(tmp_path / "photos" / "deep")
    assert list_images(tmp_path) == [tmp_path / "photos" / "deep" / "0.png"]


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_images_are_found_in_any_unicode_form_of_their_name(tmp_path: Path, forms: tuple[str, str]) -> None:
    file, named = (unicodedata.normalize(form, "größe.png") for form in forms)
    put_image(tmp_path / "photos" / file)
    put_labelme(tmp_path / "json" / "a.json", f"../other/{named}")
    put_image(tmp_path / "photos" / "b.png", 1)
    put_labelme(tmp_path / "json" / "b.json", "../photos/b.png")
    assert images_of(tmp_path) == sorted(["b.png", file])


def test_images_next_to_files_with_a_lost_path_are_found_in_one_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.ome.tif", "c.png", "c.png.jpg"):
        put_image(tmp_path / name)
        put_labelme(tmp_path / f"{name.partition('.')[0]}.json", "lost/x.jpg")
    listed = []
    iterate = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterate(path))
    monkeypatch.setattr(Path, "glob", None)
    index = ImageIndex(tmp_path)
    found = [[image.name for image in index.find_next_to(tmp_path / f"{stem}.json")] for stem in ("a", "b", "c", "d")]
    assert found == [["a.jpg"], ["b.ome.tif"], ["c.png", "c.png.jpg"], []]
    assert listed == [tmp_path]
    monkeypatch.undo()
    assert images_of(tmp_path) == ["a.jpg", "b.ome.tif", "c.png"]


def test_images_inside_of_annotation_files_are_no_outside_data(tmp_path: Path) -> None:
    for number in range(3):
        image = put_image(tmp_path / "photo.png", number)
        path = put_labelme(tmp_path / "data" / f"{number}.json", "gone.png")
        values = json.loads(path.read_text(encoding="utf-8"))
        values["imageData"] = base64.b64encode(image.read_bytes()).decode()
        path.write_text(json.dumps(values), encoding="utf-8")
    assert sum(map(len, find_dataset(tmp_path / "data").splits.values())) == 3


def test_masks_of_labelme_xml_outside_of_the_folder_are_a_fault(tmp_path: Path) -> None:
    Image.fromarray(np.full((12, 16), 255, np.uint8)).save(tmp_path / "secret.png")
    for number in range(2):
        put_image(tmp_path / "data" / "Images" / f"{number}.jpg", number)
        mask = "../../../secret.png" if number else "../inside.png"
        segment = f"<object><name>roof</name><deleted>0</deleted><segm><mask>{mask}</mask></segm></object>"
        size = "<imagesize><nrows>12</nrows><ncols>16</ncols></imagesize>"
        path = tmp_path / "data" / "Annotations" / f"{number}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<annotation><filename>{number}.jpg</filename>{size}{segment}</annotation>", encoding="utf-8")
    (tmp_path / "data" / "Annotations" / "Masks").mkdir()
    shutil.copyfile(tmp_path / "secret.png", tmp_path / "data" / "Annotations" / "inside.png")
    (fault,) = outside_faults(tmp_path / "data")
    assert fault.path.name == "1.xml"
