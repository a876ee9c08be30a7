"""Saved results agree with label map and logits in every format, and can be read back."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import sys
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fullconv.files import write_text
from fullconv.geometry.tiles import Window
from fullconv.images import read_image, read_label_map, video, write_image
from fullconv.images.georeference import Georeference, read_georeference
from fullconv.images.polygons import find_regions, simplify_ring
from fullconv.images.video import read_frames
from fullconv.installation import pip_command
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.predict.areas_table import read_areas, write_areas
from fullconv.predict.inputs import expand_inputs, output_names
from fullconv.predict.outputs import (
    LABELME_PIXELS,
    SAVES,
    compute_areas,
    compute_probabilities,
    result_paths,
    to_geojson,
    to_labelme,
)
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.predict.result import segment
from fullconv.runtime.runner import largest
from geotiffs import hide
from refusals import refuses

UInt8 = npt.NDArray[np.uint8]
LABELS = LabelSet.named(["red", "green, or so", "blue"])


class StrongestChannel:
    """A runner whose class of a pixel is its largest channel, and which counts its calls."""

    info = ModelInfo(LABELS, (Window(0, 0), Window(0, 0)), exact=True)
    calls = 0

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        self.calls += 1
        return images.transpose(0, 3, 1, 2).astype(np.float32) / 32

    def label_maps(self, images: UInt8) -> UInt8:
        return largest(self.logits(images))


def image_of(label_map: UInt8) -> UInt8:
    """Return an image to which `StrongestChannel` gives this label map."""
    return (np.eye(3, dtype=np.uint8) * 200)[label_map]


@st.composite
def maps(draw: st.DrawFn, side: int = 12, top: int = 3) -> UInt8:
    height, width, seed = draw(st.integers(1, side)), draw(st.integers(1, side)), draw(st.integers(0, 2**32))
    values = draw(st.integers(1, top))
    return np.random.default_rng(seed).integers(0, values, (height, width), dtype=np.uint8)


def inside(rings: list[Any], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the pixels inside closed rings by the even-odd rule at their centres."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    odd = np.zeros(shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise(ring):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return odd


def fill(collection: dict[str, Any], georeference: Georeference | None = None) -> UInt8:
    """Return a label map from GeoJSON, 255 outside of all polygons. Assert that polygons do not overlap."""
    shape = collection["height"], collection["width"]
    result, times = np.full(shape, 255, np.uint8), np.zeros(shape, int)
    for feature in collection["features"]:
        rings = [np.asarray(ring) for ring in feature["geometry"]["coordinates"]]
        if georeference is not None:
            a, b, c, d, e, f = georeference.transform
            rings = [np.linalg.solve([[a, b], [d, e]], (ring - [c, f]).T).T for ring in rings]
        pixels = inside(rings, shape)
        assert pixels.sum() == feature["properties"]["pixels"]
        result[pixels] = feature["properties"]["class_id"]
        times += pixels
    assert times.max(initial=0) <= 1
    return result


@given(maps())
def test_filled_polygons_are_the_label_map(label_map: UInt8) -> None:
    collection = json.loads(json.dumps(to_geojson(label_map, LABELS, None)))
    assert np.array_equal(fill(collection), label_map)
    assert "top left" in collection["coordinates"]


@given(maps())
def test_polygons_are_valid_with_the_orientation_of_rfc_7946(label_map: UInt8) -> None:
    shapely = pytest.importorskip("shapely")
    for feature in to_geojson(label_map, LABELS, None)["features"]:
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.area == feature["properties"]["pixels"]
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)


def test_regions_are_4_connected_and_keep_holes_that_touch_their_border() -> None:
    label_map = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8)
    ring, hole, corner = find_regions(label_map)
    assert (ring.label, ring.pixels, len(ring.rings)) == (1, 7, 2)
    assert [(part.label, part.pixels, len(part.rings)) for part in (hole, corner)] == [(0, 1, 1), (0, 1, 1)]
    assert sorted(map(tuple, ring.rings[1].tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert ring.rings[0].tolist() == [[0, 0], [3, 0], [3, 2], [2, 2], [2, 3], [0, 3]]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_serpentine_is_one_region(turns: int) -> None:
    label_map = np.zeros((101, 60), np.uint8)
    label_map[::2] = label_map[1::4, -1] = label_map[3::4, 0] = 1
    pixels = [part.pixels for part in find_regions(np.rot90(label_map, turns).copy()) if part.label == 1]
    assert pixels == [51 * 60 + 50]


def test_ignored_pixels_have_no_polygon_and_no_area() -> None:
    label_map = np.array([[0, 255], [2, 255]], np.uint8)
    assert np.array_equal(fill(to_geojson(label_map, LABELS, None)), label_map)
    class_areas = compute_areas(np.bincount(label_map.ravel(), minlength=256), LABELS, None)
    assert [(area.pixels, area.share) for area in class_areas.values()] == [(1, 0.5), (0, 0), (1, 0.5)]


GEOREFERENCES = [
    Georeference("EPSG:32633", (0.5, 0, 400_000, 0, -0.5, 5_800_000), 0.25),
    Georeference("EPSG:4326", (1e-5, 2e-6, 13, 3e-6, 1e-5, 52), None),
]


@given(maps(), st.sampled_from(GEOREFERENCES))
def test_georeferenced_polygons_are_those_of_the_pixels(label_map: UInt8, georeference: Georeference) -> None:
    shapely = pytest.importorskip("shapely")
    collection = json.loads(json.dumps(to_geojson(label_map, LABELS, georeference)))
    assert np.array_equal(fill(collection, georeference), label_map)
    assert "coordinates" not in collection
    for feature in collection["features"]:
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.exterior.is_ccw
        if georeference.square_metres is not None:
            assert polygon.area == pytest.approx(feature["properties"]["square_metres"])


def write_geotiff(path: Path, rgb: UInt8, epsg: int, transform: tuple[float, ...]) -> None:
    rasterio = pytest.importorskip("rasterio")
    height, width = rgb.shape[:2]
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": height, "width": width}
    with rasterio.open(
        path, "w", **profile, crs=f"EPSG:{epsg}", transform=rasterio.Affine(*transform), photometric="RGB"
    ) as dataset:
        dataset.write(rgb.transpose(2, 0, 1))


FEET = 0.3048006096012192
"""A US survey foot in metres."""


@pytest.mark.parametrize(
    ("epsg", "pixel", "metres", "name"),
    [
        (32633, 0.2, 0.04, "urn:ogc:def:crs:EPSG::32633"),
        (2263, 2.0, 4 * FEET**2, "urn:ogc:def:crs:EPSG::2263"),
        (4326, 1e-5, None, "urn:ogc:def:crs:OGC:1.3:CRS84"),
    ],
)
def test_results_of_a_geotiff_have_its_reference_system_and_square_metres(
    tmp_path: Path, epsg: int, pixel: float, metres: float | None, name: str
) -> None:
    transform = (pixel, 0.0, 13.0, 0.0, -pixel, 52.0)
    label_map = np.array([[0, 0, 1], [2, 0, 1]], np.uint8)
    write_geotiff(tmp_path / "field.tif", image_of(label_map), epsg, transform)
    report = predict_files(
        StrongestChannel(), [tmp_path / "field.tif"], tmp_path / "out", PredictOptions(["polygons", "areas"])
    )
    assert report.failed == ()
    collection = json.loads((tmp_path / "out/polygons/field.geojson").read_text())
    assert collection["crs"]["properties"]["name"] == name
    assert np.array_equal(fill(collection, Georeference("", transform, None)), label_map)
    rows = read_areas(tmp_path / "out/areas.csv")
    squares = [float(row[4]) if row[4] else None for row in rows]
    assert squares == [None if metres is None else pytest.approx(count * metres) for count in (3, 2, 1)]


def test_files_without_a_georeference_have_none(tmp_path: Path) -> None:
    for suffix in ("png", "tif", "jpg"):
        write_image(tmp_path / f"a.{suffix}", np.zeros((2, 3, 3), np.uint8))
        assert read_georeference(tmp_path / f"a.{suffix}") is None


def test_areas_of_a_geotiff_without_rasterio_report_the_pip_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_geotiff(tmp_path / "a.tif", np.zeros((2, 3, 3), np.uint8), 32633, (1.0, 0.0, 0.0, 0.0, -1.0, 9.0))
    write_image(tmp_path / "b.tif", np.zeros((2, 3, 3), np.uint8))
    hide(monkeypatch, "rasterio")
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    report = predict_files(StrongestChannel(), paths, tmp_path / "out", PredictOptions(["areas"]))
    assert report.done == (paths[1],)
    assert pip_command("geo") in report.failed[0][1]
    assert predict_files(StrongestChannel(), paths, tmp_path / "out", PredictOptions(["labels"])).failed == ()


def paint(document: dict[str, Any]) -> UInt8:
    """Return a label map from the shapes of a labelme document, painted in their order."""
    shape = document["imageHeight"], document["imageWidth"]
    result = np.full(shape, 255, np.uint8)
    for part in document["shapes"]:
        pixels = inside([[*part["points"], part["points"][0]]], shape)
        result[pixels] = LABELS.class_names.index(part["label"])
    return result


@given(maps(top=2), st.integers(LABELME_PIXELS, 20))
def test_painted_labelme_shapes_are_the_label_map(coarse: UInt8, scale: int) -> None:
    """Simplification keeps all corners of rectangles on a coarse grid."""
    label_map = coarse.repeat(scale, 0).repeat(scale, 1)
    document = json.loads(json.dumps(to_labelme(label_map, LABELS, image_of(label_map), "../a.png")))
    assert np.array_equal(paint(document), label_map)


def test_labelme_skips_tiny_regions_and_simplifies_within_a_pixel() -> None:
    y, x = np.mgrid[:120, :160]
    label_map = ((x - 80) ** 2 + (y - 60) ** 2 < 45**2).astype(np.uint8)
    label_map[5:7, 5:8] = 2
    document = to_labelme(label_map, LABELS, image_of(label_map), "a.png")
    assert [part["label"] for part in document["shapes"]] == ["red", "green, or so"]
    assert len(document["shapes"][1]["points"]) < 60
    assert len(find_regions(label_map)[2].rings[0]) > 200
    differ = paint(document) != label_map
    differ[5:7, 5:8] = False
    distance = np.abs(np.hypot(x - 80, y - 60) - 45)
    assert distance[differ].max(initial=0) < 2.5


@given(maps(top=2), st.floats(0, 4))
def test_a_simplified_ring_stays_within_the_tolerance(label_map: UInt8, tolerance: float) -> None:
    for region in find_regions(label_map):
        for ring in region.rings:
            corners = simplify_ring(ring, tolerance).astype(float)
            assert len(corners) >= 3
            ends = np.roll(corners, -1, 0)
            for corner in ring:
                along, offset = ends - corners, corner - corners
                share = ((offset * along).sum(1) / (along**2).sum(1)).clip(0, 1)[:, None]
                nearest = np.linalg.norm(offset - share * along, axis=1).min()
                assert nearest <= tolerance + 1e-9 or len(corners) == len(ring)


def test_labelme_documents_contain_the_relative_path_or_the_image(tmp_path: Path) -> None:
    write_image(tmp_path / "in/photo.png", image_of(np.zeros((9, 9), np.uint8)))
    predict_files(StrongestChannel(), [tmp_path / "in/photo.png"], tmp_path / "out", PredictOptions(["labelme"]))
    document = json.loads((tmp_path / "out/labelme/photo.json").read_text())
    assert document["imageData"] is None
    assert not os.path.isabs(document["imagePath"])
    assert (tmp_path / "out/labelme" / document["imagePath"]).resolve() == (tmp_path / "in/photo.png").resolve()
    image = image_of(np.ones((9, 9), np.uint8))
    embedded = to_labelme(np.ones((9, 9), np.uint8), LABELS, image, None)["imageData"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(embedded)))), image)


def test_the_image_path_of_labelme_resolves_from_a_linked_output_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "in/photo.png", image_of(np.zeros((9, 9), np.uint8)))
    (tmp_path / "disk/deep/labels").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk/deep/labels", target_is_directory=True)
    predict_files(StrongestChannel(), [tmp_path / "in/photo.png"], tmp_path / "out", PredictOptions(["labelme"]))
    document = json.loads((tmp_path / "out/labelme/photo.json").read_text())
    assert (tmp_path / "out/labelme" / document["imagePath"]).samefile(tmp_path / "in/photo.png")


def test_saved_probabilities_are_the_softmax_with_class_names(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", image)
    runner = StrongestChannel()
    predict_files(runner, [tmp_path / "a.png"], tmp_path / "out", PredictOptions(["probabilities", "labels"]))
    assert runner.calls == 1
    with np.load(tmp_path / "out/probabilities/a.npz", allow_pickle=False) as file:
        assert tuple(file["class_names"]) == LABELS.class_names
        saved = file["probabilities"]
    powers = np.exp(image.transpose(2, 0, 1).astype(np.float64) / 32)
    assert saved.dtype == np.float16
    np.testing.assert_allclose(saved, powers / powers.sum(0), atol=5e-4)
    plain = StrongestChannel().label_maps(image[None])[0]
    assert np.array_equal(read_label_map(tmp_path / "out/a.png"), plain)
    huge = np.array([[[1e38]], [[-1e38]]], np.float32)
    assert compute_probabilities(huge).tolist() == [[[1]], [[0]]]


def test_the_table_of_areas_contains_every_image_and_class(tmp_path: Path) -> None:
    maps = {"a, b": np.zeros((2, 5), np.uint8), "c": np.array([[0, 1], [1, 1]], np.uint8)}
    for name, label_map in maps.items():
        write_image(tmp_path / f"{name}.png", image_of(label_map))
    paths = expand_inputs([str(tmp_path)])
    predict_files(StrongestChannel(), paths, tmp_path / "out", PredictOptions(["areas"]))
    with (tmp_path / "out/areas.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["class"], row["pixels"], row["share"]) for row in rows] == [
        (str(paths[0]), "red", "10", "1.000000"),
        (str(paths[0]), "green, or so", "0", "0.000000"),
        (str(paths[0]), "blue", "0", "0.000000"),
        (str(paths[1]), "red", "1", "0.250000"),
        (str(paths[1]), "green, or so", "3", "0.750000"),
        (str(paths[1]), "blue", "0", "0.000000"),
    ]
    write_areas(tmp_path / "again.csv", read_areas(tmp_path / "out/areas.csv"))
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "out/areas.csv").read_bytes()
    write_text(tmp_path / "other.csv", "name,value\n")
    with refuses("foreign-areas-table", "other.csv"):
        read_areas(tmp_path / "other.csv")


def test_a_second_run_keeps_areas_of_other_images_and_refuses_other_tables(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        write_image(path, image_of(np.zeros((2, 5), np.uint8)))
    predict_files(StrongestChannel(), paths[:2], tmp_path / "out", PredictOptions(["areas"]))
    predict_files(StrongestChannel(), paths[1:], tmp_path / "out", PredictOptions(["areas"]))
    rows = read_areas(tmp_path / "out/areas.csv")
    assert [row[0] for row in rows[::3]] == [str(path) for path in paths]
    with (tmp_path / "out/areas.csv").open("a") as file:
        file.write("\n")
    predict_files(StrongestChannel(), paths[2:], tmp_path / "out", PredictOptions(["areas"]))
    assert read_areas(tmp_path / "out/areas.csv") == rows, "a blank line is no row"
    write_text(tmp_path / "mine/areas.csv", "field,hectares\n")
    with refuses("foreign-areas-table", "areas.csv"):
        predict_files(StrongestChannel(), paths, tmp_path / "mine", PredictOptions(["areas", "labels"]))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["areas.csv"]


def test_an_interrupted_run_writes_the_areas_of_complete_images(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / f"{name}.png", image_of(np.zeros((2, 5), np.uint8)))

    def stop(path: Path, message: str | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(
            StrongestChannel(),
            sorted(tmp_path.glob("*.png")),
            tmp_path / "out",
            PredictOptions(["areas"], on_image=stop),
        )
    assert {row[0] for row in read_areas(tmp_path / "out/areas.csv")} == {str(tmp_path / "a.png")}


def test_files_of_all_kinds_differ(tmp_path: Path) -> None:
    write_image(tmp_path / "in/a.png", image_of(np.zeros((4, 4), np.uint8)))
    predict_files(StrongestChannel(), [tmp_path / "in/a.png"], tmp_path / "out", PredictOptions(SAVES))
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    names = ["a.png", "overlays/a.jpg", "probabilities/a.npz", "polygons/a.geojson", "labelme/a.json", "areas.csv"]
    assert written == set(names)
    suffixes = [path.suffix for path in result_paths(tmp_path, Path("a"), SAVES).values()]
    assert len(set(suffixes)) == len(suffixes) == len(SAVES) - 1


def test_results_never_replace_an_input(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", image_of(np.zeros((4, 4), np.uint8)))
    (tmp_path / "a.png").rename(tmp_path / "areas.csv")
    with refuses("overwrites-input", "areas.csv"):
        predict_files(StrongestChannel(), [tmp_path / "areas.csv"], tmp_path, PredictOptions(["areas"]))
    result = segment(StrongestChannel(), read_image(tmp_path / "areas.csv").pixels, "x", tmp_path / "x.png")
    with refuses("overwrites-input", "x.png"):
        result.save(tmp_path, ["labels"])
    result = segment(StrongestChannel(), read_image(tmp_path / "areas.csv").pixels, "x", tmp_path / "x.jpg")
    (tmp_path / "x.png").write_text("mine")
    with refuses("overwrites-file", "x.png"):
        result.save(tmp_path, ["labels"])


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_on_stdin_names_files_and_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    for name in ("x/b.png", "x/ä [1].png", "c.png"):
        write_image(tmp_path / name, image_of(np.zeros((1, 1), np.uint8)))
    names = [str(tmp_path / name) for name in ("c.png", "lost.png", "x", "c.png")]
    listed = separator.join([*names, ""]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    paths = expand_inputs(["-"])
    assert [path.name for path in paths] == ["c.png", "lost.png", "b.png", "ä [1].png"]
    report = predict_files(StrongestChannel(), paths, tmp_path / "out")
    assert [path.name for path, _ in report.failed] == ["lost.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with refuses("no-input", "standard input"):
        expand_inputs(["-"])


def test_a_line_of_stdin_that_is_no_name_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", image_of(np.zeros((1, 1), np.uint8)))
    listed = f"{'x' * 300}\n{tmp_path / 'a.png'}\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    report = predict_files(StrongestChannel(), expand_inputs(["-"]), tmp_path / "out")
    assert [path.name for path, _ in report.failed] == ["x" * 300]
    assert (tmp_path / "out").is_dir()


def write_video(path: Path, frames: list[UInt8], rotation: int = 0) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4" if path.suffix != ".webm" else "libvpx", rate=5)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        stream.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


QUARTERS = np.kron(np.array([[0, 1], [2, 2]], np.uint8), np.ones((32, 48), np.uint8))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mkv", ".webm"])
def test_a_video_gives_a_result_for_each_frame(tmp_path: Path, suffix: str) -> None:
    label_maps = [np.roll(QUARTERS, 16 * shift, 1) for shift in range(3)]
    write_video(tmp_path / f"clip{suffix}", [image_of(label_map) for label_map in label_maps])
    paths = expand_inputs([str(tmp_path / f"*{suffix}")])
    report = predict_files(StrongestChannel(), paths, tmp_path / "out", PredictOptions(SAVES))
    assert report.failed == ()
    for number, label_map in enumerate(label_maps, 1):
        predicted = read_label_map(tmp_path / f"out/clip/frame-{number:06d}.png")
        assert (predicted == label_map).mean() > 0.97
        assert json.loads((tmp_path / f"out/labelme/clip/frame-{number:06d}.json").read_text())["imageData"]
    images = {row[0] for row in read_areas(tmp_path / "out/areas.csv")}
    assert images == {str(paths[0] / f"frame-{number:06d}") for number in (1, 2, 3)}


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_video_frames_are_rotated_upright(tmp_path: Path, rotation: int) -> None:
    av = pytest.importorskip("av")
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV writes no rotation")
    write_video(tmp_path / "clip.mp4", [image_of(QUARTERS)], rotation)
    (frame,) = read_frames(tmp_path / "clip.mp4")
    found = StrongestChannel().label_maps(frame[None])[0]
    assert (found == np.rot90(QUARTERS, rotation // 90)).mean() > 0.95


def test_a_file_without_a_video_stream_raises_an_error(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with wave.open(str(tmp_path / "sound.mp4"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with refuses("not-a-video", tmp_path / "sound.mp4"):
        next(read_frames(tmp_path / "sound.mp4"))
    (tmp_path / "text.mp4").write_bytes(b"no video at all")
    with refuses("truncated-file", tmp_path / "text.mp4"):
        next(read_frames(tmp_path / "text.mp4"))


def test_videos_are_taken_when_they_are_named_only(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((1, 1, 3), np.uint8))
    (tmp_path / "b.MP4").touch()
    assert [path.name for path in expand_inputs([str(tmp_path)])] == ["a.png"]
    assert [path.name for path in expand_inputs([str(tmp_path / "*.MP4")])] == ["b.MP4"]
    assert [path.name for path in expand_inputs([str(tmp_path / "b.MP4")])] == ["b.MP4"]
    assert [path.name for path in expand_inputs([str(tmp_path / "*")])] == ["a.png"]


def test_names_of_frames_and_images_differ() -> None:
    names = output_names([Path("in/clip.mp4"), Path("in/clip/frame-000001.jpg")])
    assert names == [Path("clip.mp4"), Path("clip/frame-000001")]


def test_a_damaged_video_is_reported_and_other_images_are_processed(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_image(tmp_path / "a.png", image_of(np.zeros((2, 2), np.uint8)))
    (tmp_path / "b.mp4").write_bytes(b"no video at all")
    paths = [tmp_path / "b.mp4", tmp_path / "a.png"]
    report = predict_files(StrongestChannel(), paths, tmp_path / "out")
    assert report.done == (paths[1],)
    assert report.failed[0][1].startswith(f"{paths[0]}: ")
    assert "\n" not in report.failed[0][1]


def test_a_video_without_pyav_is_reported_before_the_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", image_of(np.zeros((2, 2), np.uint8)))
    (tmp_path / "b.mp4").touch()
    monkeypatch.setattr(video, "find_spec", lambda name: None)
    with refuses("missing-extra", "[video]"):
        predict_files(StrongestChannel(), [tmp_path / "a.png", tmp_path / "b.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
