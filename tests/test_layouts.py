from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of
from fullconv.data.classes import CAMVID_LABELS, VOC_LABELS
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.errors import DataError
from refusals import refuses

CAMVID = Path(__file__).parents[1] / ".." / "shared" / "camvid"


def put_image(path, size=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def put_mask(path, labels=(0, 1, 255), size=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(labels, np.uint8), size)).save(path)


def put_pair(root, split, stem, **mask):
    put_image(root / "images" / split / f"{stem}.jpg")
    put_mask(root / "masks" / split / f"{stem}.png", **mask)


@pytest.fixture
def folder(tmp_path):
    for split, stem in [("train", "a"), ("train", "b"), ("val", "c")]:
        put_pair(tmp_path, split, stem)
    (tmp_path / "classes.txt").write_text("ground\nroof\n")
    return tmp_path


def stems(dataset, split):
    return [sample.name for sample in dataset.split(split)]


def test_the_folder_layout_is_read(folder):
    dataset = find_dataset(folder)
    assert (dataset.layout, dataset.labels.class_names) == ("folder", ("ground", "roof"))
    assert (stems(dataset, "train"), stems(dataset, "val")) == (["a", "b"], ["c"])
    image, target = dataset.read(dataset.split("val")[0])
    assert (image.shape, image.dtype, target.shape, target.dtype) == ((6, 8, 3), np.uint8, (6, 8), np.uint8)
    assert set(np.unique(target)) == {0, 1, 255}


def test_the_test_split_of_a_folder_is_read_only_with_masks(folder):
    put_image(folder / "images" / "test" / "t.png")
    assert set(find_dataset(folder).splits) == {"train", "val"}
    put_mask(folder / "masks" / "test" / "t.png")
    assert stems(find_dataset(folder), "test") == ["t"]


def test_hidden_files_and_other_types_are_not_images(folder):
    for name in ("._a.jpg", ".DS_Store", "notes.txt"):
        (folder / "images" / "train" / name).write_bytes(b"?")
    assert stems(find_dataset(folder), "train") == ["a", "b"]


@pytest.mark.parametrize("names", [("images", "masks"), ("image", "label")])
def test_json_files_next_to_images_with_masks_are_named(tmp_path, names):
    for number in range(4):
        put_image(tmp_path / names[0] / f"{number}.png")
        put_mask(tmp_path / names[1] / f"{number}.png")
    before = find_dataset(tmp_path)
    assert "JSON" not in " ".join(before.notes)
    for name in ("1.json", "2.JSON", "other.json"):
        (tmp_path / names[0] / name).write_text('{"shapes": []}')
    dataset = find_dataset(tmp_path)
    note = f"not read, because there are masks: 2 JSON files such as {names[0]}/1.json"
    assert note in " ".join(dataset.notes)
    assert dataset.splits == before.splits


def test_without_names_there_are_classes_up_to_the_largest_label(folder):
    (folder / "classes.txt").unlink()
    put_pair(folder, "val", "d", labels=(0, 3, 255))
    assert find_dataset(folder).labels.class_names == ("class_0", "class_1", "class_2", "class_3")


@pytest.mark.parametrize("count", [2, 3, 60])
def test_flat_folder_is_split_by_stem(tmp_path, count):
    for index in range(count):
        put_pair(tmp_path, "", f"s{index}")
    dataset = find_dataset(tmp_path)
    train, val = stems(dataset, "train"), stems(dataset, "val")
    assert sorted(train + val) == sorted(f"s{index}" for index in range(count))
    assert len(val) == max(1, round(0.2 * count))
    put_pair(tmp_path, "", "new")
    if count == 60:
        assert len(set(val) - set(stems(find_dataset(tmp_path), "val"))) <= 1


def test_flat_folder_of_one_sample_has_no_val(tmp_path):
    put_pair(tmp_path, "", "only")
    dataset = find_dataset(tmp_path)
    assert stems(dataset, "train") == ["only"]
    with refuses("empty-split", "'val'", "train (1)"):
        dataset.split("val")
    with refuses("empty-split", "at least one trains, and another one is held out"):
        dataset.split("val")
    with refuses("empty-split", "has no pair of an image and a mask"):
        replace(dataset, splits={"train": (), "val": ()}).split("val")


@pytest.mark.parametrize("names", ["names: [ground, roof]\n", "names: {1: roof, 0: ground}\n"])
@pytest.mark.parametrize("palette", ["[[0, 0, 0], [200, 0, 0]]", "{0: '#000000', 1: '#c80000'}"])
def test_yaml_names_and_colours_of_rgb_masks(folder, names, palette):
    (folder / "classes.txt").unlink()
    (folder / "dataset.yaml").write_text(f"{names}palette: {palette}\n")
    rgb = np.zeros((6, 8, 3), np.uint8)
    rgb[:3] = 200, 0, 0
    Image.fromarray(rgb).save(folder / "masks" / "val" / "c.png")
    dataset = find_dataset(folder)
    assert dataset.labels.class_names == ("ground", "roof")
    assert dataset.labels.palette == ((0, 0, 0), (200, 0, 0))
    np.testing.assert_array_equal(dataset.read(dataset.split("val")[0])[1], rgb[..., 0] // 200)


def test_rgb_masks_without_a_palette_raise_an_error(folder):
    Image.fromarray(np.full((6, 8, 3), (9, 90, 200), np.uint8)).save(folder / "masks" / "val" / "c.png")
    (fault,) = faults_of(folder)
    assert (fault.kind, fault.path) == ("no-colour-table", folder / "masks" / "val" / "c.png")


def test_all_faults_of_a_folder_are_listed_at_once(folder):
    images, masks = folder / "images", folder / "masks"
    put_image(images / "train" / "lonely.jpg")
    put_mask(masks / "val" / "orphan.png")
    put_image(images / "train" / "a.png")
    put_mask(masks / "train" / "b.png", size=(5, 8))
    put_pair(folder, "val", "bad")
    (images / "val" / "bad.jpg").write_bytes(b"no image")
    put_pair(folder, "val", "lossy")
    (masks / "val" / "lossy.png").rename(masks / "val" / "lossy.jpg")  # still PNG
    put_image(images / "validation" / "x.png")
    put_image(images / "loose.png")
    (folder / "classes.txt").write_text("a\n\nb\n")
    expected = [
        ("unknown-split", images / "validation", None),
        ("loose-images", images / "loose.png", None),
        ("duplicate-stem", images / "train" / "a.png", "a"),
        ("missing-mask", images / "train" / "lonely.jpg", "lonely"),
        ("orphan-mask", masks / "val" / "orphan.png", "orphan"),
        ("class-names", folder / "classes.txt", None),
        ("size-mismatch", masks / "train" / "b.png", "b"),
        ("not-an-image", images / "val" / "bad.jpg", "bad"),
    ]
    assert [(fault.kind, fault.path, fault.sample) for fault in faults_of(folder)] == expected


def test_empty_and_missing_folders_are_faults(folder):
    for path in (folder / "images" / "val").iterdir():
        path.unlink()
    (folder / "masks" / "train").rename(folder / "masks" / "trian")
    found = [(fault.kind, fault.path, fault.split) for fault in faults_of(folder)]
    assert found == [
        ("missing-folder", folder / "masks" / "train", "train"),
        ("empty-split", folder / "images" / "val", "val"),
    ]


def test_masks_without_a_common_stem_are_one_fault(folder):
    for path in list((folder / "masks" / "train").iterdir()):
        path.rename(path.with_stem(path.stem + "_mask"))
    (fault,) = faults_of(folder)
    assert (fault.kind, fault.path) == ("no-common-stem", folder / "masks" / "train")
    assert "a_mask.png and a.jpg" in fault.problem


def test_the_message_lists_fifty_faults_and_the_attribute_all(folder):
    for index in range(70):
        put_image(folder / "images" / "train" / f"x{index:02d}.png")
    with refuses("missing-mask", folder, 70) as refusal:
        find_dataset(folder)
    assert len(refusal.error.faults) == 70
    assert refusal.message.splitlines()[-1] == "  - ... and 20 more"
    assert len(refusal.message.splitlines()) == 52


@pytest.mark.parametrize("named", [True, False])
def test_masks_of_0_and_255_are_background_and_one_class(folder, named):
    for path in folder.glob("masks/*/*.png"):
        put_mask(path, labels=(0, 255))
    if not named:
        (folder / "classes.txt").unlink()
    dataset = find_dataset(folder)
    assert dataset.labels.class_names == (("ground", "roof") if named else ("background", "foreground"))
    target = dataset.read(dataset.split("val")[0])[1]
    assert np.array_equal(target, np.resize(np.array([0, 1], np.uint8), (6, 8)))


def test_a_handful_of_values_is_mapped_in_order(folder):
    (folder / "classes.txt").unlink()
    put_mask(folder / "masks" / "val" / "c.png", labels=(0, 127, 255))
    dataset = find_dataset(folder)
    assert dataset.labels.class_names == ("class_0", "class_1", "class_127", "class_255")
    assert "127 is class 2" in " ".join(dataset.inferences)


@pytest.mark.parametrize("labels", [(0, 2), (0, 128, 255)])
def test_labels_without_a_class_raise_an_error(folder, labels):
    put_mask(folder / "masks" / "val" / "c.png", labels=labels)
    (fault,) = faults_of(folder)
    assert (fault.kind, fault.path) == ("unknown-label", folder / "masks" / "val" / "c.png")
    assert str(labels[1]) in fault.problem
    assert "`values: {0: ground, 1: roof, " in fault.remedy


def test_a_mask_of_another_size_raises_an_error(folder):
    dataset = find_dataset(folder)
    put_mask(folder / "masks" / "val" / "c.png", size=(6, 7))
    with refuses("size-mismatch", "7x6"):
        dataset.read(dataset.split("val")[0])


def test_statistics_sum_the_targets(folder):
    dataset = find_dataset(folder)
    targets = [dataset.read(sample)[1] for sample in dataset.split("train")]
    counts = np.array(read_statistics(dataset, "train").pixels)
    assert counts.dtype == np.int64
    assert counts.tolist() == [sum(int((target == k).sum()) for target in targets) for k in range(2)]


def test_statistics_list_all_faulty_masks(folder):
    dataset = find_dataset(folder)
    for stem in "ab":
        put_mask(folder / "masks" / "train" / f"{stem}.png", labels=(0, 9))
    with pytest.raises(DataError) as caught:
        read_statistics(dataset, "train")
    assert [(fault.kind, fault.path.name) for fault in caught.value.faults] == [
        ("unknown-label", "a.png"),
        ("unknown-label", "b.png"),
    ]


def put_camvid(root, splits=("train", "val")):
    for split in splits:
        put_image(root / split / "x.png")
        put_mask(root / f"{split}annot" / "x.png", labels=(0, 10, 11))


def test_the_camvid_layout_is_read(tmp_path):
    put_camvid(tmp_path)
    put_image(tmp_path / "test" / "unlabelled.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels, set(dataset.splits)) == (
        "camvid",
        CAMVID_LABELS,
        {"train", "val"},
    )
    assert set(np.unique(dataset.read(dataset.split("val")[0])[1])) == {0, 10, 255}
    assert list(read_statistics(dataset, "val").pixels) == [16, *[0] * 9, 16]


def test_faults_of_camvid(tmp_path):
    put_camvid(tmp_path)
    (tmp_path / "valannot" / "x.png").unlink()
    put_image(tmp_path / "train" / "y.png")
    found = [(fault.kind, fault.path) for fault in faults_of(tmp_path)]
    assert found == [("missing-mask", tmp_path / "train" / "y.png"), ("empty-split", tmp_path / "valannot")]


def put_names(root, file, count):
    names = [f"part {number}" for number in range(count)]
    (root / file).write_text("\n".join(names) if file == "classes.txt" else f"names: {names}")
    return names


@pytest.mark.parametrize("file", ["classes.txt", "dataset.yaml"])
def test_camvids_folders_with_own_classes_have_these(tmp_path, file):
    put_camvid(tmp_path)
    names = put_names(tmp_path, file, 12)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("folder", tuple(names))
    for split in ("train", "val"):
        assert set(np.unique(dataset.read(dataset.split(split)[0])[1])) == {0, 10, 11}


@pytest.mark.parametrize("file", ["classes.txt", "dataset.yaml"])
def test_other_names_of_camvids_eleven_classes_leave_its_values_as_they_are(tmp_path, file):
    put_camvid(tmp_path)
    names = put_names(tmp_path, file, 11)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.labels.class_names) == ("camvid", tuple(names))
    assert set(np.unique(dataset.read(dataset.split("train")[0])[1])) == {0, 10, 255}


def test_values_alone_name_the_classes_of_camvids_folders(tmp_path):
    put_camvid(tmp_path)
    (tmp_path / "dataset.yaml").write_text("values: {0: background, 10: tumour, 11: tumour}\n")
    assert find_dataset(tmp_path).labels.class_names == ("background", "tumour")


def test_a_damaged_class_file_of_camvids_folders_is_reported(tmp_path):
    put_camvid(tmp_path)
    (tmp_path / "classes.txt").write_text("")
    assert [(fault.kind, fault.path.name) for fault in faults_of(tmp_path)] == [("class-names", "classes.txt")]


def put_voc(root):
    for stem in ("p", "q", "unlisted"):
        put_image(root / "JPEGImages" / f"{stem}.jpg")
        put_mask(root / "SegmentationClass" / f"{stem}.png", labels=(0, 20, 255))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p\n")
    (lists / "val.txt").write_text("q\n\n")
    return lists


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_the_voc_layout_is_read(tmp_path, below):
    put_voc(tmp_path / below)
    dataset = find_dataset(tmp_path)
    assert (dataset.layout, dataset.root, dataset.labels) == ("voc", tmp_path / below, VOC_LABELS)
    assert (stems(dataset, "train"), stems(dataset, "val")) == (["p"], ["q"])
    assert VOC_LABELS.num_classes == 21
    assert set(np.unique(dataset.read(dataset.split("train")[0])[1])) == {0, 20, 255}


def test_voc_reads_palette_indices_not_colours(tmp_path):
    put_voc(tmp_path)
    mask = Image.fromarray(np.full((6, 8), 7, np.uint8))
    mask.putpalette([9, 9, 9] * 256)
    mask.save(tmp_path / "SegmentationClass" / "p.png")
    dataset = find_dataset(tmp_path)
    assert (dataset.read(dataset.split("train")[0])[1] == 7).all()


def test_faults_of_voc(tmp_path):
    lists = put_voc(tmp_path)
    (lists / "train.txt").write_text("p\nghost\np\n")
    (lists / "val.txt").write_text("\n")
    found = [(fault.kind, fault.path, fault.sample) for fault in faults_of(tmp_path)]
    assert found == [
        ("listed-absent", lists / "train.txt", "ghost"),
        ("listed-twice", lists / "train.txt", "p"),
        ("empty-split", lists / "val.txt", None),
    ]


def test_voc_without_lists_is_a_fault(tmp_path):
    for path in put_voc(tmp_path).iterdir():
        path.unlink()
    assert faults_of(tmp_path)[0].kind == "missing-list"


def test_an_unknown_layout_lists_the_folders_content_and_the_known_layouts(tmp_path, folder):
    other = tmp_path / "elsewhere"
    (other / "pictures").mkdir(parents=True)
    with refuses("unknown-layout", other, "pictures/") as refusal:
        find_dataset(other)
    assert [line.split(":")[0] for line in refusal.error.details] == [
        "folder",
        "folder that `fullconv label` writes",
        "images and masks in folders or files whose names say so, for example image and label, or a.jpg and a_mask.png",
        "CamVid",
        "VOC",
        "VOC with SBD, the paper's data",
        "CVAT segmentation mask",
        "CVAT for images 1.1",
        "labelme",
        "LabelMe XML",
        "COCO",
        "COCO panoptic",
        "COCO-Stuff",
        "Datumaro",
        "Label Studio",
        "Supervisely",
        "YOLO segmentation",
        "Cityscapes",
        "nnU-Net, 2-D",
        "ADE20K",
        "KITTI semantic, Mapillary Vistas, SYNTHIA-RAND-CITYSCAPES and MVTec AD, as their archives unpack",
    ]
    put_camvid(other / "pictures" / "..")
    put_camvid(tmp_path / "outer" / "inner")
    with refuses("unknown-layout", tmp_path / "outer" / "inner"):
        find_dataset(tmp_path / "outer")


def test_a_path_that_is_not_a_folder_raises_an_error(tmp_path):
    with refuses("missing-folder", tmp_path / "nowhere"):
        find_dataset(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with refuses("not-a-folder", tmp_path / "file"):
        find_dataset(tmp_path / "file")


def test_an_empty_or_unknown_split_lists_the_splits_with_samples():
    sample = Sample("a", Path("a.jpg"), Path("a.png"))
    dataset = DataSet("folder", Path("here"), CAMVID_LABELS, {"train": (sample,), "val": ()})
    for name in ("val", "tset"):
        with refuses("empty-split", f"'{name}'", "train (1)"):
            dataset.split(name)


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not next to the project")
def test_the_published_camvid_is_read():
    dataset = find_dataset(CAMVID)
    assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 367, "val": 101}
    for sample in (*dataset.split("train")[:2], *dataset.split("val")[-2:]):
        image, target = dataset.read(sample)
        assert image.shape == (360, 480, 3)
        assert set(np.unique(target)) <= {*range(11), 255}
