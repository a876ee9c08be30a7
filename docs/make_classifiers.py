"""Try the classifiers of torchvision and timm and write docs/classifiers.md.

Each model is built with random weights, convolutionalized, compared with its dense form at its own size, made an
FCN-8s, trained for one step and run on an image of odd size. A line of classifiers.jsonl is written for each model as
soon as it is done, so the script can be stopped and started again; `--write` makes the page of what is there.
Torchvision's come first, then timm's: the smallest model of each family, then the second smallest of those that
convert, and so on.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import json
import signal
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from fullconv.errors import FullconvError
from fullconv.files import write_text
from fullconv.net.backbones import build_classifier, input_size
from fullconv.net.dense_check import randomize_scales
from fullconv.net.fcn import FCN
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import Surgery, convolutionalize

HERE = Path(__file__).parent
TARGET, LOG = HERE / "classifiers.md", HERE / "classifiers.jsonl"
ODD = (97, 131)
CROP, CLASSES = 96, 4
EQUAL = 1e-4

HEAD = f"""# Which classifiers convert

Written by `docs/make_classifiers.py` from what it measured (torch {torch.__version__.partition("+")[0]}, torchvision
{torchvision.__version__.partition("+")[0]}, timm {timm.__version__}); run it, do not change the page.

Every model has random weights and its own input size. **Fidelity** compares a cell of the dense map with the classifier
on the crop that geometry names: *exact*; *padding*: the classifier pads its crops where the dense map sees the image;
*global context*: values made of the whole image come back into the map (squeeze-and-excitation, group norm,
attention), so that tiles differ from the whole image too. `fullconv inspect MODEL --check` tells which cells
differ and by how much.
**Logits** is the largest difference between the classifier and its dense form at the classifier's own size, relative
to the largest logit, in float32. **FCN-8s** says whether one training step (two crops of {CROP} x {CROP}) has a finite
loss and changes the weights, and whether an image of {ODD[0]} x {ODD[1]} comes out labelled at its size.
"""


class _TooLong(Exception):
    pass


def measure(name: str) -> dict[str, Any]:
    """One model's row; refusals are rows too."""
    torch.manual_seed(0)
    size = input_size(name)
    row: dict[str, Any] = {"size": list(size), "converted": False}
    model = randomize_scales(build_classifier(name)[0]).eval()
    row["params"] = sum(p.numel() for p in model.parameters())
    try:
        dense = convolutionalize(model, size)
        row |= {"converted": True, "fidelity": dense.fidelity, "logits": _difference(model, dense)}
    except FullconvError as error:
        return row | {"reason": _sentence(error)}
    try:
        net = FCN(dense, NetSpec(name, CLASSES, 8))
        row |= {"trained": _train(net), "predicted": _predict(net)}
    except FullconvError as error:
        row["no_fcn8s"] = _sentence(error)
    return row


def _difference(model: nn.Module, dense: Surgery) -> float:
    image = torch.rand(1, 3, *dense.size)
    with torch.no_grad():
        expected = model(image)
        got = dense.apply_end(dense.module.eval()(image))
    if got.shape != (*expected.shape, 1, 1):
        return float("inf")
    return float((got.flatten(1) - expected).abs().max() / expected.abs().max())


def _train(net: FCN) -> bool:
    net.train()
    before = [value.clone() for value in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    images = torch.randint(0, 256, (2, 3, CROP, CROP), dtype=torch.uint8)
    target = torch.randint(0, CLASSES, (2, CROP, CROP))
    loss = functional.cross_entropy(net(images), target)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    changed = any(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
    return bool(torch.isfinite(loss)) and changed


def _predict(net: FCN) -> bool:
    with torch.no_grad():
        logits = net.eval()(torch.randint(0, 256, (1, 3, *ODD), dtype=torch.uint8))
    return logits.shape == (1, CLASSES, *ODD) and bool(torch.isfinite(logits).all())


def _sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].replace("|", "/")[:200]


def read(log: Path) -> dict[str, dict[str, Any]]:
    """The rows that are there, by model."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {row["model"]: row for row in rows}


def plan(counted: Path, rows: dict[str, dict[str, Any]], largest: float) -> Iterator[tuple[str, str]]:
    """(family, model) in the order of trying.

    Later rounds leave out families that have refused two models, and models with more than `largest` parameters.
    """
    for name in torchvision.models.list_models(module=torchvision.models):
        yield "torchvision", name
    sizes = count_sizes(counted)
    families = {family: _by_size(timm.list_models(module=family), sizes) for family in timm.list_modules()}
    for place in range(max(map(len, families.values()))):
        for family, names in families.items():
            tried = [rows[_label(name)] for name in names[:place] if _label(name) in rows]
            if place >= len(names) or (place > 0 and sizes.get(names[place], 0) > largest):
                continue
            if len(tried) < 2 or any(row["converted"] for row in tried):
                yield family, _label(names[place])


def _label(name: str) -> str:
    return f"timm/{name}"


def _by_size(names: list[str], sizes: dict[str, int]) -> list[str]:
    """Smallest first; those that nobody has counted last."""
    return sorted(names, key=lambda name: (sizes.get(name, 1 << 62), name))


def count_sizes(file: Path) -> dict[str, int]:
    """Parameters of every model of timm, counted once and kept in `file`."""
    sizes: dict[str, int] = json.loads(file.read_text()) if file.is_file() else {}
    for name in timm.list_models():
        if name not in sizes:
            try:
                with torch.device("meta"):
                    sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
            except Exception:
                sizes[name] = 1 << 61
            if len(sizes) % 20 == 0:
                write_text(file, json.dumps(sizes))
    write_text(file, json.dumps(sizes))
    return sizes


def document(rows: dict[str, dict[str, Any]]) -> str:
    """The page."""
    by_family: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.values():
        by_family[row["family"]].append(row)
    parts = [HEAD, "## In numbers", "", *_counts(by_family), ""]
    for title, wanted in (("torchvision", ["torchvision"]), ("timm", sorted(set(by_family) - {"torchvision"}))):
        done = [row for family in wanted for row in by_family[family] if row["converted"]]
        parts += [
            f"## {title}",
            "",
            "| family | model | input | fidelity | logits | FCN-8s |",
            "|---|---|---|---|---|---|",
        ]
        parts += [_line(row) for row in done]
        parts += ["", f"### Refused by {title}", "", "| family | model | why |", "|---|---|---|"]
        for family in wanted:
            refused = [row for row in by_family[family] if not row["converted"]]
            some = any(row["converted"] for row in by_family[family])
            shown = refused if some or family == "torchvision" else refused[:1]
            parts += [f"| {family} | {row['model']} | {row['reason']} |" for row in shown]
        parts += [""]
    return "\n".join(parts).rstrip() + "\n"


def _line(row: dict[str, Any]) -> str:
    works = row.get("no_fcn8s") or ("yes" if row.get("trained") and row.get("predicted") else "no")
    size = "x".join(str(n) for n in row["size"])
    return f"| {row['family']} | {row['model']} | {size} | {row['fidelity']} | {row['logits']:.0e} | {works} |"


def _counts(by_family: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = []
    for title in ("torchvision", "timm"):
        families = {f: rows for f, rows in by_family.items() if (f == "torchvision") == (title == "torchvision")}
        rows = [row for rows in families.values() for row in rows]
        done = [row for row in rows if row["converted"]]
        kinds = Counter(row["fidelity"] for row in done)
        equal = sum(row["logits"] <= EQUAL for row in done)
        fcn = [row for row in done if row.get("trained") and row.get("predicted")]
        told = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()) if kind != "exact")
        lines += [
            f"{title}: {len(rows)} models tried: {len(done)} converted ({told}), {_exact(kinds['exact'])}, "
            f"{len(rows) - len(done)} refused. {equal} of the converted have equal logits at their own size (relative "
            f"difference at most {EQUAL:.0e}); {len(fcn)} train and predict as FCN-8s.",
            "",
        ]
        if title == "timm":
            some = {row["family"] for row in fcn}
            none = sorted(f for f, rows in families.items() if not any(row["converted"] for row in rows))
            lines += [
                f"Families of timm: {len(timm.list_modules())}; tried {len(families)}; with an FCN-8s {len(some)}; "
                f"refused {len(none)} ({', '.join(none)})."
            ]
    return lines


def _exact(count: int) -> str:
    return f"{count} of them exact" + ("" if count else ", as all of them pad their maps")


def main() -> None:
    """Go on with the measurements, then write the page."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", help="Models whose name matches, such as 'timm/resnet*'.")
    parser.add_argument("--limit", metavar="N", type=int, default=1 << 30, help="Stop after so many more models.")
    parser.add_argument(
        "--largest", metavar="N", type=float, default=60e6, help="Leave out models with more parameters."
    )
    parser.add_argument("--seconds", metavar="N", type=int, default=900, help="Give up on a model after so long.")
    parser.add_argument("--sizes", metavar="FILE", type=Path, default=Path("build/timm_sizes.json"))
    parser.add_argument("--write", action="store_true", help="Only write the page.")
    options = parser.parse_args()
    rows = read(LOG)
    if not options.write:
        signal.signal(signal.SIGALRM, _stop)
        left = options.limit
        for family, name in plan(options.sizes, rows, options.largest):
            if left == 0:
                break
            if (name in rows and "fault" not in rows[name]) or not fnmatch.fnmatch(name, options.only or "*"):
                continue
            rows[name] = {"family": family, "model": name, **_timed(name, options.seconds)}
            with LOG.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[name]) + "\n")
            print(json.dumps(rows[name]), flush=True)
            left -= 1
    write_text(TARGET, document(rows))


def _timed(name: str, seconds: int) -> dict[str, Any]:
    start = time.process_time()
    signal.alarm(seconds)
    try:
        row = measure(name)
    except _TooLong:
        row = {"converted": False, "reason": f"not done within {seconds} s"}
    except (RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        row = {"converted": False, "reason": f"{type(error).__name__}: {_sentence(error)}", "fault": True}
    finally:
        signal.alarm(0)
        gc.collect()
    return row | {"seconds": round(time.process_time() - start, 1)}


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TooLong


if __name__ == "__main__":
    main()
