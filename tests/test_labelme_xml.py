"""The XML files of LabelMe: the label maps are compared pixel by pixel."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of, put_grey, targets
from fullconv.data.layouts import find_dataset, survey
from fullconv.errors import DataError

SIZE = (12, 16)
put_image = partial(put_grey, size=SIZE)
SQUARE_MAP = np.zeros(SIZE, np.uint8)
SQUARE_MAP[2:10, 1:9] = 1


def corners(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


SQUARE = corners(1, 2, 9, 10)


def element(name: str, points: list[tuple[int, int]], deleted: int = 0, more: str = "") -> str:
    pts = "".join(f"<pt>\n<x>{x}</x>\n<y>\n{y}\n</y>\n</pt>" for x, y in points)
    parts = "<attributes>big</attributes><parts><hasparts>1</hasparts><ispartof></ispartof></parts>"
    shape = f"<polygon><username>me</username>{pts}</polygon>" if points else ""
    return f"<object><name>\n{name}\n</name><deleted>{deleted}</deleted>{parts}<id>0</id>{shape}{more}</object>"


def write(path: Path, objects: str, image: str = "", folder: str = "", size: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = f"<imagesize><nrows>{SIZE[0]}</nrows><ncols>{SIZE[1]}</ncols></imagesize>" if size else ""
    name = image or f"{path.stem}.jpg"
    head = f"<filename>\n{name}\n</filename><folder>{folder}</folder><source><submittedBy>x</submittedBy></source>"
    path.write_text(f"<annotation>{head}{stated}{objects}</annotation>")
    return path


@pytest.mark.parametrize("size", [True, False])
@pytest.mark.parametrize(
    ("files", "images", "folder"),
    [
        ("Annotations", "Images", ""),
        ("Annotations/users/me/street", "Images/users/me/street", "users/me/street"),
        ("Annotations/street", "photos/street", "street"),
        ("default", "default", ""),
        (".", ".", ""),
        ("xml", "jpg", ""),
    ],
)
def test_polygons_are_read_and_deleted_objects_are_not(
    tmp_path: Path, files: str, images: str, folder: str, size: bool
) -> None:
    for name in ("a", "b", "c"):
        objects = element("roof", SQUARE) + element("ghost", corners(0, 0, 16, 12), deleted=1)
        write(tmp_path / files / f"{name}.xml", objects, folder=folder, size=size)
        put_image(tmp_path / images / f"{name}.jpg")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("labelme_xml", ("background", "roof"))
    read = targets(dataset)
    assert read.keys() == {"a", "b", "c"}
    for target in read.values():
        np.testing.assert_array_equal(target, SQUARE_MAP)


def test_folders_name_splits_and_later_objects_are_on_top(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("val", "a")):
        objects = element("roof", SQUARE) + element("chimney", corners(3, 3, 5, 5))
        write(tmp_path / "Annotations" / split / f"{name}.xml", objects, folder=split)
        put_image(tmp_path / "Images" / split / f"{name}.jpg")
    dataset = find_dataset(tmp_path)
    names = {split: [sample.name for sample in samples] for split, samples in dataset.splits.items()}
    assert names == {"train": ["train/a", "train/b"], "val": ["val/a"]}
    assert dataset.labels.class_names == ("background", "chimney", "roof")
    expected = SQUARE_MAP * 2
    expected[3:5, 3:5] = 1
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, expected)


def test_masks_of_objects_are_read(tmp_path: Path) -> None:
    segm = "<segm><username>me</username><box><xmin>1</xmin></box><mask>{}</mask></segm>"
    for name in ("a", "b"):
        put_image(tmp_path / "default" / f"{name}.jpg")
        write(tmp_path / "default" / f"{name}.xml", element("roof", [], more=segm.format(f"{name}_mask_0.png")))
        (tmp_path / "default/Masks").mkdir(exist_ok=True)
        Image.fromarray(SQUARE_MAP * 255).save(tmp_path / f"default/Masks/{name}_mask_0.png")
    for target in targets(find_dataset(tmp_path)).values():
        np.testing.assert_array_equal(target, SQUARE_MAP)
    (tmp_path / "default/Masks/a_mask_0.png").unlink()
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.sample) == ("missing-file", "a")


def test_a_box_around_a_polygon_of_its_label_is_not_filled(tmp_path: Path) -> None:
    triangle = [(1, 2), (9, 2), (1, 10)]
    for name in ("a", "b"):
        put_image(tmp_path / f"{name}.jpg")
        box = element("roof", SQUARE, more="<type>bounding_box</type>")
        write(tmp_path / f"{name}.xml", element("roof", triangle) + box if name == "a" else box)
    read = targets(find_dataset(tmp_path))
    np.testing.assert_array_equal(read["b"], SQUARE_MAP)
    assert read["a"].sum() == sum(x + y < 8 for x in range(8) for y in range(8) if x + y + 1 < 8)


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (element("roof", []), "damaged-shape", "object 2 (roof) has neither polygon nor mask"),
        (element("", SQUARE), "unknown-class", "object 2 () has no name"),
        (element("roof", [("a", 1)]), "damaged-shape", "object 2 (roof) has a corner that is not a number"),  # type: ignore[list-item]
        ("<object>", "invalid-annotations", "is not XML"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damage: str, kind: str, words: str) -> None:
    for name in ("a", "b", "c"):
        put_image(tmp_path / f"{name}.jpg")
        write(tmp_path / f"{name}.xml", element("roof", SQUARE) + (damage if name != "c" else ""))
    faults = faults_of(tmp_path)
    assert [(fault.kind, fault.path.name) for fault in faults] == [(kind, "a.xml"), (kind, "b.xml")]
    assert words in faults[0].problem


def test_a_single_damaged_object_leaves_its_image_out_and_absent_images_are_faults(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        put_image(tmp_path / f"{name}.jpg")
        write(tmp_path / f"{name}.xml", element("roof", SQUARE) + (element("roof", []) if name == "a" else ""))
    assert targets(find_dataset(tmp_path)).keys() == {"b", "c"}
    assert [fault.kind for fault in survey(tmp_path).faults] == ["skipped-shape"]
    (tmp_path / "c.jpg").unlink()
    assert [(fault.kind, fault.path.name) for fault in faults_of(tmp_path)] == [("missing-image", "c.xml")]


def test_the_boxes_of_voc_are_not_labelme(tmp_path: Path) -> None:
    path = write(tmp_path / "Annotations/a.xml", "")
    box = "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>"
    path.write_text(f"<annotation><filename>a.jpg</filename>{box}</annotation>")
    put_image(tmp_path / "photos/a.jpg")
    with pytest.raises(DataError) as caught:
        find_dataset(tmp_path)
    assert caught.value.code == "unknown-layout"
