"""A user's script that calls all of fullconv's Python interface. `make check` runs mypy --strict on it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import torchvision

import fullconv


def show(progress: fullconv.Progress) -> None:
    assert_type(progress.step, int)
    assert_type(progress.loss, float | None)
    assert_type(progress.scores, fullconv.Scores | None)


def main(data: str, out: Path) -> None:
    run = fullconv.train(data, epochs=20, stride=8, upsample="learned", out=out, on_progress=show)
    assert_type(run, fullconv.TrainResult)
    assert_type(run.model, Path | None)
    scores = fullconv.evaluate(run, data, split="val", backend="torch")
    assert_type(scores, fullconv.Scores)
    model = fullconv.load(run)
    assert_type(model, fullconv.Model)
    assert_type(model.predict("photo.jpg"), fullconv.Result)
    examination = fullconv.check(data, on_sample=lambda done, total: print(done / total))
    assert_type(examination, fullconv.Examination)
    exported = fullconv.export(run, out / "small.onnx", int8=True, data=data)
    assert_type(exported.path, Path)
    dense = fullconv.convolutionalize(torchvision.models.vgg16())
    assert_type(dense.coerced, list[str])
    assert_type(fullconv.fcn8s("resnet50", num_classes=5).spec.stride, int)
    fullconv.train(data, stride=7)  # type: ignore[arg-type]
    fullconv.load(run, backend="tensorflow")  # type: ignore[arg-type]
    fullconv.tarin(data)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main("mydata", Path("runs/typed"))
