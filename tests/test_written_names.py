"""Names survive convert: every pair that is written is read again, with the same pixels."""

from __future__ import annotations

import logging
import re
import tempfile
import unicodedata
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fullconv.data.dataset import DataSet, Sample
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.writers.names import name_file, name_key
from fullconv.data.writers.write import LAYOUTS, convert
from fullconv.doctor.examine import examine
from fullconv.doctor.repair import repair
from fullconv.labels import LabelSet
from refusals import refuses

odd = st.sampled_from(
    ["", ".", "..", "./a", "../b", "a/../c", "/abs", "..\\..\\evil", "C:\\x", "C:y", "a\nb", "a\x85b", "a\0b", " a "]  # noqa: RUF005
    + [".hid", "...", "CON", "nul.tar", "com1", "a?", "a*b", "#x", "a b", "a,b", "a'b", "é", "e\u0301", "\u202eb", "-x"]
)
letters = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
names = st.lists(st.one_of(odd, letters), min_size=2, max_size=5)
LABELS = LabelSet.named(["ground", "roof"])


@given(st.one_of(odd, letters))
def test_names_are_valid_on_every_system(name: str) -> None:
    stem = name_file(name)
    assert stem
    assert stem == stem.strip()
    assert not stem.startswith(".")
    assert not re.search(r'[<>:"/\\|?*\0]', stem)
    assert not any(unicodedata.category(letter) == "Cc" for letter in stem)
    assert len(stem.splitlines()) == 1
    path = PureWindowsPath("out") / f"{stem}.png"
    assert path.parts == ("out", f"{stem}.png")
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)", stem.split(".")[0].strip())
    assert name_file(stem) == stem


def build(root: Path, given_names: list[str]) -> DataSet:
    """Write pairs under plain file names, and return them as samples of these names."""
    root = root / "data"
    root.mkdir()
    samples = []
    for number, name in enumerate(given_names):
        ids = np.zeros((6, 8), np.uint8)
        ids[1:4, 1 : 3 + number] = 1
        image, mask = root / f"i{number}.png", root / f"m{number}.png"
        Image.fromarray(np.full((6, 8, 3), 10 * number, np.uint8)).save(image)
        Image.fromarray(ids).save(mask)
        samples.append(Sample(name, image, mask))
    return DataSet("test", root, LABELS, {"train": tuple(samples[1:]), "val": tuple(samples[:1])})


@pytest.mark.parametrize("to", LAYOUTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names)
def test_what_convert_writes_is_read_again(to: str, given_names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = build(root, given_names)
        keys = [("" if to == "voc" else number == 0, name_key(name_file(n))) for number, n in enumerate(given_names)]
        if len(set(keys)) < len(keys):
            with refuses("file-names"):
                convert(dataset, root / "out", to)  # type: ignore[arg-type]
            assert not (root / "out").exists()
            return
        convert(dataset, root / "out", to)  # type: ignore[arg-type]
        again = find_dataset(root / "out")
        for split, samples in dataset.splits.items():
            expected = {name_key(name_file(s.name)): dataset.read(s) for s in samples}
            found = {name_key(Path(s.image).stem): again.read(s) for s in again.splits[split]}
            assert found.keys() == expected.keys()
            for name, (pixels, target) in expected.items():
                assert np.array_equal(found[name][0], pixels)
                assert np.array_equal(found[name][1], target)


def test_changed_names_are_printed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        convert(build(tmp_path, ["a:b", "c", "d"]), tmp_path / "out", "folder")
    assert "1 name(s) are not valid on every system and are changed, first: 'a:b' is 'a_b'" in caplog.text


def test_repaired_copies_keep_pairs_whose_names_have_dots(tmp_path: Path) -> None:
    """COCO's file_name "./train0.png" was written as a hidden file."""
    convert(build(tmp_path, ["a", "b", "c", "d"]), tmp_path / "coco", "coco")
    path = tmp_path / "coco" / "annotations" / "train.json"
    path.write_text(re.sub(r'"file_name": ?"', '"file_name": "./', path.read_text(encoding="utf-8")), encoding="utf-8")
    fixed = repair(examine(survey(tmp_path / "coco")), tmp_path / "fixed")
    assert fixed.pairs == 4
    splits = find_dataset(tmp_path / "fixed").splits
    assert {split: [s.name for s in samples] for split, samples in splits.items()} == {
        "train": ["b", "c", "d"],
        "val": ["a"],
    }
