"""`fullconv predict --engine ray`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fullconv.cli.console import progress_bar
from fullconv.cli.predicting.outcome import print_count, raise_failed
from fullconv.errors import UsageError

if TYPE_CHECKING:
    from fullconv.cluster.session import RayOptions
    from fullconv.cluster.worker import WorkerSpec

__all__ = ["predict_by_engine", "refuse_ray_options"]


def refuse_ray_options(address: str | None, workers: int | None) -> None:
    """Raise UsageError for options of Ray without Ray."""
    if address is not None or workers is not None:
        message = "--address and --workers need --engine ray; add it, or leave them out"
        raise UsageError(message, code="needs-ray")


def predict_by_engine(spec: WorkerSpec, arguments: Sequence[str], out: Path, ray_options: RayOptions) -> None:
    """Label the images that the arguments name on a Ray cluster, with a progress bar.

    Addresses among the arguments (s3://, gs://, https://, http://) are read. Raises the errors of `predict_on_ray`, and
    FullconvError that lists the images that failed.
    """
    from fullconv.cluster.engine import predict_on_ray

    images = _expand(arguments, out)
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=len(images))
        report = predict_on_ray(spec, images, ray_options, lambda image, message: bar.advance(task))
    print_count(report, out)
    raise_failed(report)


def _expand(arguments: Sequence[str], out: Path) -> list[str]:
    """Return the files, and the images of the addresses; each once.

    Only an argument is an address. A line of a list is a path, because others may have written the list.
    """
    from fullconv.cluster.remote import expand_addresses, is_address
    from fullconv.predict.inputs import expand_inputs

    remote = [one for one in arguments if is_address(one) and not os.path.lexists(one)]
    local = [one for one in arguments if one not in remote]
    return list(dict.fromkeys([*map(str, expand_inputs(local, out)), *expand_addresses(remote)]))
