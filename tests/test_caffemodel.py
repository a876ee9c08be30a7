"""Weights of Caffe's classifiers and nets are read from every form of .caffemodel, and other files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from caffe_side import CLASSES, HIDDEN, caffe_input, caffemodel, conv, entry, pool, random_layers, varint
from fullconv.errors import ModelError
from fullconv.net.classifiers.backbones import build_classifier
from fullconv.net.classifiers.caffemodel import read_caffemodel
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from nets import narrow_vgg16
from refusals import refuses


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_every_kind_of_caffemodel_is_read(old: bool, packed: bool, double: bool, tmp_path: Path) -> None:
    layers = random_layers("fcn32s")
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel(layers, old, packed, double))
    read = read_caffemodel(path)
    assert list(read) == list(layers)
    for name, values in layers.items():
        for blob, value in zip(read[name], values, strict=True):
            assert blob.ndim == (4 if old else value.ndim)
            assert torch.equal(blob.reshape(value.shape), value)


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    names = list(random_layers("fcn32s"))
    whole = caffemodel(random_layers("fcn32s"))
    path = tmp_path / "net.caffemodel"
    for cut in range(1, len(whole), len(whole) // 40):
        path.write_bytes(whole[:cut])
        try:  # a cut between two layers leaves a valid file with fewer layers
            read = list(read_caffemodel(path))
            assert read == names[: len(read)] != names
        except ModelError as error:
            assert error.code == "unreadable-caffemodel"  # noqa: PT017
    wrong = entry(100, entry(1, "a") + entry(7, entry(7, entry(1, varint(3))) + entry(5, bytes(8))))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    for content in (b"", b"<!DOCTYPE html>", pointer, b"\x89PNG\r\n\x1a\n", entry(1, "FCN"), wrong):
        path.write_bytes(content)
        with refuses("unreadable-caffemodel", "net.caffemodel") as refusal:
            read_caffemodel(path)
        assert "\n" not in refusal.message
    assert "a blob of shape (3,) holds 2 numbers" in refusal.message


@given(data=st.binary(max_size=60), cut=st.integers(0, 40), layer=st.sampled_from([b"", entry(100, b"")]))
def test_any_bytes_are_read_or_refused(data: bytes, cut: int, layer: bytes, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.getbasetemp() / "any.caffemodel"
    start = caffemodel({"a": (torch.ones(2, 3),)})
    path.write_bytes(layer + start[: len(start) - cut] + data)
    try:
        assert all(isinstance(value, Tensor) for blobs in read_caffemodel(path).values() for value in blobs)
    except ModelError as error:
        assert error.code == "unreadable-caffemodel"  # noqa: PT017


def test_classifier_weights_come_from_a_caffemodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fc6 as a 2-D linear layer, in the old format with four axes; the net then takes Caffe's images."""
    maker = {"vgg16": lambda: narrow_vgg16(HIDDEN, CLASSES)}
    monkeypatch.setattr("fullconv.net.classifiers.backbones.torchvision.models.get_model", lambda name: maker[name]())
    layers = random_layers("fcn32s")
    del layers["score_fr"], layers["upscore"]
    layers["fc6"] = layers["fc6"][0].flatten(1), layers["fc6"][1]
    layers["fc7"] = layers["fc7"][0].flatten(1), layers["fc7"][1]
    layers["fc8"] = torch.randn(CLASSES, HIDDEN), torch.randn(CLASSES)
    path = tmp_path / "VGG_ILSVRC_16_layers.caffemodel"
    path.write_bytes(caffemodel(layers, old=True))
    model, missing = build_classifier("vgg16", path)
    assert missing == frozenset()
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    net = build(NetSpec("vgg16", 3, 32), path)
    rgb = torch.from_numpy(image).permute(2, 0, 1)[None]
    x = caffe_input(image)
    for stage, count in enumerate((2, 2, 3, 3, 3), 1):
        for n in range(1, count + 1):
            x = conv(layers, f"conv{stage}_{n}", x, pad=1).relu()
        x = pool(x)
    for name in ("fc6", "fc7", "fc8"):
        x = functional.linear(x.flatten(1), *layers[name])
        x = x.relu() if name != "fc8" else x
    with torch.no_grad():
        logits = model.eval()((rgb / 255 - net.mean) / net.std)
    assert (logits - x).abs().max() <= 1e-4 * x.abs().max()
    with refuses("caffemodel-of-other-classifier", "digits", "vgg16 or caffenet"):
        build_classifier("digits", path)
    with refuses("no-imagenet-weights", "caffenet"):
        build_classifier("caffenet", "imagenet")
