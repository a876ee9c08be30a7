import re

import pytest

import corpus
from fullconv.data.classes import find_labels
from fullconv.data.layouts import find_dataset
from fullconv.errors import DataError

NAMES = "names: [ground, roof]\n"


def faults_of(root):
    with pytest.raises(DataError) as caught:
        find_labels(root)
    return caught.value.faults


def test_a_folder_without_a_file_of_names_has_no_labels(tmp_path):
    assert find_labels(tmp_path) is None


def test_names_in_text_may_have_a_byte_order_mark_and_crlf(tmp_path):
    (tmp_path / "classes.txt").write_bytes("\ufeffground\r\ngreen roof\r\n\r\n".encode())
    labels, colored = find_labels(tmp_path)
    assert (labels.class_names, colored) == (("ground", "green roof"), False)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nmaes: [a, b]\n", ["nmaes", "names"]),
        (NAMES + "train: x\n", ["train"]),
        ("names: {0: a, 2: b}\npallete: 1\n", ["pallete", "[0, 2]"]),
        ("names: [no, 1]\n", ["False", "1"]),
        (NAMES + "palette: [red, [0, 0, 256]]\n", ["red", "[0, 0, 256]"]),
        (NAMES + "palette: [[1, 1, 1], [1, 1, 1]]\n", ["[1, 1, 1]"]),
        (NAMES + "palette: [[1, 1, 1]]\n", ["2 class names but 1 colours"]),
        ("names: [a, a]\n", ["more than once: a"]),
        ("names: [a", ["YAML"]),
        ("- a\n", ["no keys"]),
        (f"names: {'[' * 3000}{']' * 3000}\n", ["too deeply"]),
    ],
)
def test_wrong_values_in_dataset_yaml_are_faults(tmp_path, text, parts):
    """Each fault names the wrong value."""
    (tmp_path / "dataset.yaml").write_text(text)
    faults = faults_of(tmp_path)
    assert [(fault.kind, fault.path) for fault in faults] == [("class-names", tmp_path / "dataset.yaml")] * len(parts)
    assert all(part in fault.problem for part, fault in zip(parts, faults, strict=True))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a\n\nb\n", r"blank lines \(2\)"),
        (b" \n", "is empty"),
        (b"a\na\n", "more than once"),
        (b"\xff", "UTF-8"),
    ],
)
def test_wrong_content_of_classes_txt_is_a_fault(tmp_path, content, problem):
    (tmp_path / "classes.txt").write_bytes(content)
    (fault,) = faults_of(tmp_path)
    assert (fault.kind, fault.path) == ("class-names", tmp_path / "classes.txt")
    assert re.search(problem, fault.problem)


def test_both_classes_txt_and_dataset_yaml_are_a_fault(tmp_path):
    (tmp_path / "classes.txt").write_text("ground\nroof\n")
    (tmp_path / "dataset.yaml").write_text(NAMES)
    assert [(fault.kind, fault.path) for fault in faults_of(tmp_path)] == [("class-names", tmp_path)]


def test_unknown_keys_of_dataset_yaml_are_faults_in_every_layout(tmp_path):
    corpus.base(tmp_path)
    for split in ("train", "val"):
        (tmp_path / "images" / split).rename(tmp_path / split)
        (tmp_path / "masks" / split).rename(tmp_path / f"{split}annot")
    (tmp_path / "dataset.yaml").write_text("chanels: 4\n")
    with pytest.raises(DataError) as caught:
        find_dataset(tmp_path)
    (fault,) = caught.value.faults
    assert (fault.kind, fault.path) == ("class-names", tmp_path / "dataset.yaml")
    assert "'channels'" in fault.remedy
