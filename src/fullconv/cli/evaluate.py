"""The command `fullconv evaluate`."""

from __future__ import annotations

from pathlib import Path

from fullconv.cli.console import TTA_COST, print_scores, sample_bar, say, write_results
from fullconv.cli.options.reading import reads_data
from fullconv.cli.options.shared import (
    BackendName,
    Data,
    DeviceName,
    JsonFile,
    ModelCode,
    RangeText,
    ScoredSplitName,
    Trained,
    Tta,
)
from fullconv.cli.values import refuse_overwriting
from fullconv.data.reading import Reading

__all__ = ["evaluate"]


@reads_data
def evaluate(
    model: Trained,
    data: Data,
    split: ScoredSplitName = "val",
    json_file: JsonFile = None,
    backend: BackendName = None,
    device: DeviceName = "auto",
    tta: Tta = False,
    value_range: RangeText = None,
    model_code: ModelCode = None,
    *,
    reading: Reading,
) -> None:
    """Score a model on labelled images.

    Prints the paper's four scores: pixel accuracy, mean accuracy, mIoU (mean IU in the paper's tables) and
    frequency-weighted IU. Then prints the IoU of each class. If MODEL is a run folder, DATA
    are read with the options of its training, unless you give others; for a fold of `train --folds`, val is that fold.
    """
    from fullconv import api
    from fullconv.predict.ranges import parse_range

    bounds = None if value_range is None else parse_range(value_range)
    refuse_overwriting(json_file, data=data, inputs=[Path(model)])
    if tta:
        say(TTA_COST)
    with sample_bar("scoring") as on_sample:
        scores = api.evaluate(
            model,
            data,
            split=split,
            backend=backend,
            device=device,
            value_range=bounds,
            code=model_code,
            tta=tta,
            on_sample=on_sample,
            **reading,
        )
    write_results(json_file, scores.to_dict(), lambda: print_scores(scores))
