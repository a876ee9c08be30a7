"""The folder layout while it is being labelled: masks for some of the images, in folders of any depth.

`partly_labelled: true` in dataset.yaml selects it. `masks/REL/NAME.png` belongs to the image in `images/REL` with the
stem NAME, or with the whole name NAME where images share a stem. Images without a mask are not used. `splits.json`, a
map from paths below `images` to splits, divides the samples if it names some for training.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from fullconv.data.classes import DESCRIPTION, MASK_KEYS, PARTLY_KEY, read_description
from fullconv.data.dataset import DataSet
from fullconv.data.mask_classes.decide import decide_and_label
from fullconv.data.mask_classes.reader import Pair
from fullconv.data.pairing import is_image, list_folder, normalize_stem
from fullconv.data.reading import ReadingOptions
from fullconv.data.splits import SPLITS, UNDIVIDED
from fullconv.documents import parse_json
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import is_litter, read_file
from fullconv.images import BAND_SUFFIXES

__all__ = ["SPLIT_FILE", "is_partly_labelled", "read_partly"]

SPLIT_FILE = "splits.json"


def is_partly_labelled(root: Path) -> bool:
    """Return whether dataset.yaml says that images without masks are not labelled yet."""
    path = root / DESCRIPTION
    if not (path.is_file() and (root / "images").is_dir()):
        return False
    try:
        return read_description(path).get(PARTLY_KEY) is True
    except DataError:  # check_description reports it
        return False


def read_partly(root: Path, options: ReadingOptions, faults: list[Fault]) -> DataSet | None:
    """Read the images that have masks; what `values` in dataset.yaml says decides the classes."""
    pairs = _divide(root, _find_pairs(root, faults), faults)
    notes: list[str] = []
    labelled = decide_and_label(root, pairs, faults, notes, options.mask_nodata)
    if labelled is None:
        if not pairs and not faults:
            problem = "no image has a mask"
            faults.append(Fault("missing-mask", root / "masks", problem, "label some images first"))
        return None
    return DataSet(
        "partly labelled folder",
        root,
        labelled.labels,
        labelled.samples,
        color_masks=labelled.color_masks,
        about="images without a mask are not labelled yet, and not used",
        inferences=tuple(notes),
        mask_facts=labelled.facts,
        states_ignored=labelled.states_ignored,
        class_keys=MASK_KEYS,
    )


def _find_pairs(root: Path, faults: list[Fault]) -> list[Pair]:
    """Pair each mask with its image; masks without one are faults."""
    pairs, top = [], root / "masks"
    for folder, inner, files in os.walk(top):
        inner[:] = sorted(name for name in inner if not is_litter(name))
        masks = [Path(folder, name) for name in sorted(files) if is_image(Path(name), (".png",))]
        place = root / "images" / Path(folder).relative_to(top)
        images = [path for path in list_folder(place) if is_image(path, BAND_SUFFIXES)] if masks else []
        by_stem: dict[str, list[Path]] = defaultdict(list)
        for image in images:
            by_stem[normalize_stem(image.stem)].append(image)
        by_name = {normalize_stem(image.name): [image] for image in images}
        for mask in masks:
            stem = normalize_stem(mask.stem)
            found = by_name.get(stem) or by_stem.get(stem, [])
            name = mask.relative_to(top).with_suffix("").as_posix()
            if len(found) == 1:
                pairs.append(Pair(name, found[0], (mask,)))
            elif found:
                problem = f"belongs to {found[0].name} or to {found[1].name}"
                remedy = f"name it {found[0].name}.png or {found[1].name}.png"
                faults.append(Fault("ambiguous-image", mask, problem, remedy, name))
            else:
                problem = f"no image in {place} has its stem"
                faults.append(Fault("orphan-mask", mask, problem, "add the image, or remove the mask", name))
    return pairs


def _divide(root: Path, pairs: list[Pair], faults: list[Fault]) -> list[Pair]:
    """Give the pairs the splits of `SPLIT_FILE`, if it leaves some for training."""
    named = _read_splits(root / SPLIT_FILE, faults)
    images = root / "images"
    splits = [str(named.get(pair.image.relative_to(images).as_posix(), UNDIVIDED)) for pair in pairs]
    if "train" not in splits:
        splits = [split if split == "test" else UNDIVIDED for split in splits]
    elif UNDIVIDED in splits:
        splits = [split or "train" for split in splits]
    return [Pair(pair.name, pair.image, pair.masks, split) for pair, split in zip(pairs, splits, strict=True)]


def _read_splits(path: Path, faults: list[Fault]) -> Mapping[str, object]:
    if not path.is_file():
        return {}
    try:
        values = parse_json(read_file(path).decode("utf-8"))
        if not isinstance(values, dict) or not {*values.values()} <= {*SPLITS}:
            raise ValueError(f"it must map paths to {', '.join(SPLITS)}")
    except (OSError, ValueError, TypeError) as error:
        faults.append(Fault("missing-list", path, f"cannot be read ({error})", "correct or remove it"))
        return {}
    return values
