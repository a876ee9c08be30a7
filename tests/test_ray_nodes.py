"""A node of a Ray cluster that is lost in the middle of a run loses nothing."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.cluster.engine import predict_on_ray
from fullconv.cluster.session import RayOptions
from fullconv.cluster.worker import WorkerSpec
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.runtime.models import model_path
from geotiffs import picture

if find_spec("ray") is None:  # it is imported by `ray_session`, after its settings
    pytest.skip("ray is not installed", allow_module_level=True)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_lost_node_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes on this machine, of which one dies after the first image. The run connects by the address."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    images = []
    for number in range(24):
        images.append(tmp_path / "in" / f"{number}.png")
        images[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(picture(60, 80, seed=number).astype(np.uint8)).save(images[-1])
    spec = WorkerSpec(model_path("street"), tmp_path / "out", ("labels", "areas"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        lost = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        removed: list[str] = []

        def lose(image: str, message: str | None) -> None:
            if not removed:
                removed.append(image)
                cluster.remove_node(lost, allow_graceful=False)

        report = predict_on_ray(spec, list(map(str, images)), RayOptions(cluster.address), lose)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert removed
    assert not report.failed
    assert len(report.done) == len(images)
    predict_files(spec.load(), images, tmp_path / "whole", PredictOptions(["labels", "areas"]))
    for path in (tmp_path / "whole").rglob("*"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
