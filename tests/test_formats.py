"""Data sets of annotation tools and benchmarks are read with the right labels, and all their faults are reported."""

from __future__ import annotations

import base64
import io
import pickle
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_sets import put_json
from fullconv.arrays import Mask, UInt8
from fullconv.data.annotations.rle import count_runs, pack_counts, rasterize_brush, rasterize_runs, read_counts
from fullconv.data.annotations.shapes import Patch, ellipse, fill_each, fill_rings, rectangle
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.data.published.ade20k import ade20k_labels
from fullconv.data.published.cityscapes import CITYSCAPES_LABELS
from fullconv.errors import DataError
from fullconv.faults import Fault
from refusals import refuses

SIZE = (6, 8)
SQUARE = [[1, 1], [5, 1], [5, 5], [1, 5]]
INNER = [[2, 2], [4, 2], [4, 4], [2, 4]]

BOTH = np.zeros(SIZE, np.uint8)
BOTH[1:5, 1:5] = 1
BOTH[2:4, 2:4] = 2
"""A square of class 1 with one of class 2 on top."""


def put_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def put_mask(path: Path, mask: UInt8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def targets(dataset: DataSet, split: str = "train") -> list[UInt8]:
    """Return the targets of samples after a pickle, as data loaders send them to other processes."""
    samples = pickle.loads(pickle.dumps(dataset.split(split)))
    return [dataset.read(sample)[1] for sample in samples]


def faults_of(root: Path) -> tuple[Fault, ...]:
    with pytest.raises(DataError) as caught:
        find_dataset(root)
    assert all(fault.path.is_relative_to(root) for fault in caught.value.faults)
    return caught.value.faults


def kinds_of(root: Path) -> list[tuple[str, str]]:
    """Return kind and file name of each fault."""
    return [(fault.kind, fault.path.name) for fault in faults_of(root)]


def whole(patch: Patch, size: tuple[int, int]) -> Mask:
    mask = np.zeros(size, bool)
    mask[patch.slices] = patch.mask
    return mask


# Polygons


def side_of(x: Fraction, y: Fraction, rings: list[list[tuple[Fraction, Fraction]]]) -> bool | None:
    """Return whether a point is inside by the even-odd rule, in exact arithmetic; None on an edge."""
    odd = False
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise([*ring, ring[0]]):
            cross = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
            if cross == 0 and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
                return None
            if (y0 > y) != (y1 > y):
                odd ^= x > x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return odd


corners = st.tuples(st.integers(-12, 60), st.integers(-12, 60))
rings = st.lists(st.lists(corners, min_size=3, max_size=7), min_size=1, max_size=3)


@given(rings, st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 7]))
def test_a_pixel_is_in_a_polygon_if_its_centre_is(
    drawn: list[list[tuple[int, int]]], height: int, width: int, unit: int
) -> None:
    """Corners are multiples of 1/4, 1/12 and 1/28 pixels; some are outside of the image."""
    exact = [[(Fraction(x, 4 * unit), Fraction(y, 4 * unit)) for x, y in ring] for ring in drawn]
    size = height, width
    mask = whole(fill_rings(tuple(np.array(ring) / (4 * unit) for ring in drawn), size), size)
    half = Fraction(1, 2)
    for y in range(height):
        for x in range(width):
            expected = side_of(x + half, y + half, exact)
            assert expected is None or mask[y, x] == expected


@given(st.lists(st.tuples(st.floats(-2, 9), st.floats(-2, 9)), min_size=2, max_size=4))
def test_polygons_that_share_edges_share_no_pixel_and_leave_none_out(border: list[tuple[float, float]]) -> None:
    """A line from top to bottom that does not cross itself cuts the image in two."""
    line = [(x, y) for y, (x, _) in zip(sorted(y for _, y in border), border, strict=True)]
    left = np.array([(-20, -20), *[(line[0][0], -20)], *line, (line[-1][0], 20), (-20, 20)])
    right = np.array([(30, 20), *[(line[-1][0], 20)], *line[::-1], (line[0][0], -20), (30, -20)])
    both = [whole(fill_rings((part,), (7, 8)), (7, 8)) for part in (left, right)]
    assert np.all(both[0] ^ both[1])


def test_polygons_filled_in_parts_equal_those_filled_at_once() -> None:
    ring = np.random.default_rng(0).uniform(-10, 110, (50, 2))
    expected = fill_rings((ring,), (100, 90))
    np.testing.assert_array_equal(fill_rings((ring,), (100, 90), crossings=100).mask, expected.mask)


def test_polygons_outside_cover_nothing_and_parts_of_one_object_are_united() -> None:
    outside = np.array([(20.0, 1.0), (30.0, 1.0), (25.0, 5.0)])
    assert not fill_rings((outside,), SIZE).mask.any()
    huge = np.array([(-1e308, -1e308), (1e308, -1e308), (1e308, 1e308), (-1e308, 1e308)])
    assert whole(fill_rings((huge,), SIZE), SIZE).all()
    square = np.array(SQUARE, float)
    assert whole(fill_each((square, square + 2, outside), SIZE), SIZE).sum() == 16 + 12 - 4
    assert whole(fill_rings((square, np.array(INNER, float)), SIZE), SIZE).sum() == 16 - 4


def test_ellipses_and_turned_rectangles_have_the_right_pixels() -> None:
    y, x = np.mgrid[:60, :80] + 0.5
    mask = whole(fill_rings((ellipse(40, 30, 30, 12, 30),), (60, 80)), (60, 80))
    angle = np.pi / 6
    along, across = (
        (x - 40) * np.cos(angle) + (y - 30) * np.sin(angle),
        (y - 30) * np.cos(angle) - (x - 40) * np.sin(angle),
    )
    np.testing.assert_array_equal(mask, (along / 30) ** 2 + (across / 12) ** 2 < 1)
    np.testing.assert_allclose(rectangle(2, 3, 4, 1, 90), [(2, 3), (2, 7), (1, 7), (1, 3)], atol=1e-12)


# Run lengths


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    height, width, seed = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.integers(0, 2**32))
    return np.random.default_rng(seed).random((height, width)) < draw(st.sampled_from([0, 0.02, 0.5, 0.98, 1]))


@given(masks())
def test_runs_give_the_mask_again_plain_and_compressed(mask: Mask) -> None:
    counts = count_runs(mask)
    assert counts.sum() == mask.size
    assert np.all(counts[1:] > 0)
    np.testing.assert_array_equal(rasterize_runs(counts, mask.shape).mask, mask)
    np.testing.assert_array_equal(read_counts(pack_counts(counts), mask.shape), counts)
    np.testing.assert_array_equal(read_counts(counts.tolist(), mask.shape), counts)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([6], "6"),  # 6 + 48 is "6"
        ([0, 6], "06"),
        ([15, 16], "?`0"),  # 16 has the sign's bit, so a digit of 0 follows: 16 + 32 + 48 is "`"
        ([1, 2, 3, 1, 1], "123ON"),  # 1 - 2 is -1: all five bits, 31 + 48; 1 - 3 is -2: 30 + 48
        ([100, 1000], "T3Xo0"),  # 4 + 32 + 48, 3 + 48; 8 + 32 + 48, 31 + 32 + 48, 0 + 48
    ],
)
def test_compressed_runs_equal_examples_computed_by_hand(counts: list[int], text: str) -> None:
    assert pack_counts(np.array(counts)) == text
    np.testing.assert_array_equal(read_counts(text, (1, sum(counts))), counts)


def test_runs_go_down_the_columns() -> None:
    np.testing.assert_array_equal(
        rasterize_runs(np.array([2, 3, 1]), (2, 3)).mask, [[False, True, True], [False, True, False]]
    )


@pytest.mark.parametrize("counts", ["", "é", "P", "66", [5], [-1, 49], [], "PPPPPPPPPPPP0"])
def test_damaged_runs_are_refused(counts: str | list[int]) -> None:
    with refuses("damaged-shape"):
        read_counts(counts, SIZE)


def brushed(mask: Mask, widths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """Return a mask as Label Studio writes it: RGBA values as a stream of bits, packed by the rules of rle-pack."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4).tolist()
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    start = 0
    while start < len(values):
        end = start
        while end < len(values) and values[end] == values[start] and end - start < 2 ** widths[-1]:
            end += 1
        length = end - start
        index = next(number for number, width in enumerate(widths) if length <= 2**width)
        literal = length % 3 == 0 and length < 20
        bits += f"{0 if literal else 1}{index:02b}{length - 1:0{widths[index]}b}"
        bits += f"{values[start]:08b}" * (length if literal else 1)
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[position : position + 8], 2) for position in range(0, len(bits), 8)]


@given(masks(), st.sampled_from([(3, 4, 8, 16), (1, 2, 3, 4)]))
def test_brush_masks_are_read_exactly_and_damaged_ones_are_refused(mask: Mask, widths: tuple[int, ...]) -> None:
    data = bytes(brushed(mask, widths))
    np.testing.assert_array_equal(rasterize_brush(data, mask.shape).mask, mask)
    with refuses("truncated-file"):
        rasterize_brush(data[:-2], mask.shape)
    with refuses("damaged-shape", mask.shape[0] + 1):
        rasterize_brush(data, (mask.shape[0] + 1, mask.shape[1]))


# labelme


def labelme_shape(label: str, points: list[list[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None, **more}


def put_labelme(path: Path, drawn: list[dict[str, Any]], **more: Any) -> None:
    values = {"version": "5.5.0", "shapes": drawn, "imagePath": f"{path.stem}.png", "imageData": None}
    put_json(path, {**values, "imageHeight": SIZE[0], "imageWidth": SIZE[1], **more})
    put_image(path.with_suffix(".png"))


def test_labelme_files_next_to_images_are_divided_by_a_hash(tmp_path: Path) -> None:
    for stem in "abcd":
        put_labelme(tmp_path / f"{stem}.json", [labelme_shape("cat", SQUARE), labelme_shape("dog", INNER)])
    put_image(tmp_path / "not_done.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("labelme", ("background", "cat", "dog"))
    assert sorted(sample.name for samples in dataset.splits.values() for sample in samples) == list("abcd")
    assert dataset.split("val")
    assert "no shape covers are background" in dataset.about
    assert "by a hash" in dataset.inferences[-1]
    np.testing.assert_array_equal(targets(dataset)[0], BOTH)


def test_labelme_shapes_of_all_types_are_painted_in_file_order(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).convert("1").save(buffer, "PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    put_labelme(
        tmp_path / "train" / "a.json",
        [
            labelme_shape("dog", INNER),
            labelme_shape("cat", [[5, 5], [1, 1]], "rectangle"),
            labelme_shape("__ignore__", [[6.5, 2.5], [6.5, 4]], "circle"),
            labelme_shape("dog", [[3, 4], [4, 5]], "mask", mask=mask),
        ],
    )
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("_background_", "dog", "cat")
    expected = np.zeros(SIZE, np.uint8)
    expected[1:5, 1:5] = 2
    expected[1:4, 5:8] = 255
    expected[4, 3] = expected[5, 3] = expected[5, 4] = 1
    np.testing.assert_array_equal(targets(dataset)[0], expected)


def test_uncovered_pixels_are_ignored_if_labels_txt_has_ignore_but_no_background(tmp_path: Path) -> None:
    put_labelme(tmp_path / "train" / "a.json", [labelme_shape("dog", SQUARE)])
    (tmp_path / "labels.txt").write_text("__ignore__\ncat\ndog\n")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("cat", "dog")
    np.testing.assert_array_equal(targets(dataset)[0], np.where(BOTH == 0, 255, 1))
    assert "no shape covers are ignored" in dataset.about
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    assert find_dataset(tmp_path).labels.class_names == ("background", "cat", "dog")


def test_all_faults_of_labelme_files_are_reported_at_once(tmp_path: Path) -> None:
    good = [labelme_shape("dog", SQUARE)]
    put_labelme(tmp_path / "a.json", good)
    put_labelme(tmp_path / "b.json", [labelme_shape("dog", [[1, 1], [2, 2]], "cube"), *good])
    put_labelme(tmp_path / "c.json", good, imageWidth=9)
    put_labelme(tmp_path / "d.json", [*good, labelme_shape("cow", SQUARE)])
    put_labelme(tmp_path / "e.json", good)
    (tmp_path / "e.png").unlink()
    (tmp_path / "f.json").write_text('{"shapes": [')
    for name in ("g", "g2"):  # a single one would be skipped
        put_json(tmp_path / f"{name}.json", {"shapes": [{"label": "dog"}], "imagePath": "a.png"})
    put_labelme(tmp_path / "h.json", 2 * [labelme_shape("dog", [[1, 1], [2, 2]], "mask", mask="!")])
    put_labelme(tmp_path / "i.json", good, imagePath="a.png")
    (tmp_path / "i.png").unlink()
    (tmp_path / "labels.txt").write_text("dog\n")
    expected = [
        ("unsupported-shape", "b.json"),
        ("missing-image", "e.json"),
        ("invalid-annotations", "f.json"),
        ("damaged-shape", "h.json"),
        ("damaged-shape", "h.json"),
        ("invalid-annotations", "g.json"),
        ("invalid-annotations", "g2.json"),
        ("size-mismatch", "c.json"),
        ("unknown-class", "d.json"),
        ("duplicate-image", "i.json"),
    ]
    assert kinds_of(tmp_path) == expected


def test_reading_a_damaged_mask_of_labelme_names_file_and_sample(tmp_path: Path) -> None:
    mask = base64.b64encode(b"\x89PNG no").decode()
    put_labelme(tmp_path / "train" / "a.json", [labelme_shape("dog", [[1, 1], [2, 2]], "mask", mask=mask)])
    with pytest.raises(DataError) as caught:
        targets(find_dataset(tmp_path))
    (fault,) = caught.value.faults
    assert (fault.kind, fault.path, fault.sample) == ("damaged-shape", tmp_path / "train" / "a.json", "a")


# COCO


def coco(
    annotations: list[dict[str, Any]], names: tuple[str, ...] = ("cat", "dog"), count: int = 1, **more: Any
) -> dict[str, Any]:
    sides = {"height": SIZE[0], "width": SIZE[1]}
    return {
        "images": [{"id": number, "file_name": f"{number}.png", **sides} for number in range(count)],
        "categories": [{"id": 10 * (number + 1), "name": name} for number, name in enumerate(names)],
        "annotations": [{"id": number, "image_id": 0, "iscrowd": 0, **one} for number, one in enumerate(annotations)],
        **more,
    }


def flat(points: list[list[int]]) -> list[int]:
    return [value for point in points for value in point]


def runs(mask: Mask, packed: bool) -> dict[str, Any]:
    counts = count_runs(mask)
    return {"size": list(mask.shape), "counts": pack_counts(counts) if packed else counts.tolist()}


ON_TOP = [
    {"category_id": 20, "segmentation": [flat(INNER)]},
    {"category_id": 10, "segmentation": [flat(SQUARE)]},
]


@pytest.mark.parametrize("packed", [None, True, False])
def test_coco_annotations_of_fewer_pixels_are_painted_over_those_of_more(tmp_path: Path, packed: bool | None) -> None:
    annotations = [dict(one) for one in ON_TOP]
    if packed is not None:
        annotations[0] |= {"segmentation": runs(BOTH == 2, packed), "iscrowd": 1}
        annotations[1] |= {"segmentation": runs(BOTH > 0, packed)}
    put_json(tmp_path / "annotations" / "instances_train2017.json", coco(annotations))
    put_json(tmp_path / "annotations" / "person_keypoints_train2017.json", coco(annotations))
    put_json(tmp_path / "annotations" / "instances_val2017.json", coco([], count=1))
    for split in ("train2017", "val2017"):
        put_image(tmp_path / split / "0.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("coco", ("background", "cat", "dog"))
    np.testing.assert_array_equal(targets(dataset)[0], BOTH)
    assert not targets(dataset, "val")[0].any()


def test_coco_is_read_as_web_tools_export_it(tmp_path: Path) -> None:
    """Category 0 only groups others, the images are next to the file, and a folder is called `valid`."""
    values = coco([{"category_id": 1, "segmentation": [flat(SQUARE), flat([[6, 0], [8, 0], [8, 2], [6, 2]])]}])
    values["categories"] = [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animals"},
    ]
    for folder in ("train", "valid"):
        put_json(tmp_path / folder / "_annotations.coco.json", values)
        put_image(tmp_path / folder / "0.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.labels.class_names, set(dataset.splits)) == (("background", "cat"), {"train", "val"})
    expected = (BOTH > 0).astype(np.uint8)
    expected[:2, 6:] = 1
    np.testing.assert_array_equal(targets(dataset, "val")[0], expected)


def test_one_coco_file_without_a_split_is_divided_by_a_hash(tmp_path: Path) -> None:
    put_json(tmp_path / "annotations" / "instances_default.json", coco(ON_TOP, ("background", "cat"), count=5))
    for number in range(5):
        put_image(tmp_path / "images" / "sub" / ".." / f"{number}.png")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "cat")
    assert sum(len(dataset.split(split)) for split in ("train", "val")) == 5


def test_all_faults_of_coco_are_reported_at_once(tmp_path: Path) -> None:
    values = coco(
        [
            *ON_TOP,
            {"category_id": 30, "segmentation": [flat(INNER)]},
            {"category_id": 10, "image_id": 77, "segmentation": [flat(INNER)]},
            {"category_id": 10, "segmentation": [[1, 2, 3, 4, 5]]},
            {"category_id": 10, "segmentation": {"size": list(SIZE), "counts": [1, 2]}},
            {"category_id": 10, "segmentation": {"size": [3, 3], "counts": [9]}},
        ],
        count=4,
    )
    values["images"][2]["width"] = 9
    values["images"][3]["file_name"] = "0.png"
    put_json(tmp_path / "annotations" / "train.json", values)
    put_json(tmp_path / "annotations" / "val.json", {"images": [], "annotations": [{}], "categories": [{"id": 1}]})
    for number in (0, 2):
        put_image(tmp_path / "images" / f"{number}.png")
    expected = [
        *[("invalid-annotations", "val.json")] * 3,
        ("unknown-class", "train.json"),
        ("unknown-image", "train.json"),
        *[("damaged-shape", "train.json")] * 3,
        ("missing-image", "train.json"),
        ("size-mismatch", "train.json"),
        ("duplicate-image", "train.json"),
    ]
    assert kinds_of(tmp_path) == expected
    shown = [re.match(r"annotation \d+", fault.problem) for fault in faults_of(tmp_path)[3:8]]
    assert [match and match[0] for match in shown] == [f"annotation {number}" for number in (2, 3, 4, 5, 6)]


def test_contradictions_between_coco_files_are_faults(tmp_path: Path) -> None:
    put_image(tmp_path / "images" / "0.png")
    put_json(tmp_path / "annotations" / "train.json", coco(ON_TOP))
    put_json(tmp_path / "annotations" / "val.json", coco([], ("dog", "cat"), count=0))
    assert kinds_of(tmp_path)[0] == ("class-mismatch", "val.json")
    put_json(tmp_path / "annotations" / "val.json", coco([], count=0))
    put_json(tmp_path / "annotations" / "my_train.json", coco([]))
    assert kinds_of(tmp_path)[0] == ("ambiguous-split", "annotations")


def test_a_truncated_coco_file_is_a_fault_and_a_file_of_captions_is_not_read(tmp_path: Path) -> None:
    put_image(tmp_path / "images" / "0.png")
    put_json(tmp_path / "annotations" / "instances_val.json", coco(ON_TOP))
    put_json(tmp_path / "annotations" / "captions_val.json", {"images": [], "annotations": [{"caption": "a cat"}]})
    assert set(find_dataset(tmp_path).splits) == {"val"}
    (tmp_path / "annotations" / "instances_train.json").write_text('{"images": [{"id": 0, "file_')
    assert kinds_of(tmp_path) == [("invalid-annotations", "instances_train.json")]


# Datumaro


def test_datumaro_paints_by_z_order_and_reports_faults(tmp_path: Path) -> None:
    labels = {"label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in ("cat", "dog")]}}
    annotations = [
        {"type": "mask", "label_id": 1, "z_order": 1, "group": 3, "rle": runs(BOTH == 2, True)},
        {"type": "bbox", "label_id": 1, "z_order": 2, "group": 3, "bbox": [0, 0, 8, 6]},
        {"type": "polygon", "label_id": 0, "z_order": 0, "group": 0, "points": flat(SQUARE)},
        {"type": "caption", "caption": "two animals"},
    ]
    item = {"id": "a", "annotations": annotations, "image": {"path": "a.png", "size": list(SIZE)}}
    empty = {"id": "b", "annotations": []}
    for subset, items in (("train", [item]), ("val", [empty])):
        put_json(tmp_path / "annotations" / f"{subset}.json", {"info": {}, "categories": labels, "items": items})
        put_image(tmp_path / "images" / subset / f"{items[0]['id']}.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("datumaro", ("background", "cat", "dog"))
    np.testing.assert_array_equal(targets(dataset)[0], BOTH)
    assert not targets(dataset, "val")[0].any()
    annotations[1] |= {"group": 0, "type": "depth_annotation"}
    annotations.append({"type": "polygon", "label_id": 5, "points": flat(SQUARE)})
    absent = {"id": "gone", "annotations": []}
    put_json(tmp_path / "annotations" / "train.json", {"categories": labels, "items": [item, absent]})
    faults = [(fault.kind, fault.sample) for fault in faults_of(tmp_path)]
    assert sorted(faults[:2]) == [("unknown-class", "a"), ("unsupported-shape", "a")]
    assert faults[2:] == [("missing-image", "gone")]


# Label Studio


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    sides = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    return {"type": kind, "value": {**value, kind: [label]}, **sides}


def percent(points: list[list[int]]) -> list[list[float]]:
    return [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in points]


def task(number: int, image: str, *results: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "data": {"image": image}, "annotations": [{"result": list(results), "was_cancelled": False}]}


def test_label_studio_finds_images_by_reference_and_paints_regions_in_order(tmp_path: Path) -> None:
    polygon = region("polygonlabels", "cat", points=percent(SQUARE))
    brush = region("brushlabels", "dog", format="rle", rle=brushed(BOTH == 2))
    box = region("rectanglelabels", "cat", x=12.5, y=100 / 6, width=50, height=400 / 6, rotation=0)
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    tasks = [
        task(1, "/data/upload/3/0a1b2c3d-one.png", polygon, brush, choice),
        task(2, "/data/local-files/?d=some/where/two%20words.png", box, brush),
        task(3, "s3://bucket/deep/same.png", polygon),
        task(4, "https://host/deep/0a1b2c3d-four.png?token=1", polygon),
        task(5, "/data/upload/3/five.png"),
    ]
    tasks[0]["annotations"] = [tasks[0]["annotations"][0] | {"ground_truth": True}, {"result": [], "id": 9}]
    tasks[4]["annotations"] = [{"result": [polygon], "was_cancelled": True}]
    put_json(tmp_path / "project-1-at-2024.json", tasks)
    for name in ("one", "two words", "deep/same", "other/same", "upload/0a1b2c3d-four"):
        put_image(tmp_path / "images" / f"{name}.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("label_studio", ("background", "cat", "dog"))
    assert "1 task(s) without an annotation are left out" in dataset.about
    samples = {sample.name: sample for split in dataset.splits.values() for sample in split}
    assert set(samples) == {"one", "two words", "same", "0a1b2c3d-four"}
    assert samples["same"].image.parent.name == "deep"
    for name in ("one", "two words"):
        np.testing.assert_array_equal(dataset.read(samples[name])[1], BOTH)


def test_all_faults_of_label_studio_are_reported_at_once(tmp_path: Path) -> None:
    polygon = region("polygonlabels", "cat", points=percent(SQUARE))
    two = region("polygonlabels", "cat", points=percent(SQUARE))
    two["value"]["polygonlabels"].append("dog")
    tasks = [
        task(1, "one.png", polygon, region("cuboidlabels", "x", x=1, y=2), region("timelabels", "y")),
        task(2, "gone.png", polygon),
        task(3, "same.png", polygon),
        task(4, "four.png", two),
        {"id": 5, "data": {"text": "hello"}, "annotations": [{"result": []}]},
    ]
    put_json(tmp_path / "export.json", tasks)
    for name in ("one", "a/same", "b/same", "four"):
        put_image(tmp_path / f"{name}.png")
    assert [(fault.kind, fault.problem.split(":")[0]) for fault in faults_of(tmp_path)] == [
        ("unsupported-shape", "task 1"),
        ("unsupported-shape", "task 1"),
        ("missing-image", "task 2"),
        ("ambiguous-image", "task 3"),
        ("unknown-class", "task 4"),
        ("missing-image", "task 5 names no image"),
    ]


# Masks


def put_cvat(root: Path, names: tuple[str, ...], listed: dict[str, tuple[str, ...]]) -> None:
    colors = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], np.uint8)
    for name in names:
        put_image(root / "JPEGImages" / f"{name}.png")
        put_mask(root / "SegmentationClass" / f"{name}.png", colors[BOTH])
    for split, members in listed.items():
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in members))
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\ndog: big:51,221,255::\n"
    )


def test_cvat_segmentation_masks_are_read_by_colours_and_lists(tmp_path: Path) -> None:
    put_cvat(tmp_path, ("a", "b", "sub/c"), {"default": ("a", "b", "sub/c")})
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("cvat", ("background", "cat", "dog: big"))
    assert dataset.labels.palette[1] == (250, 50, 83)
    assert sum(len(dataset.split(split)) for split in ("train", "val")) == 3
    np.testing.assert_array_equal(targets(dataset)[0], BOTH)
    put_cvat(tmp_path, ("a", "b"), {"Train": ("a", "b"), "Validation": ("sub/c",), "trainval": ("a", "sub/c")})
    assert {split: len(samples) for split, samples in find_dataset(tmp_path).splits.items()} == {"train": 2, "val": 1}


def test_cvat_lists_and_linked_folders_in_two_unicode_forms(tmp_path: Path) -> None:
    put_cvat(tmp_path / "data", ("a", "sub/gro\u0308sse"), {"train": ("a", "sub/gr\u00f6sse")})
    (tmp_path / "data" / "JPEGImages" / "sub").rename(tmp_path / "disk")
    (tmp_path / "data" / "JPEGImages" / "sub").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert sum(map(len, find_dataset(tmp_path / "data").splits.values())) == 2


def test_palette_masks_of_cvat_are_read_by_their_colours(tmp_path: Path) -> None:
    put_cvat(tmp_path, ("a",), {"train": ("a",)})
    mask = Image.fromarray(np.array([2, 0, 1], np.uint8)[BOTH])
    mask.putpalette([250, 50, 83, 51, 221, 255, 0, 0, 0])
    mask.save(tmp_path / "SegmentationClass" / "a.png")
    np.testing.assert_array_equal(targets(find_dataset(tmp_path))[0], BOTH)
    mask.putpalette([0, 0, 0, 250, 50, 83, 51, 221, 255])
    mask.save(tmp_path / "SegmentationClass" / "a.png")
    np.testing.assert_array_equal(targets(find_dataset(tmp_path))[0], np.array([2, 0, 1], np.uint8)[BOTH])


def test_faults_of_cvat_name_file_and_sample(tmp_path: Path) -> None:
    put_cvat(tmp_path, ("a",), {"train": ("a", "gone")})
    assert [(fault.kind, fault.sample) for fault in faults_of(tmp_path)] == [("listed-absent", "gone")]
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    put_mask(tmp_path / "SegmentationClass" / "a.png", np.full((*SIZE, 3), 7, np.uint8))
    with pytest.raises(DataError) as caught:
        targets(find_dataset(tmp_path))
    assert [(fault.kind, fault.path.name) for fault in caught.value.faults] == [("unknown-colour", "a.png")]
    (tmp_path / "labelmap.txt").write_text("a:0,0,0::\nb:0,0,300::\nc:0,0,0::\n")
    out_of_range, repeated = faults_of(tmp_path)
    assert {out_of_range.kind, repeated.kind} == {"class-names"}
    assert ("line 2 " in out_of_range.problem, "line 3 " in repeated.problem) == (True, True)


def test_voc_with_custom_classes_is_read(tmp_path: Path) -> None:
    put_image(tmp_path / "JPEGImages" / "a.jpg")
    put_mask(tmp_path / "SegmentationClass" / "a.png", BOTH)
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    (tmp_path / "classes.txt").write_text("ground\nroof\npond\n")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("voc", ("ground", "roof", "pond"))
    np.testing.assert_array_equal(targets(dataset)[0], BOTH)


def test_masks_in_colours_are_read_in_the_folder_layout(tmp_path: Path) -> None:
    put_image(tmp_path / "images" / "train" / "a.png")
    colors = np.array([(0, 0, 0), (1, 2, 3), (255, 255, 255)], np.uint8)
    put_mask(tmp_path / "masks" / "train" / "a.png", colors[BOTH])
    (tmp_path / "dataset.yaml").write_text("names: [a, b]\npalette: [[0, 0, 0], '#010203']\n")
    np.testing.assert_array_equal(targets(find_dataset(tmp_path))[0], np.where(BOTH == 2, 255, BOTH))


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes_labels_become_train_ids(tmp_path: Path, kind: str) -> None:
    stored = np.resize(np.array([7, 8, 33, 0, 31, 29], np.uint8), SIZE)
    if kind == "labelTrainIds":
        stored = np.resize(np.array([0, 1, 18, 255, 16, 255], np.uint8), SIZE)
    for split, city in (("train", "aachen"), ("val", "lindau")):
        name = f"{city}_000000_000019"
        put_image(tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        put_mask(tmp_path / "gtFine" / split / city / f"{name}_gtFine_{kind}.png", stored)
    dataset = find_dataset(tmp_path)
    assert (dataset.labels, dataset.split("val")[0].name) == (CITYSCAPES_LABELS, "lindau_000000_000019")
    expected = np.resize(np.array([0, 1, 18, 255, 16, 255], np.uint8), SIZE)
    np.testing.assert_array_equal(targets(dataset)[0], expected)
    (tmp_path / "gtFine" / "val" / "lindau" / f"lindau_000000_000019_gtFine_{kind}.png").unlink()
    (fault, *_) = faults_of(tmp_path)
    assert (fault.kind, fault.split, fault.sample) == ("missing-mask", "val", "lindau_000000_000019")


def test_ade20k_ignores_label_0_and_shifts_the_others(tmp_path: Path) -> None:
    for folder in ("training", "validation"):
        put_image(tmp_path / "images" / folder / "a.jpg")
        put_mask(tmp_path / "annotations" / folder / "a.png", np.resize(np.array([0, 1, 150], np.uint8), SIZE))
    dataset = find_dataset(tmp_path)
    names = dataset.labels.class_names
    assert (len(names), names[0], names[12], names[149]) == (150, "wall", "person", "flag")
    assert dataset.labels == ade20k_labels()
    np.testing.assert_array_equal(targets(dataset, "val")[0], np.resize(np.array([255, 0, 149], np.uint8), SIZE))
    put_mask(tmp_path / "annotations" / "validation" / "a.png", np.full(SIZE, 151, np.uint8))
    with pytest.raises(DataError) as caught:
        targets(dataset, "val")
    assert caught.value.code == "unknown-label"


def test_json_without_annotations_is_not_a_data_set(tmp_path: Path) -> None:
    put_json(tmp_path / "scores.json", {"mean_iou": 0.5})
    with pytest.raises(DataError) as caught:
        find_dataset(tmp_path)
    assert caught.value.code == "unknown-layout"
