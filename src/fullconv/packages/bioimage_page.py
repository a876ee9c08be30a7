"""The documentation in a package of bioimage.io."""

from __future__ import annotations

from fullconv.runtime.metadata import ModelMetadata

__all__ = ["make_page"]


def make_page(metadata: ModelMetadata, name: str, halo: int, step: int) -> str:
    """Return README.md: what the network labels, what it takes, how it was scored, and how to validate it.

    `halo` is 0 if blocks cannot be equal to the whole image.
    """
    info, low_high = metadata.info, metadata.info.input.value_range or (0.0, 255.0)
    classes = [f"| {index} | {_text(text)} |" for index, text in enumerate(info.labels.class_names)]
    blocks = (
        f"A label depends on at most {halo} pixels around it. Blocks whose sizes are multiples of {step} pixels and "
        f"whose halo of {halo} pixels is cropped give the labels of the whole image, if its sides are such multiples."
        if halo
        else "A label depends on the whole image. Results of blocks differ from those of the image."
    )
    parts = [
        f"# {_text(name)}",
        "A fully convolutional network that labels each pixel. It was trained and exported by fullconv.",
        "## Input and output",
        f"The input has {info.input.channels} channels with the values {low_high[0]:.10g} to {low_high[1]:.10g}, which "
        f"become the 256 levels 0 to 255. The network normalises them. The output is the probability of each class.",
        f"{blocks} The network itself takes images of any size; it pads them at their borders with zeros.",
        "\n".join(["| channel | class |", "|---|---|", *classes]),
        "## Validation",
        _scores(metadata),
        "To validate it on your images, label some of them by hand, take the class of the highest probability at each "
        "pixel, and compute the intersection over union of each class.",
    ]
    return "\n\n".join(parts) + "\n"


def _scores(metadata: ModelMetadata) -> str:
    scores = metadata.notes.get("scores")
    if not isinstance(scores, dict) or not isinstance(scores.get("mean_iou"), float):
        return "This file has no scores."
    each = scores.get("per_class_iou")
    rows = [f"| {_text(name)} | {_percent(value)} |" for name, value in each.items()] if isinstance(each, dict) else []
    table = "\n".join(["| class | IoU |", "|---|---|", *rows])
    return f"On its validation images the network has a mean IoU of {_percent(scores['mean_iou'])}.\n\n{table}"


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else "absent"


def _text(name: str) -> str:
    """Return a name for a table of Markdown, on one line and without markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#+-!|~" else sign for sign in " ".join(name.split()))
