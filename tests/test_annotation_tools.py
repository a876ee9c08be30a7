"""Shapes as single annotation tools write them, and polygons that cannot have an area."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of, put_grey, put_json, targets, warnings_of
from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset

SIZE = (12, 16)
put_image = partial(put_grey, size=SIZE)
SQUARE = [[2, 3], [9, 3], [9, 8], [2, 8]]
SQUARE_MAP = np.zeros(SIZE, np.uint8)
SQUARE_MAP[3:8, 2:9] = 1
LINE = [[2, 3], [9, 8]]
Points = list[list[int]]


def flat(points: Points) -> list[int]:
    return [value for point in points for value in point]


# X-AnyLabeling


def labelme(root: Path, name: str, *shapes: tuple[str, str, Points | list[list[float]]]) -> Path:
    put_image(root / f"{name}.png")
    drawn = [{"label": label, "shape_type": kind, "points": points} for label, kind, points in shapes]
    sides = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    return put_json(root / f"{name}.json", {"shapes": drawn, "imagePath": f"{name}.png", "imageData": None, **sides})


def test_boxes_of_four_corners_and_turned_boxes_are_filled(tmp_path: Path) -> None:
    turned = [[12, 3.6], [15.4, 7], [12, 10.4], [8.6, 7]]
    for name in "abc":
        labelme(tmp_path, name, ("roof", "rectangle", SQUARE), ("tree", "rotation", turned))
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "roof", "tree")
    expected = SQUARE_MAP.copy()
    for row, half in zip(range(4, 10), (1, 2, 3, 3, 2, 1), strict=True):
        expected[row, 12 - half : 12 + half] = 2
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("kind", ["rectangle", "rotation"])
def test_boxes_of_four_corners_around_a_polygon_are_not_filled(tmp_path: Path, kind: str) -> None:
    around = [[1, 2], [10, 2], [10, 9], [1, 9]]
    for name in "ab":
        labelme(tmp_path, name, ("roof", kind, around), ("roof", "polygon", SQUARE))
    for target in targets(find_dataset(tmp_path)).values():
        np.testing.assert_array_equal(target, SQUARE_MAP)


def test_a_box_of_three_corners_is_damaged(tmp_path: Path) -> None:
    labelme(tmp_path, "a", ("roof", "rectangle", SQUARE[:3]))
    assert {fault.kind for fault in faults_of(tmp_path)} == {"damaged-shape"}


# Label Studio


def png(mask: UInt8) -> str:
    """Return black pixels on a transparent ground as Label Studio writes them."""
    stream = io.BytesIO()
    Image.fromarray(np.dstack([mask * 0, mask * 0, mask * 0, mask * 255])).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def label_studio(root: Path, kind: str, value: dict[str, Any], good: int = 0) -> Path:
    """Write three tasks with a region; in the last `good` tasks it is a square."""
    points = [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in SQUARE]
    square = {"points": points, "polygonlabels": ["roof"]}
    tasks = []
    for number in range(3):
        put_image(root / f"a{number}.png")
        is_good = number >= 3 - good
        region = {
            "type": "polygonlabels" if is_good else kind,
            "value": square if is_good else value,
            "original_width": SIZE[1],
            "original_height": SIZE[0],
        }
        annotations = [{"result": [region]}]
        tasks.append({"id": number, "data": {"image": f"a{number}.png"}, "annotations": annotations})
    return put_json(root / "export.json", tasks)


@pytest.mark.parametrize("kind", ["bitmasklabels", "labels"])
def test_bitmasks_of_label_studio_are_read(tmp_path: Path, kind: str) -> None:
    label_studio(tmp_path, kind, {"imageDataURL": png(SQUARE_MAP), kind: ["roof"]})
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "roof")
    assert len(targets(dataset)) == 3
    for target in targets(dataset).values():
        np.testing.assert_array_equal(target, SQUARE_MAP)


def test_damaged_bitmasks_are_named_and_those_of_another_size_refused(tmp_path: Path) -> None:
    for url in ("", "data:image/png;base64,AAAA", "https://a/b.png"):
        file = label_studio(tmp_path, "bitmasklabels", {"imageDataURL": url, "bitmasklabels": ["roof"]})
        assert {(fault.kind, fault.path) for fault in faults_of(tmp_path)} == {("damaged-shape", file)}
    label_studio(tmp_path, "bitmasklabels", {"imageDataURL": png(SQUARE_MAP[1:]), "bitmasklabels": ["roof"]})
    with pytest.raises(Exception, match="has a bitmask of another size than the image"):
        targets(find_dataset(tmp_path))


# Datumaro


def datumaro(root: Path, items: dict[str, list[dict[str, Any]]]) -> Path:
    for name in items:
        put_image(root / "images" / "train" / f"{name}.png")
    labels = {"label": {"labels": [{"name": "roof"}]}}
    listed = [{"id": name, "annotations": annotations} for name, annotations in items.items()]
    return put_json(root / "annotations" / "train.json", {"categories": labels, "items": listed})


def test_ellipses_of_datumaro_are_filled_and_skeletons_cuboids_and_turned_boxes_have_no_area(tmp_path: Path) -> None:
    ellipse = {"type": "ellipse", "label_id": 0, "points": [2, 3, 12, 9]}
    others = [{"type": kind, "label_id": 0} for kind in ("skeleton", "cuboid_2d", "cuboid_3d", "rotated_bbox")]
    file = datumaro(tmp_path, {"a": [ellipse, *others], "b": [others[0]]})
    (target,) = targets(find_dataset(tmp_path)).values()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    np.testing.assert_array_equal(target, ((x - 7) / 5) ** 2 + ((y - 6) / 3) ** 2 < 1)
    assert abs(int(target.sum()) - math.pi * 15) < 3
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.path) == ("no-area", file)
    assert "1 image has no other shape and is left out, first b" in warning.problem
    datumaro(tmp_path, {"a": [ellipse | {"points": [2, 3, 12]}]})
    (fault,) = faults_of(tmp_path)
    assert fault.kind == "damaged-shape"
    assert "the box of an ellipse has four" in fault.problem


# Polygons of fewer than three corners


def thin_labelme(root: Path, points: Points) -> Path:
    labelme(root, "good", ("roof", "polygon", SQUARE))
    return labelme(root, "thin", ("roof", "polygon", points))


def thin_coco(root: Path, points: Points) -> Path:
    for name in ("good", "thin"):
        put_image(root / "images" / f"{name}.png")
    sides = {"height": SIZE[0], "width": SIZE[1]}
    images = [{"id": number, "file_name": f"{name}.png", **sides} for number, name in enumerate(("good", "thin"))]
    shapes = [
        {"image_id": i, "category_id": 1, "segmentation": [flat(ring)]} for i, ring in enumerate((SQUARE, points))
    ]
    content = {"images": images, "annotations": shapes, "categories": [{"id": 1, "name": "roof"}]}
    return put_json(root / "annotations" / "train.json", content)


def thin_datumaro(root: Path, points: Points) -> Path:
    polygon = {"type": "polygon", "label_id": 0}
    items = {"good": [polygon | {"points": flat(SQUARE)}], "thin": [polygon | {"points": flat(points)}]}
    return datumaro(root, items)


def thin_label_studio(root: Path, points: Points) -> Path:
    return label_studio(root, "polygonlabels", {"points": points, "polygonlabels": ["roof"]}, good=2)


def thin_supervisely(root: Path, points: Points) -> Path:
    for name, ring in (("good", SQUARE), ("thin", points)):
        put_image(root / "train" / "img" / f"{name}.png")
        shape = {"classTitle": "roof", "geometryType": "polygon", "points": {"exterior": ring, "interior": []}}
        content = {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": [shape]}
        put_json(root / "train" / "ann" / f"{name}.png.json", content)
    return root / "train" / "ann"


def thin_labelme_xml(root: Path, points: Points) -> Path:
    for name, ring in (("good", SQUARE), ("thin", points)):
        put_image(root / f"{name}.png")
        corners = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ring)
        shape = f"<object><name>roof</name><polygon>{corners}</polygon></object>"
        (root / f"{name}.xml").write_text(f"<annotation><filename>{name}.png</filename>{shape}</annotation>")
    return root / "thin.xml"


def thin_cvat(root: Path, points: Points) -> Path:
    images = ""
    for name, ring in (("good", SQUARE), ("thin", points)):
        put_image(root / "images" / f"{name}.png")
        corners = ";".join(f"{x},{y}" for x, y in ring)
        shape = f'<polygon label="roof" points="{corners}"/>'
        images += f'<image name="{name}.png" width="{SIZE[1]}" height="{SIZE[0]}">{shape}</image>'
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{images}</annotations>")
    return root / "annotations.xml"


THIN = [thin_labelme, thin_coco, thin_datumaro, thin_label_studio, thin_supervisely, thin_labelme_xml, thin_cvat]


@pytest.mark.parametrize(
    ("make", "points"),
    [(make, LINE[:count]) for make in THIN for count in range(make is thin_cvat, 3)],  # CVAT's text is never empty
)
def test_an_image_whose_polygons_have_fewer_than_three_corners_is_left_out(
    tmp_path: Path, make: Callable[[Path, Points], Path], points: Points
) -> None:
    path = make(tmp_path, points)
    found = targets(find_dataset(tmp_path))
    assert len(found) == (2 if make is thin_label_studio else 1)
    for target in found.values():
        np.testing.assert_array_equal(target, SQUARE_MAP)
    (warning,) = warnings_of(tmp_path)
    assert (warning.kind, warning.path) == ("no-area", path)
    assert "1 annotation without area (1 with fewer than three corners) on 1 image" in warning.problem
    assert "1 image has no other shape and is left out" in warning.problem
