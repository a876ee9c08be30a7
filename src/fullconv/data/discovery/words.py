"""Words in the names of folders and files: what holds images, what holds masks, and which split it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = ["IMAGE_WORDS", "MASK_WORDS", "SPLIT_WORDS", "NameParts", "Role", "Split", "parse_name"]

Role = Literal["image", "mask"]
Split = Literal["train", "val", "test"]

SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "tr": "train",
    "trn": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "ts": "test",
}
"""Words that name a split. `trainval` names none: see `parse_name`."""

IMAGE_WORDS = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "im",
        "ims",
        "jpegimages",
        "jpgimages",
        "pngimages",
        "rgb",
        "photo",
        "photos",
        "picture",
        "pictures",
        "pic",
        "pics",
        "raw",
        "input",
        "inputs",
        "x",
        "sat",
        "satellite",
        "frame",
        "frames",
        "scan",
        "scans",
        "color",
        "colour",
        "leftimg8bit",
        "imgdir",
        "imagedir",
        "originals",
        "original",
        "orig",
        "org",
        "source",
        "src",
        "tiles",
        "patches",
        "crops",
        "data",
    ]
)
"""Words for folders and parts of file names that hold images, in lower case."""

MASK_WORDS = frozenset(
    [
        "mask",
        "masks",
        "msk",
        "msks",
        "maskdir",
        "label",
        "labels",
        "lbl",
        "lbls",
        "labelids",
        "labeldir",
        "labelimages",
        "labeltrainids",
        "annotation",
        "annotations",
        "annot",
        "annots",
        "ann",
        "anns",
        "anndir",
        "annotated",
        "anno",
        "annos",
        "lab",
        "labs",
        "gt",
        "gts",
        "gtfine",
        "groundtruth",
        "groundtruths",
        "truth",
        "truths",
        "target",
        "targets",
        "tgt",
        "seg",
        "segs",
        "segmentation",
        "segmentations",
        "segmap",
        "segmaps",
        "segmask",
        "segmasks",
        "segmentationclass",
        "segmentationclassraw",
        "segmentationmask",
        "semseg",
        "semantic",
        "semantics",
        "sem",
        "y",
        "output",
        "outputs",
        "classes",
        "l",
        "matte",
        "mattes",
        "manual",
        "annotationmask",
        "bitmap",
        "bitmaps",
        "trimap",
        "trimaps",
        "pixellabels",
        "pixelmap",
    ]
)
"""Words for folders and parts of file names that hold masks, in lower case."""

WEAK_WORDS = frozenset(
    {
        "x",
        "y",
        "l",
        "im",
        "sem",
        "data",
        "tiles",
        "patches",
        "crops",
        "source",
        "src",
        "output",
        "outputs",
        "classes",
        "ts",
        "tr",
    }
)
"""Words that count only where the whole name consists of such words, since they appear in many other names."""

_TOKEN = re.compile(r"\d+x\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+", re.UNICODE)


@dataclass(frozen=True)
class NameParts:
    """What the words of a name say: its role and split, None where they are silent, and the words that remain."""

    role: Role | None
    split: Split | None
    rest: tuple[str, ...]


@lru_cache(maxsize=100_000)
def parse_name(name: str) -> NameParts:
    """Return the role, the split and the other words of the name of a folder.

    Words are divided by anything that is not a letter, by digits and by capital letters: `Train_images`,
    `annotationsPreppedTrain` and `SegmentationClass` are understood. A split directly joined to a role word is divided,
    too: `trainannot`. Of a mask word and an image word in one name, the mask word counts (`image_masks`).
    """
    whole = re.sub(r"[\W_]+", "", name).lower()
    if whole in MASK_WORDS or whole in IMAGE_WORDS:
        return NameParts("mask" if whole in MASK_WORDS else "image", None, ())
    tokens = [part for token in _tokens(name) for part in _divided(token)]
    if "with" in tokens[1:]:  # images with their masks: the words after it say what else is there
        tokens = tokens[: tokens.index("with", 1)]
    joined = _joined(tokens)
    role = None if "and" in joined and _role(joined, "image") and _role(joined, "mask") else _role(joined)
    words = MASK_WORDS | IMAGE_WORDS
    strong = [word for word in joined if word in SPLIT_WORDS and (word not in WEAK_WORDS or len(joined) <= 2)]
    split = SPLIT_WORDS[strong[-1]] if len({SPLIT_WORDS[word] for word in strong}) == 1 else None
    rest = tuple(
        word
        for word in joined
        if not (role is not None and word in words) and not (split is not None and word in strong)
    )
    return NameParts(role, split, rest)


def _tokens(name: str) -> list[str]:
    return [token.lower() for token in _TOKEN.findall(name)]


def _divided(token: str) -> list[str]:
    """Divide a split from a role word that is joined to it, such as `trainannot`, `trainimages` or `imagestr`."""
    if token in SPLIT_WORDS or token in MASK_WORDS or token in IMAGE_WORDS:
        return [token]
    for word in ("training", "train", "validation", "valid", "val", "testing", "test"):
        for rest, parts in ((token.removeprefix(word), [word]), (token.removesuffix(word), [])):
            if rest != token and (rest in MASK_WORDS or rest in IMAGE_WORDS):
                return [*parts, rest] if parts else [rest, word]
    for word in ("tr", "ts"):  # nnU-Net: imagesTr, labelsTs
        rest = token.removesuffix(word)
        if rest != token and rest in ("images", "labels"):
            return [rest, word]
    return [token]


def _joined(tokens: list[str]) -> list[str]:
    """Join neighbours that are one word together: ground truth, seg map, label ids, left img 8 bit."""
    words, index = MASK_WORDS | IMAGE_WORDS, 0
    result: list[str] = []
    while index < len(tokens):
        for count in (4, 3, 2):
            together = "".join(tokens[index : index + count])
            if index + count <= len(tokens) and together in words and together not in WEAK_WORDS:
                result.append(together)
                index += count
                break
        else:
            result.append(tokens[index])
            index += 1
    return result


def _role(words: list[str], *roles: Role) -> Role | None:
    """Return the first of the roles that a word says; of both, the mask counts."""
    known = IMAGE_WORDS | MASK_WORDS | SPLIT_WORDS.keys()
    weak = all(word in known or word.isdigit() for word in words)
    for role in roles or ("mask", "image"):
        table = MASK_WORDS if role == "mask" else IMAGE_WORDS
        if any(word in table and (weak or word not in WEAK_WORDS) for word in words):
            return role
    return None
