"""Small sound files and data sets, which fuzz_data.py changes."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

SIZE = (12, 16)
SQUARE = [(2, 2), (9, 2), (9, 7), (2, 7)]
FLAT = [float(value) for corner in SQUARE for value in corner]
STEMS = ("a", "b", "c")


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)


def ids() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[2:7, 2:9] = 1
    return mask


def images(folder: Path, suffix: str = ".png") -> list[str]:
    """Write the images and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, stem in enumerate(STEMS):
        Image.fromarray(picture(number)).save(folder / f"{stem}{suffix}")
    return [f"{stem}{suffix}" for stem in STEMS]


def put(path: Path, content: str | bytes | dict[str, Any] | list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, (dict, list)):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def png_text(mask: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask * 255).save(file, "PNG")
    return file.getvalue()


def saved(suffix: str, **options: Any) -> Callable[[Path], list[Path]]:
    def make(root: Path) -> list[Path]:
        paths = [root / f"rgb{suffix}", root / f"ids{suffix}"]
        Image.fromarray(picture()).save(paths[0], **options)
        Image.fromarray(ids()).save(paths[1], **options)
        return paths

    return make


def tiffs(root: Path) -> list[Path]:
    paths = []
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        paths += [root / f"{compression}.tif"]
        Image.fromarray(picture()).save(paths[-1], compression=compression)
    Image.fromarray(ids().astype(np.uint16)).save(root / "deep.tif")
    return [*paths, root / "deep.tif"]


def geotiff(root: Path) -> list[Path]:
    tags = ImageFileDirectory_v2()
    tags[33550] = (0.5, 0.5, 0.0)
    tags.tagtype[33550] = 12
    tags[33922] = (0.0, 0.0, 0.0, 400000.0, 5500000.0, 0.0)
    tags.tagtype[33922] = 12
    tags[34735] = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
    tags.tagtype[34735] = 3
    tags[42113] = "0"
    Image.fromarray(picture()).save(root / "geo.tif", tiffinfo=tags)
    return [root / "geo.tif"]


def npy(root: Path) -> list[Path]:
    np.save(root / "a.npy", picture())
    np.save(root / "b.npy", ids().astype(np.float32))
    return [root / "a.npy", root / "b.npy"]


def npz(root: Path) -> list[Path]:
    np.savez_compressed(root / "a.npz", mask=ids())
    np.savez(root / "b.npz", mask=ids(), other=np.arange(3))
    return [root / "a.npz", root / "b.npz"]


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(name: bytes, values: np.ndarray, code: int = 9) -> bytes:
    shape = struct.pack(f"<{values.ndim}i", *values.shape)
    parts = element(6, struct.pack("<II", code, 0)), element(5, shape), element(1, name)
    return element(14, b"".join(parts) + element(2, values.tobytes(order="F")))


def mat(root: Path) -> list[Path]:
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    plain = matrix(b"mask", ids())
    packed = zlib.compress(plain)
    fields = element(5, struct.pack("<i", 32)) + element(1, b"Segmentation".ljust(32, b"\0"))
    parts = element(6, struct.pack("<II", 2, 0)), element(5, struct.pack("<2i", 1, 1)), element(1, b"GTcls"), fields
    sbd = element(14, b"".join(parts) + matrix(b"", ids()))
    return [
        put(root / "plain.mat", head + plain),
        put(root / "packed.mat", head + struct.pack("<II", 15, len(packed)) + packed),
        put(root / "sbd.mat", head + sbd),
    ]


def others(root: Path) -> list[Path]:
    paths = [root / f"a{suffix}" for suffix in (".bmp", ".gif", ".webp", ".ppm")]
    for path in paths:
        Image.fromarray(picture()).save(path)
    Image.fromarray(ids()).save(root / "a.pgm")
    return [*paths, root / "a.pgm"]


def labelme(root: Path) -> list[Path]:
    mask = base64.b64encode(png_text(np.ones((5, 7), np.uint8))).decode()
    shapes: list[dict[str, Any]] = [
        {"label": "roof", "points": SQUARE, "shape_type": "polygon"},
        {"label": "tree", "points": [(1, 1), (5, 5)], "shape_type": "rectangle"},
        {"label": "tree", "points": [(6, 6), (8, 6)], "shape_type": "circle"},
        {"label": "roof", "points": [(2, 2), (8, 6)], "shape_type": "mask", "mask": mask},
    ]
    return [
        put(
            root / f"{Path(name).stem}.json", {"shapes": shapes, "imagePath": name, "imageHeight": 12, "imageWidth": 16}
        )
        for name in images(root)
    ]


def coco(root: Path) -> list[Path]:
    names = images(root / "images")
    listed = [{"id": n, "file_name": name, "height": 12, "width": 16} for n, name in enumerate(names)]
    counts = [26, 5, 7, 5, 149]
    segments: list[Any] = [[FLAT], {"size": [12, 16], "counts": counts}, {"size": [12, 16], "counts": "j05750e4"}]
    shapes = [
        {"id": n, "image_id": n % 3, "category_id": 1 + n % 2, "segmentation": segments[n % 2], "iscrowd": 0}
        for n in range(6)
    ]
    categories = [{"id": 1, "name": "roof"}, {"id": 2, "name": "tree", "supercategory": "plant"}]
    values = {"images": listed, "annotations": shapes, "categories": categories, "info": {"year": 2020}}
    return [put(root / "annotations" / "instances_train.json", values)]


def panoptic(root: Path) -> list[Path]:
    names = images(root / "images")
    entries = []
    for name in names:
        folder = root / "annotations" / "panoptic_train"
        folder.mkdir(parents=True, exist_ok=True)
        rgb = np.zeros((*SIZE, 3), np.uint8)
        rgb[..., 0] = ids() + 1
        Image.fromarray(rgb).save(folder / name)
        segments = [{"id": n + 1, "category_id": n + 1, "iscrowd": 0, "area": 9} for n in range(2)]
        entries.append({"image_id": name[0], "file_name": name, "segments_info": segments})
    listed = [{"id": name[0], "file_name": name, "height": 12, "width": 16} for name in names]
    categories = [{"id": 1, "name": "ground", "isthing": 0}, {"id": 2, "name": "roof", "isthing": 1}]
    values = {"images": listed, "annotations": entries, "categories": categories}
    path = put(root / "annotations" / "panoptic_train.json", values)
    return [path, path, path, root / "annotations" / "panoptic_train" / "a.png"]


def datumaro(root: Path) -> list[Path]:
    runs = {"size": [12, 16], "counts": [26, 5, 7, 5, 149]}
    shapes = [
        {"type": "polygon", "label_id": 1, "points": FLAT, "group": 0, "z_order": 1},
        {"type": "mask", "label_id": 0, "rle": runs, "group": 1},
    ]
    items = [
        {"id": name[0], "annotations": shapes, "image": {"path": name, "size": [12, 16]}}
        for name in images(root / "images" / "train")
    ]
    labels = {"label": {"labels": [{"name": "ground"}, {"name": "roof"}]}}
    return [put(root / "annotations" / "train.json", {"categories": labels, "items": items})]


def label_studio(root: Path) -> list[Path]:
    bits = (
        f"{12 * 16 * 4:032b}"
        + f"{7:05b}"
        + f"{2:04b}{3:04b}{7:04b}{15:04b}"
        + "1"
        + "11"
        + f"{767:016b}"
        + f"{255:08b}"
    )
    brush = [int(bits.ljust(-(-len(bits) // 8) * 8, "0")[at : at + 8], 2) for at in range(0, len(bits), 8)]
    percent = [(10.0, 10.0), (60.0, 10.0), (60.0, 70.0)]
    box = {"x": 5.0, "y": 5.0, "width": 20.0, "height": 30.0, "rotation": 10.0}
    values: list[tuple[str, dict[str, Any]]] = [
        ("polygonlabels", {"points": percent}),
        ("brushlabels", {"format": "rle", "rle": brush}),
        ("rectanglelabels", box),
        ("ellipselabels", {"x": 50.0, "y": 50.0, "radiusX": 9.0, "radiusY": 20.0}),
    ]
    results = [
        {
            "type": kind,
            "value": value | {kind: ["roof"]},
            "original_width": 16,
            "original_height": 12,
            "to_name": "image",
        }
        for kind, value in values
    ]
    tasks = [
        {
            "id": n,
            "data": {"image": f"/data/upload/{name}"},
            "annotations": [{"result": results, "ground_truth": False}],
        }
        for n, name in enumerate(images(root))
    ]
    return [put(root / "export.json", tasks)]


def cvat_images(root: Path) -> list[Path]:
    points = ";".join(f"{x},{y}" for x, y in SQUARE)
    shapes = (
        f'<polygon label="roof" points="{points}" z_order="0"/>'
        '<box label="tree" xtl="1" ytl="1" xbr="5" ybr="6" rotation="5"/>'
        '<ellipse label="tree" cx="8" cy="6" rx="2" ry="3"/>'
        '<mask label="roof" rle="0, 12" left="2" top="2" width="4" height="3"/>'
    )
    listed = "".join(
        f'<image id="{n}" name="{name}" width="16" height="12">{shapes}</image>'
        for n, name in enumerate(images(root / "images"))
    )
    labels = "<labels><label><name>roof</name></label><label><name>tree</name></label></labels>"
    text = f"<annotations><version>1.1</version><meta><task>{labels}</task></meta>{listed}</annotations>"
    return [put(root / "annotations.xml", text)]


def cvat_masks(root: Path) -> list[Path]:
    images(root / "JPEGImages")
    (root / "SegmentationClass").mkdir()
    for stem in STEMS:
        Image.fromarray(np.where(ids()[..., None] == 1, (200, 0, 0), (0, 0, 0)).astype(np.uint8)).save(
            root / "SegmentationClass" / f"{stem}.png"
        )
    lists = put(root / "ImageSets" / "Segmentation" / "train.txt", "a\nb\nc\n")
    table = put(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroof:200,0,0::\n")
    return [table, table, lists, root / "SegmentationClass" / "a.png"]


def yolo(root: Path) -> list[Path]:
    images(root / "images" / "train")
    line = " ".join(["0", *(f"{value / 16:.4f}" for value in FLAT)])
    files = [put(root / "labels" / "train" / f"{stem}.txt", f"{line}\n1 0.5 0.5 0.9 0.5 0.9 0.9\n") for stem in STEMS]
    return [
        put(root / "data.yaml", "path: .\ntrain: images/train\nval: images/train\nnames:\n  0: roof\n  1: tree\n"),
        *files,
    ]


def supervisely(root: Path) -> list[Path]:
    data = base64.b64encode(zlib.compress(png_text(np.ones((3, 4), np.uint8)))).decode()
    objects: list[dict[str, Any]] = [
        {"classTitle": "roof", "geometryType": "polygon", "points": {"exterior": SQUARE, "interior": []}},
        {"classTitle": "tree", "geometryType": "bitmap", "bitmap": {"origin": [3, 4], "data": data}},
        {"classTitle": "tree", "geometryType": "rectangle", "points": {"exterior": [[1, 1], [4, 5]], "interior": []}},
    ]
    classes = [
        {"title": "roof", "shape": "polygon", "color": "#FF0000"},
        {"title": "tree", "shape": "any", "color": "#00FF00"},
    ]
    meta = put(root / "meta.json", {"classes": classes, "tags": []})
    names = images(root / "ds" / "img")
    values = {"size": {"height": 12, "width": 16}, "objects": objects, "tags": [], "description": ""}
    return [meta, *(put(root / "ds" / "ann" / f"{name}.json", values) for name in names)]


def labelme_xml(root: Path) -> list[Path]:
    corners = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in SQUARE)
    shape = f"<object><name>roof</name><deleted>0</deleted><polygon>{corners}</polygon></object>"
    size = "<imagesize><nrows>12</nrows><ncols>16</ncols></imagesize>"
    return [
        put(
            root / "Annotations" / f"{Path(name).stem}.xml",
            f"<annotation><filename>{name}</filename><folder></folder>{size}{shape}</annotation>",
        )
        for name in images(root / "Images", ".jpg")
    ]


def folder(root: Path) -> None:
    images(root / "images")
    (root / "masks").mkdir()
    for stem in STEMS:
        Image.fromarray(ids()).save(root / "masks" / f"{stem}.png")


def class_tables(root: Path) -> list[Path]:
    folder(root)
    table = [{"id": 0, "name": "ground", "color": [0, 0, 0]}, {"id": 1, "name": "roof", "color": [200, 0, 0]}]
    tables = {
        "class_dict.csv": "name,r,g,b\nground,0,0,0\nroof,200,0,0\n",
        "classes.json": json.dumps(table),
        "label_colors.txt": "0 0 0 ground\n200 0 0 roof\n",
        "codes.txt": "ground\nroof\n",
    }
    return [put(root / "masks" / name, text) for name, text in tables.items()]


def dataset_yaml(root: Path) -> list[Path]:
    folder(root)
    text = "names: [ground, roof]\npalette: [[0, 0, 0], [200, 0, 0]]\nchannels: 3\n"
    text += "range: [0, 255]\nval_share: 0.3\nval_by: '(.)'\n"
    return [put(root / "dataset.yaml", text)]


IMAGES: dict[str, Callable[[Path], list[Path]]] = {
    "png": saved(".png"),
    "jpeg": saved(".jpg"),
    "tiff": tiffs,
    "geotiff": geotiff,
    "npy": npy,
    "npz": npz,
    "mat": mat,
    "bmp, gif, webp, pnm": others,
}

READERS = IMAGES | {
    "labelme": labelme,
    "coco": coco,
    "panoptic": panoptic,
    "datumaro": datumaro,
    "label studio": label_studio,
    "cvat images": cvat_images,
    "cvat masks": cvat_masks,
    "yolo": yolo,
    "supervisely": supervisely,
    "labelme xml": labelme_xml,
    "class tables": class_tables,
    "dataset.yaml": dataset_yaml,
}
