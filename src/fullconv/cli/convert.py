"""The command `fullconv convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fullconv.choices import SplitOrAll, WrittenLayout, join_words
from fullconv.cli.console import emit, progress_bar, say
from fullconv.cli.options.reading import reads_data
from fullconv.cli.options.shared import Data
from fullconv.data.reading import Reading, ReadingOptions

__all__ = ["convert"]


@reads_data
def convert(
    data: Data,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write: a new or an empty one.")],
    to: Annotated[WrittenLayout, typer.Option(metavar=join_words(WrittenLayout), help="Layout to write.")],
    split: Annotated[SplitOrAll, typer.Option(metavar=join_words(SplitOrAll), help="The images to write.")] = "all",
    *,
    reading: Reading,
) -> None:
    """Write labelled images in another layout.

    Reads every layout that train reads. The copy is exact: it has the same splits, class names, images and label maps,
    including ignored pixels. Image files are copied byte by byte. OUT is written atomically.
    """
    from fullconv.data.layouts import find_dataset
    from fullconv.data.splits import SPLITS
    from fullconv.data.writers.write import convert as write

    dataset = find_dataset(data, ReadingOptions(**reading))
    for note in dataset.notes:
        say(f"{data}: {note}")
    splits = SPLITS if split == "all" else (split,)
    total = sum(len(dataset.splits.get(name, ())) for name in splits)
    with progress_bar() as bar:
        task = bar.add_task("converting", total=total)
        counts = write(dataset, out, to, splits, lambda: bar.advance(task))
    written = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    emit(f"{out}: {written}; {dataset.labels.num_classes} classes, as {to}")
