"""Tables of classes that lie with masks: which files are read, what they say, and where they must be corrected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.data.class_tables.find import find_tables
from fullconv.data.class_tables.table import merge
from fullconv.data.class_tables.text_tables import read_text_table
from fullconv.data.layouts import find_dataset
from fullconv.errors import DataError
from refusals import refuses

SKY, ROAD, CAR = (128, 128, 128), (128, 64, 128), (64, 0, 128)

IDS = np.repeat(np.repeat(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), 8, axis=0), 8, axis=1)

COLORED = [("sky", None, SKY), ("road", None, ROAD), ("car", None, CAR)]
NUMBERED = [("sky", 0, None), ("road", 1, None), ("car", 2, None)]
NAMED = [("sky", None, None), ("road", None, None), ("car", None, None)]
BOTH = [("sky", 0, SKY), ("road", 1, ROAD), ("car", 2, CAR)]

TABLES: list[tuple[str, str, object]] = [
    ("class_dict.csv", "name,r,g,b\nsky,128,128,128\nroad,128,64,128\ncar,64,0,128\n", COLORED),
    ("class_dict_seg.csv", "name, r, g, b\nsky, 128, 128, 128\nroad, 128, 64, 128\ncar, 64, 0, 128\n", COLORED),
    ("class_dict.csv", "r;g;b;name\n128;128;128;sky\n128;64;128;road\n64;0;128;car\n", COLORED),
    ("colors.csv", "class,hex\nsky,#808080\nroad,#804080\ncar,#400080\n", COLORED),
    ("label_colors.txt", "128 128 128\tsky\n128 64 128\troad\n64 0 128\tcar\n", COLORED),
    ("label_colors.txt", "# CamVid\nsky 128 128 128\nroad 128 64 128\ncar 64 0 128\n", COLORED),
    ("colormap.txt", "sky,128,128,128\nroad,128,64,128\ncar,64,0,128\n", COLORED),
    ("label_colors.txt", "0 128 128 128 sky\n1 128 64 128 road\n2 64 0 128 car\n", BOTH),
    ("labelmap.txt", "# label:color_rgb:parts\nsky:128,128,128::\nroad:128,64,128::\ncar:64,0,128::\n", COLORED),
    ("class_names.txt", "sky\nroad\ncar\n", NAMED),
    ("codes.txt", "sky\r\nroad\r\ncar", NAMED),
    ("obj.names", "sky\nroad\ncar\n", NAMED),
    ("labels.txt", "__ignore__\nsky\nroad\ncar\n", NAMED),
    ("labels.txt", "0: sky\n1: road\n2: car\n", NUMBERED),
    ("_classes.csv", "Pixel Value, Class\n0, sky\n1, road\n2, car\n", NUMBERED),
    ("classes.json", '["sky", "road", "car"]', NAMED),
    ("classes.json", '{"0": "sky", "1": "road", "2": "car"}', NUMBERED),
    ("classes.json", '{"sky": 0, "road": 1, "car": 2}', NUMBERED),
    ("classes.json", '{"sky": [128, 128, 128], "road": [128, 64, 128], "car": [64, 0, 128]}', COLORED),
    (
        "classes.json",
        '{"classes": [{"title": "sky", "color": "#808080"}, {"title": "road", "color": "#804080"}, '
        '{"title": "car", "color": "#400080"}], "tags": []}',
        COLORED,
    ),
    ("labels.json", '[{"name": "sky", "id": 0}, {"name": "road", "id": 1}, {"name": "car", "id": 2}]', NUMBERED),
    (
        "dataset_meta.json",
        '{"label_map": {"0": "sky", "1": "road", "2": "car"}, "background_label": "0", '
        '"segmentation_colors": [[128, 128, 128], [128, 64, 128], [64, 0, 128]]}',
        BOTH,
    ),
    (
        "dataset_meta.json",
        '{"labels": ["sky", "road", "car"], "label_colors": {"sky": [128, 128, 128], "road": [128, 64, 128], '
        '"car": [64, 0, 128]}}',
        COLORED,
    ),
    (
        "config.json",
        '{"version": "1.1", "labels": ['
        '{"name": "nature--sky", "readable": "sky", "color": [128, 128, 128], "evaluate": true}, '
        '{"name": "flat--road", "readable": "road", "color": [128, 64, 128], "evaluate": true}, '
        '{"name": "object--car", "readable": "car", "color": [64, 0, 128], "evaluate": true}]}',
        BOTH,
    ),
    ("data.yaml", "path: ../data\ntrain: images/train\nnc: 3\nnames: [sky, road, car]\n", NAMED),
    ("data.yaml", "names:\n  0: sky\n  1: road\n  2: car\n", NAMED),
]  # fmt: skip


def write_pairs(root: Path, mask: str = "labels/{i}.png", values: object = (0, 1, 2), count: int = 5) -> None:
    """Write pairs whose masks store one of `values`, numbers or colours, for each class."""
    stored = np.asarray(values, np.uint8)
    for number in range(count):
        image, path = root / f"photos/{number}.png", root / mask.format(i=number)
        for folder in (image.parent, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 99, (*IDS.shape, 3), np.uint8)
        Image.fromarray(noise).save(image)
        Image.fromarray(stored[IDS]).save(path)


def read_targets(root: Path) -> tuple[tuple[str, ...], list[UInt8]]:
    dataset = find_dataset(root)
    return dataset.labels.class_names, [
        dataset.read_mask(sample) for samples in dataset.splits.values() for sample in samples
    ]


@pytest.mark.parametrize(("name", "text", "entries"), TABLES)
def test_tables_give_names_numbers_and_colours(name: str, text: str, entries: object, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, newline="")
    (table,) = find_tables(tmp_path)
    assert table.path == tmp_path / name
    assert [(entry.name, entry.value, entry.color) for entry in table.entries] == entries


@pytest.mark.parametrize(("name", "text", "entries"), TABLES)
@pytest.mark.parametrize("place", ["", "labels", "meta"])
def test_masks_are_read_by_the_table_that_lies_with_them(
    name: str, text: str, entries: list[tuple[str, int | None, tuple[int, ...] | None]], place: str, tmp_path: Path
) -> None:
    colored = entries[0][2] is not None
    write_pairs(tmp_path, values=(SKY, ROAD, CAR) if colored else (0, 1, 2))
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / name).write_text(text)
    names, targets = read_targets(tmp_path)
    assert names == ("sky", "road", "car")
    assert len(targets) == 5
    assert all(np.array_equal(target, IDS) for target in targets)


def test_the_path_of_the_table_is_said(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (tmp_path / "labels" / "_classes.csv").write_text("Pixel Value, Class\n0, sky\n1, road\n2, car\n")
    assert "3 classes from labels/_classes.csv: sky, road, car" in find_dataset(tmp_path).inferences


def test_stated_numbers_need_not_be_0_1_2(tmp_path: Path) -> None:
    write_pairs(tmp_path, values=(7, 26, 11))
    (tmp_path / "classes.json").write_text('{"road": 7, "building": 11, "car": 26, "bus": 28}')
    names, targets = read_targets(tmp_path)
    assert names == ("road", "building", "car", "bus")
    assert all(np.array_equal(target, np.array([0, 2, 1], np.uint8)[IDS]) for target in targets)


def test_mapillary_ignores_what_is_not_evaluated(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    labels = [
        {"name": "a--bird", "readable": "Bird", "color": [165, 42, 42], "evaluate": True},
        {"name": "b--curb", "readable": "Curb", "color": [196, 196, 196], "evaluate": True},
        {"name": "void--unlabeled", "readable": "Unlabeled", "color": [0, 0, 0], "evaluate": False},
    ]
    (tmp_path / "config_v1.2.json").write_text(json.dumps({"labels": labels}))
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("Bird", "Curb")
    assert dataset.labels.palette == ((165, 42, 42), (196, 196, 196))
    assert np.array_equal(dataset.read_mask(dataset.split("train")[0]), np.array([0, 1, 255], np.uint8)[IDS])


@pytest.mark.parametrize("values", [(0, 1, 255), (1, 2, 255)])
def test_255_is_ignored_where_no_line_has_it(values: tuple[int, ...], tmp_path: Path) -> None:
    write_pairs(tmp_path, values=values)
    (tmp_path / "_classes.csv").write_text(f"Pixel Value, Class\n{values[0]}, sky\n{values[1]}, road\n")
    names, targets = read_targets(tmp_path)
    assert names == ("sky", "road")
    assert np.array_equal(targets[0], np.array([0, 1, 255], np.uint8)[IDS])


def test_names_that_differ_by_case_or_blanks_are_one_class(tmp_path: Path) -> None:
    write_pairs(tmp_path, values=(SKY, ROAD, CAR))
    text = "name,r,g,b\nSky,128,128,128\nstreet car,128,64,128\nStreet Car ,64,0,128\n"
    (tmp_path / "class_dict.csv").write_text(text)
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("Sky", "street car")
    assert np.array_equal(dataset.read_mask(dataset.split("val")[0]), np.minimum(IDS, 1))
    assert "'street car' and 'Street Car' differ only by case or blanks and are one class" in " ".join(dataset.notes)
    (tmp_path / "class_dict.csv").unlink()
    write_pairs(tmp_path)
    (tmp_path / "class_names.txt").write_text("sky\nroad\nRoad\n")
    names, targets = read_targets(tmp_path)
    assert names == ("sky", "road")
    assert np.array_equal(targets[0], np.minimum(IDS, 1))


def test_a_list_of_names_and_a_table_of_colours_complete_each_other(tmp_path: Path) -> None:
    """The list gives the order of the ids, the table the colours."""
    write_pairs(tmp_path, values=(SKY, ROAD, CAR))
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\ncar,64,0,128\nroad,128,64,128\nsky,128,128,128\n")
    assert read_targets(tmp_path)[0] == ("car", "road", "sky")
    (tmp_path / "class_names.txt").write_text("sky\nroad\ncar\n")
    names, targets = read_targets(tmp_path)
    assert names == ("sky", "road", "car")
    assert np.array_equal(targets[0], IDS)


@pytest.mark.parametrize("named", ["classes.txt", "dataset.yaml"])
def test_the_users_own_names_count_first(named: str, tmp_path: Path) -> None:
    write_pairs(tmp_path)
    text = "a\nb\nc\n"
    (tmp_path / named).write_text("names: [a, b, c]\n" if named == "dataset.yaml" else text)
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, sky\n1, road\n2, car\n")
    (tmp_path / "classes.json").write_text("{")
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("a", "b", "c")
    assert "classes.json" in " ".join(dataset.notes)
    (tmp_path / "classes.json").unlink()
    assert f"{named} counts, and not _classes.csv, which has other names: sky, road, car" in " ".join(
        find_dataset(tmp_path).notes
    )


def test_names_without_colours_take_those_of_a_table_of_the_same_names(tmp_path: Path) -> None:
    write_pairs(tmp_path, values=(SKY, ROAD, CAR))
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    with refuses("no-colour-table"):
        find_dataset(tmp_path)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nCar,64,0,128\nRoad,128,64,128\nSky,128,128,128\n")
    names, targets = read_targets(tmp_path)
    assert names == ("sky", "road", "car")
    assert np.array_equal(targets[0], IDS)


CSV = "Pixel Value, Class\n0, sky\n1, road\n2, car\n"


@pytest.mark.parametrize(
    ("files", "code", "values"),
    [
        (
            {"photos/_classes.csv": CSV, "labels/_classes.csv": CSV.replace("1, road", "1, river")},
            "class-names",
            ("photos/_classes.csv", "labels/_classes.csv", "river", "road", "dataset.yaml"),
        ),
        (
            {"class_dict.csv": "name,r,g,b\nsky,1,1,1\nroad,2,2,2\n", "label_colors.txt": "9 9 9 sky\n2 2 2 road\n"},
            "class-names",
            ("class_dict.csv", "label_colors.txt", "sky", "#010101", "#090909"),
        ),
        ({"obj.names": "sky\nroad\ncar\n", "codes.txt": "tree\nroad\ncar\n"}, "class-names", ("sky", "tree")),
        ({"_classes.csv": "Pixel Value, Class\n0, sky\n1, road\n"}, "unknown-label", ("2 (33.3%)", "_classes.csv")),
        ({"class_names.txt": "sky\n"}, "unknown-label", ("0, 1, 2", "(sky)")),
        ({"codes.txt": "sky\nroad\nsky\n"}, "class-names", ("codes.txt", "lists sky more than once")),
        ({"classes.json": '["sky", '}, "class-names", ("classes.json", "is not JSON")),
        ({"label_colors.txt": "1 1 1 sky\n2 2 2 road\n3 3 car\n"}, "class-names", ("3 3 car",)),
        ({"class_dict.csv": "name,r,g,b\nsky,1,1,1\nroad,1,1,1\n"}, "class-names", ("'sky' and 'road'",)),
        ({"class_dict.csv": "name,r,g,b\nsky,1,1,x\nroad,1,1,1\n"}, "class-names", ("sky,1,1,x",)),
    ],
)
def test_tables_that_disagree_or_do_not_fit_are_a_question(
    files: dict[str, str], code: str, values: tuple[str, ...], tmp_path: Path
) -> None:
    write_pairs(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with refuses(code, *values):
        find_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [a, b, c]\n")  # as the remedy says
    assert read_targets(tmp_path)[0] == ("a", "b", "c")


def test_a_table_of_other_colours_is_a_question(tmp_path: Path) -> None:
    write_pairs(tmp_path, values=(SKY, ROAD, CAR))
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nsky,128,128,128\nroad,128,64,128\ncar,255,0,0\n")
    with refuses("unknown-colour", "#400080 (33.3%)", "class_dict.csv"):
        find_dataset(tmp_path)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nsky,128,128,128\nroad,128,64,128\ncar,64,0,128\n")
    assert np.array_equal(read_targets(tmp_path)[1][0], IDS)


def test_white_that_no_line_has_is_ignored_and_said(tmp_path: Path) -> None:
    write_pairs(tmp_path, values=(SKY, ROAD, (255, 255, 255)))
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nsky,128,128,128\nroad,128,64,128\n")
    dataset = find_dataset(tmp_path)
    assert np.array_equal(dataset.read_mask(dataset.split("train")[0]), np.array([0, 1, 255], np.uint8)[IDS])
    assert "white is in no line of class_dict.csv and is ignored (33.3% of the pixels)" in " ".join(dataset.notes)


def test_ids_saved_as_grey_rgb_are_numbers_and_not_colours_near_black(tmp_path: Path) -> None:
    write_pairs(tmp_path, values=[(0, 0, 0), (1, 1, 1), (2, 2, 2)])
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nsky,0,0,0\nroad,128,64,128\ncar,64,0,128\n")
    names, targets = read_targets(tmp_path)
    assert names == ("sky", "road", "car")
    assert np.array_equal(targets[0], IDS)


def test_of_more_than_255_classes_those_in_the_masks_are_kept(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (tmp_path / "classes.json").write_text(json.dumps({f"class {value}": value for value in range(400)}))
    names, targets = read_targets(tmp_path)
    assert names == ("class 0", "class 1", "class 2")
    assert np.array_equal(targets[0], IDS)


def test_other_files_are_not_tables(tmp_path: Path) -> None:
    others = {
        "train.csv": "id,label\na.png,3\nb.png,4\n",
        "metadata.csv": "name,width,height\na.png,3,4\n",
        "labels.txt": "a.png 0\nb.png 1\n",
        "labels.csv": "id,breed\n0a1,collie\n0a2,boxer\n",
        "class_list.csv": "id,label\n1,cat\n2,dog\n3,cat\n4,dog\n",
        "category.txt": "cat\ndog\ncat\ndog\n",
        "config.json": '{"epochs": 3}',
        "notes.txt": "sky\nroad\n",
        "test.csv": f"id,text,red,green,blue\na.png,{'x' * 200_000},1,2,3\n",
        "meta.json": '{"labels": 3}',
        "train.txt": "a\nb\n",
        "README.md": "sky",
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    assert find_tables(tmp_path) == []


def test_merging_keeps_what_each_table_knows(tmp_path: Path) -> None:
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\nRoad,128,64,128\nSky,128,128,128\n")
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n4, sky\n9, road\n")
    merged = merge(find_tables(tmp_path))
    assert [(entry.name, entry.value, entry.color) for entry in merged.entries] == [
        ("sky", 4, SKY),
        ("road", 9, ROAD),
    ]
    (tmp_path / "codes.txt").write_text("road\nsky\n")
    with pytest.raises(DataError) as refusal:
        merge(find_tables(tmp_path))
    assert refusal.value.faults[0].kind == "class-names"


@pytest.mark.parametrize("line", ["1" + " " * 100_000, "a" + " ," * 50_000 + "x", "0 1 2 " * 20_000])
def test_text_with_endless_lines_is_no_table(tmp_path: Path, line: str) -> None:
    (tmp_path / "classes.txt").write_text(f"0 sky\n{line}\n", encoding="utf-8")
    assert read_text_table(tmp_path / "classes.txt", f"0 sky\n{line}z\n") is None
