"""Images of one, four and more channels: reading, networks, training, export and prediction."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import fullconv
from command_line import run as run_command
from fullconv.data.channels import measure_channels
from fullconv.data.layouts import find_dataset
from fullconv.errors import DataError, UsageError
from fullconv.images import (
    InputFormat,
    image_size,
    open_image,
    read_header,
    read_image,
    read_label_map,
    rgb_view,
    write_label_map,
)
from fullconv.images.decoders import available
from fullconv.images.decoders.values import to_bytes
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, read_saved, save_net
from fullconv.net.classifiers.backbones import build_classifier
from fullconv.net.fcn.network import build, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.network import inspect_fcn
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.surgery.input_channels import adapt_input_channels, adapt_kernel
from fullconv.net.torch_runner import TorchRunner
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.runtime.load import load_runner
from fullconv.runtime.patchwise import PatchwiseRunner
from fullconv.runtime.tiles import TiledRunner
from fullconv.training.augment import Augmentation, BandJitter
from nets import lively
from refusals import refuses

pytestmark = [
    pytest.mark.filterwarnings("ignore::Warning:lightning"),
    pytest.mark.filterwarnings("ignore:Dataset has no geotransform"),
]

LABELS = LabelSet.named(["ground", "water", "wood"])
Numbers = npt.NDArray[np.generic]


def scene(seed: int, channels: int) -> tuple[npt.NDArray[np.uint8], Numbers]:
    """Return a 72 x 88 x C image and its label map; only the last channel shows the classes."""
    random = np.random.default_rng(seed)
    target = random.integers(0, 3, (3, 4), np.uint8).repeat(24, 0).repeat(22, 1)
    image = random.integers(90, 130, (*target.shape, channels), np.uint8)
    image[..., -1] = 40 + 80 * target + random.integers(0, 30, target.shape)
    return image, target


def write_tiff(path: Path, image: Numbers, **profile: object) -> None:
    height, width, count = image.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=image.dtype, **profile
    ) as file:
        file.write(np.moveaxis(image, -1, 0))


def write_folder(
    root: Path, channels: int, suffix: str, write: Callable[[Path, Numbers], None], extra: str = "", train: int = 6
) -> Path:
    for split, count, seed in (("train", train, 0), ("val", 2, 100)):
        (root / "images" / split).mkdir(parents=True)
        for number in range(count):
            image, target = scene(seed + number, channels)
            write(root / "images" / split / f"{number}{suffix}", image)
            write_label_map(root / "masks" / split / f"{number}.png", target, LABELS)
    (root / "dataset.yaml").write_text(f"names: [ground, water, wood]\n{extra}")
    return root


def reflectances(path: Path, image: Numbers) -> None:
    np.save(path, image.astype(np.float32) * 40)


def deep_tiff(path: Path, image: Numbers) -> None:
    write_tiff(path, image.astype(np.uint16) * 257)


def rgba(path: Path, image: Numbers) -> None:
    Image.fromarray(image, "RGBA").save(path)


def grey(path: Path, image: Numbers) -> None:
    Image.fromarray(image[..., 0]).save(path)


KINDS = {
    "five bands of floats": (5, ".npy", reflectances, "range: [0, 10200]\n"),
    "four bands of 16 bits": (4, ".tif", deep_tiff, ""),
    "alpha as a channel": (4, ".png", rgba, "channels: 4\n"),
    "one channel": (1, ".png", grey, "channels: 1\n"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_from_training_to_the_exported_file(tmp_path, monkeypatch, capsys, kind):
    """By the command line; torch and the ONNX file read the same bytes and give the same labels."""
    channels, suffix, write, extra = KINDS[kind]
    data, run = write_folder(tmp_path / "data", channels, suffix, write, extra), tmp_path / "run"
    options = ["--epochs", "2", "--batch", "2", "--crop", "64", "--lr", "0.001", "--set", "ema=0"]
    shape = ["--model", "digits", "--weights", "none", "--stride", "8"]
    assert run_command(monkeypatch, "train", data, *shape, *options, "--out", run) == 0, capsys.readouterr()
    assert re.search(rf"channels +{channels}, mean 0\.", capsys.readouterr().err)
    spec = read_saved(run).spec
    assert (spec.channels, spec.value_range) == (channels, (0.0, 10200.0) if "range" in extra else None)
    assert run_command(monkeypatch, "train", data, *shape, *options, "--out", run, "--resume") == 0, capsys.readouterr()
    assert run_command(monkeypatch, "export", run) == 0, capsys.readouterr()
    for model in (run, run / "model.onnx"):
        assert run_command(monkeypatch, "evaluate", model, data) == 0, capsys.readouterr()
    images = data / "images" / "val"
    outs = {}
    for name, model in (("torch", run), ("onnx", run / "model.onnx")):
        outs[name] = tmp_path / name
        assert run_command(monkeypatch, "predict", model, images, "--out", outs[name]) == 0, capsys.readouterr()
    runner, exported = load_runner(run), load_runner(run / "model.onnx")
    images_of_model = InputFormat(channels, spec.value_range)
    assert runner.info.input == exported.info.input == images_of_model
    for number in range(2):
        image = read_image(images / f"{number}{suffix}", InputFormat(channels, spec.value_range)).pixels
        assert np.array_equal(image, scene(100 + number, channels)[0])
        ours, theirs = (one.logits(image[None]) for one in (runner, exported))
        assert np.abs(ours - theirs).max() < 1e-3 * max(1, np.abs(ours).max())
        labels = [read_label_map(out / f"{number}.png") for out in outs.values()]
        sure = np.diff(np.sort(ours[0], 0)[-2:], axis=0)[0] > 1e-3
        assert np.array_equal(labels[0][sure], labels[1][sure])
        assert labels[0].shape == image.shape[:2]
        assert read_image(outs["onnx"] / "overlays" / f"{number}.jpg").pixels.shape == (*image.shape[:2], 3)


@given(
    channels=st.integers(1, 9).filter(lambda n: n != 3),
    kernel=arrays(np.float32, (2, 3, 3, 3), elements=st.floats(-4, 4, width=32)),
    seed=st.integers(0, 1000),
)
def test_equal_channels_get_the_response_of_grey(channels, kernel, seed):
    weights = torch.from_numpy(kernel)
    wide = adapt_kernel(weights, channels)
    assert wide.shape == (2, channels, 3, 3)
    image = torch.rand(1, 1, 8, 9, generator=torch.Generator().manual_seed(seed))
    ours = nn.functional.conv2d(image.expand(-1, channels, -1, -1), wide)
    torch.testing.assert_close(ours, nn.functional.conv2d(image.expand(-1, 3, -1, -1), weights), atol=1e-4, rtol=1e-4)
    if channels > 3:
        torch.testing.assert_close(wide[:, :3] * channels / 3, weights)


@pytest.mark.parametrize("name", ["digits", "mobilenet_v2", "resnet18", "tf_efficientnet_b0"])
@pytest.mark.parametrize("channels", [1, 6])
def test_a_network_with_more_channels_gives_the_rgb_networks_response_to_grey(name, channels):
    """Also if a classifier pads before its first convolution; the padding of the image is 0."""
    if name.startswith("tf_") and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    torch.manual_seed(0)
    model = build_classifier(name)[0].eval()
    dense = convolutionalize(model, (96, 96))
    wide = adapt_input_channels(convolutionalize(model, (96, 96)), channels)
    assert any(f"one of {channels}" in entry for entry in wide.coerced)
    image = torch.randn(1, 1, 96, 96)
    with torch.no_grad():
        expected = dense.module.eval()(image.expand(-1, 3, -1, -1))
        torch.testing.assert_close(
            wide.module.eval()(image.expand(-1, channels, -1, -1)), expected, atol=1e-4, rtol=1e-3
        )


def test_pretrained_kernels_are_kept_and_the_mean_is_added():
    """A network with other channels starts from the pretrained weights."""
    plain, wide = (build(NetSpec("mobilenet_v2", 3, 16, channels=n), "pretrained") for n in (3, 5))
    ours, theirs = (net.state_dict()["backbone.features.0.0.weight"] for net in (wide, plain))
    torch.testing.assert_close(ours[:, :3], theirs * 3 / 5)
    torch.testing.assert_close(ours[:, 3:], (theirs.mean(1, keepdim=True) * 3 / 5).expand(-1, 2, -1, -1))
    same = wide.state_dict().keys() - {"backbone.features.0.0.weight", "mean", "std"}
    assert all(torch.equal(plain.state_dict()[name], wide.state_dict()[name]) for name in same)


def test_networks_that_need_rgb_raise_an_error_for_other_channels():
    """GoogLeNet scales red, green and blue one by one; Caffe's weights have units of their own."""
    with refuses("rgb-only", "reads the image before any convolution"):
        rebuild(NetSpec("googlenet", 3, 32, channels=4))
    with refuses("caffe-weights-rgb-only", "4 channels"):
        build(NetSpec("vgg16", 3, 32, channels=4), "vgg.caffemodel")


def test_mean_and_deviation_are_those_of_the_training_images(tmp_path):
    data = write_folder(tmp_path, 5, ".npy", np.save)
    mean, deviation = measure_channels(find_dataset(data))
    pixels = np.concatenate([scene(number, 5)[0].reshape(-1, 5) for number in range(6)]) / 255
    np.testing.assert_allclose(mean, pixels.mean(0))
    np.testing.assert_allclose(deviation, pixels.std(0))


def test_a_channel_that_is_constant_can_be_divided_by(tmp_path):
    data = write_folder(tmp_path, 5, ".npy", lambda path, image: np.save(path, np.full_like(image, 7)))
    mean, deviation = measure_channels(find_dataset(data))
    np.testing.assert_allclose(mean, 7 / 255)
    np.testing.assert_allclose(deviation, 1 / 255)


@given(
    stored=arrays(np.uint16, (3, 4, 2)),
    low=st.integers(-1000, 40_000),
    width=st.integers(1, 60_000),
)
def test_the_range_becomes_bytes_and_the_rest_is_clipped(stored, low, width):
    found = to_bytes(stored, (low, low + width), "a.npy")
    exact = np.clip((stored.astype(np.float64) - low) / width, 0, 1) * 255
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() <= 0.5 + 1e-2


def test_without_a_range_numbers_follow_the_rules_of_images():
    deep = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 8, 2)
    assert np.array_equal(to_bytes(deep, None, "a").ravel(), np.arange(256))
    assert np.array_equal(to_bytes(np.arange(256).reshape(1, -1, 2) / 255, None, "a").ravel(), np.arange(256))
    same = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    assert np.array_equal(to_bytes(same, (0, 1000), "a"), same)
    with refuses("value-range", "a: ", "`range: [0, 10000]`"):
        to_bytes(np.array([[[0.0, 1e4]]], np.float16), None, "a")
    with refuses("unsupported-format", "a: ", "complex64"):
        to_bytes(np.zeros((2, 2, 2), np.complex64), None, "a")


@pytest.mark.parametrize("reader", ["rasterio", "tifffile"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_tiffs_of_many_bands(tmp_path, monkeypatch, reader, interleave):
    """Whole and in windows, by either library; pixels of the nodata value are 0."""
    monkeypatch.setattr(available, "find_spec", lambda name: True if name == reader else None)
    image, path = scene(1, 5)[0].astype(np.float32), tmp_path / "a.tif"
    image[3:9, 5:20] = np.nan
    write_tiff(path, image, interleave=interleave, nodata=np.nan)
    header = read_header(path)
    assert (header.size, header.bands, header.channels) == ((72, 88), 5, 5) == (image_size(path), 5, 5)
    expected = np.nan_to_num(image).astype(np.uint8)
    assert np.array_equal(read_image(path, InputFormat(5, (0, 255))).pixels, expected)
    with open_image(path, InputFormat(5, (0, 255))) as raster:
        window, empty = raster.read(range(2, 40), range(4, 60))
    assert np.array_equal(window, expected[2:40, 4:60])
    assert np.array_equal(empty, np.isnan(image[2:40, 4:60, 0]))
    for channels in (4, 6):
        with refuses("band-count", path, 5, channels):
            read_image(path, InputFormat(channels))
    first = read_image(path, InputFormat(3, (0, 255)))
    assert np.array_equal(first.pixels, expected[..., :3])
    assert first.note == "5 bands, of which the first 3 are read"


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_windows_of_tiffs_equal_parts_of_the_whole_image(tmp_path, capfd, count, dtype, interleave):
    """For all types and numbers of bands, and without messages of the libraries on stderr."""
    image = np.random.default_rng(count).integers(0, 256, (30, 40, count))
    path = tmp_path / "a.tif"
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    write_tiff(path, (image * scale).astype(dtype), interleave=interleave)
    for value_range in (None, (0.0, 200.0 * scale)):
        whole = read_image(path, InputFormat(count, value_range)).pixels
        with open_image(path, InputFormat(count, value_range)) as raster:
            assert np.array_equal(raster.read(range(5, 20), range(7, 40))[0], whole[5:20, 7:40])
            assert raster.size == image_size(path)
    assert np.array_equal(read_image(path, InputFormat(count)).pixels, image)
    assert capfd.readouterr().err == ""


def test_without_a_reader_of_bands_the_extra_is_named(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", scene(1, 5)[0].astype(np.uint16))
    monkeypatch.setattr(available, "find_spec", lambda name: None)
    with refuses("missing-extra", tmp_path / "a.tif", "rasterio", "[geo]"):
        read_image(tmp_path / "a.tif", InputFormat(5))


@pytest.mark.parametrize(
    ("mode", "suffix", "gives"),
    [
        ("L", ".png", {1: 1, 3: 3}),
        ("LA", ".png", {1: 1, 2: 2, 3: 3}),
        ("RGB", ".tif", {3: 3}),
        ("RGBA", ".png", {3: 3, 4: 4}),
        ("RGBA", ".tif", {3: 3, 4: 4}),
        ("P", ".png", {3: 3}),
        ("CMYK", ".tif", {3: 3}),
        ("I;16", ".tif", {1: 1, 3: 3}),
        ("1", ".png", {1: 1, 3: 3}),
    ],
)
def test_each_image_can_be_read_with_the_channels_that_its_header_lists(tmp_path, mode, suffix, gives):
    """RGB unless other channels are asked for, of which those of alpha and of grey can be had; the header knows."""
    path, random = tmp_path / f"a{suffix}", np.random.default_rng(0)
    source = Image.fromarray(random.integers(0, 256, (6, 7, 4), np.uint8), "RGBA")
    image = Image.fromarray(random.integers(0, 65536, (6, 7), np.uint16)) if mode == "I;16" else source.convert(mode)
    image.save(path)
    header = read_header(path)
    assert (header.channels, header.size) == (3, (6, 7))
    assert {n for n in range(1, 8) if header.gives(n)} == set(gives)
    for channels in range(1, 6):
        if channels not in gives:
            with refuses("band-count", path, channels):
                read_image(path, InputFormat(channels))
            continue
        found = read_image(path, InputFormat(channels)).pixels
        assert (found.shape, found.dtype) == ((6, 7, channels), np.uint8)
        if channels == 3:
            assert np.array_equal(found, read_image(path).pixels)
        elif mode in ("L", "LA", "RGBA"):
            assert np.array_equal(
                found.squeeze(),
                np.asarray(image)[..., :channels].squeeze() if channels > 1 else np.asarray(image.getchannel(0)),
            )


def test_turned_photographs_stay_upright_with_other_channels(tmp_path):
    image = Image.fromarray(scene(1, 4)[0], "RGBA")
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", InputFormat(4)).pixels, np.rot90(scene(1, 4)[0], -1))
    assert image_size(tmp_path / "a.png") == (88, 72)


def test_a_range_stretches_grey_of_twelve_bits(tmp_path):
    """Also to RGB, and in windows; colours of 16 bits in PNG are not read to the last bit and refused."""
    deep = np.random.default_rng(0).integers(0, 4096, (30, 40), np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", deep)
    expected = np.rint(deep / 4095 * 255)
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        found = read_image(path, InputFormat(3, (0, 4095))).pixels
        assert np.abs(found - expected[..., None]).max() <= 1
        assert np.array_equal(read_image(path, InputFormat(1, (0, 4095))).pixels, found[..., :1])
        with open_image(path, InputFormat(3, (0, 4095))) as raster:
            assert np.array_equal(raster.read(range(30), range(40))[0], found)
    colors = deep[..., None].repeat(3, 2)
    with rasterio.open(tmp_path / "b.png", "w", driver="PNG", height=30, width=40, count=3, dtype=np.uint16) as file:
        file.write(np.moveaxis(colors, -1, 0))
    with refuses("unsupported-format", tmp_path / "b.png"):
        read_image(tmp_path / "b.png", InputFormat(3, (0, 4095)))
    write_tiff(tmp_path / "b.tif", colors, photometric="RGB")
    assert np.abs(read_image(tmp_path / "b.tif", InputFormat(3, (0, 4095))).pixels - expected[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("array", "code", "value"),
    [
        (np.array([[[0.5, np.nan]]]), "not-finite", "NaN"),
        (np.full((4, 5, 6), np.inf, np.float32), "not-finite", "infinite"),
        (np.zeros((5, 40, 60)), "unsupported-format", "np.moveaxis"),
        (np.zeros((2, 3, 4, 5)), "unsupported-format", "2 x 3 x 4 x 5 float64"),
        (np.array([["a"]]), "unsupported-format", "<U1"),
        (np.array([{}]), "unreadable-file", "array"),
        (np.zeros((0, 4, 5)), "too-large", "4 x 0 pixels"),
    ],
)
def test_arrays_that_are_not_images_raise_an_error_of_one_sentence(tmp_path, array, code, value):
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    with refuses(code, value) as refusal:
        read_image(path, InputFormat(array.shape[-1] if array.ndim > 2 else 1))
    assert refusal.message.startswith(f"{path}: ")
    assert "\n" not in refusal.message


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00"])
def test_npy_files_without_an_array_raise_an_error(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with refuses("unreadable-file" if content else "empty-file", tmp_path / "a.npy"):
        read_image(tmp_path / "a.npy", InputFormat(5))
    with refuses("missing-file", tmp_path / "b.npy", "no such file"):
        read_image(tmp_path / "b.npy", InputFormat(5))


def test_the_fault_of_mixed_channels_names_two_files(tmp_path):
    data = write_folder(tmp_path, 5, ".npy", np.save)
    odd = data / "images" / "train" / "3.npy"
    np.save(odd, scene(3, 4)[0])
    with pytest.raises(DataError) as caught:
        find_dataset(data)
    (fault,) = caught.value.faults
    assert (fault.kind, fault.path) == ("band-count", odd)
    assert str(data / "images" / "train" / "0.npy") in fault.problem
    assert "`channels" not in fault.remedy
    (data / "dataset.yaml").write_text("names: [ground, water, wood]\nchannels: 5\n")
    with pytest.raises(DataError) as caught:
        find_dataset(data)
    (fault,) = caught.value.faults
    assert (fault.kind, fault.path) == ("band-count", odd)
    assert "`channels: 5`" in fault.problem


def test_the_remedy_of_mixed_channels_works(tmp_path):
    """A number of channels is offered where every image gives it, and then the data set is read."""
    data = write_folder(tmp_path, 3, ".tif", lambda path, rgb: Image.fromarray(rgb).save(path))
    odd = data / "images" / "train" / "3.tif"
    rgbx = np.dstack([scene(3, 3)[0], np.zeros(scene(3, 3)[0].shape[:2], np.uint8)])
    Image.frombytes("RGBX", rgbx.shape[1::-1], rgbx.tobytes()).save(odd)
    with pytest.raises(DataError) as caught:
        find_dataset(data)
    (fault,) = caught.value.faults
    assert (fault.kind, fault.path) == ("band-count", odd)
    assert fault.remedy.endswith("`channels: 3`")
    (data / "dataset.yaml").write_text("names: [ground, water, wood]\nchannels: 3\n")
    assert find_dataset(data).channels == 3


def test_dataset_yaml_may_describe_only_the_images(tmp_path):
    """The classes then come from the masks or from classes.txt, as without the file."""
    data = write_folder(tmp_path, 1, ".png", grey)
    assert (find_dataset(data).channels, find_dataset(data).value_range) == (3, None)
    (data / "dataset.yaml").write_text("channels: 1\nrange: [0, 4095]\n")
    found = find_dataset(data)
    assert (found.channels, found.value_range, found.labels.class_names[-1]) == (1, (0.0, 4095.0), "class_2")
    (data / "classes.txt").write_text("ground\nwater\nwood\n")
    assert find_dataset(data).labels == LABELS
    image, target = find_dataset(data).read(find_dataset(data).split("val")[0])
    assert (image.shape, target.shape) == ((72, 88, 1), (72, 88))


@pytest.mark.parametrize(
    ("extra", "value"),
    [
        ("channels: 0\n", "'channels' is 0"),
        ("channels: true\n", "'channels' is True"),
        ("chanels: 4\n", "'chanels'"),
        ("range: [1, 1]\n", "'range' is [1, 1]"),
        ("range: 255\n", "'range' is 255"),
    ],
)
def test_wrong_channels_and_ranges_in_dataset_yaml_are_faults(tmp_path, extra, value):
    data = write_folder(tmp_path, 5, ".npy", np.save, extra)
    with pytest.raises(DataError) as caught:
        find_dataset(data)
    (fault,) = caught.value.faults
    assert (fault.kind, fault.path) == ("class-names", data / "dataset.yaml")
    assert value in fault.problem


def test_arrays_with_the_stem_of_an_image_are_not_images(tmp_path):
    """Files such as the images' features change nothing."""
    data = write_folder(tmp_path, 4, ".png", rgba)
    np.save(data / "images" / "train" / "0.npy", np.zeros(3))
    found = find_dataset(data)
    assert found.channels == 3
    assert {sample.image.suffix for sample in found.split("train")} == {".png"}


def test_files_written_before_channels_existed_are_loaded(tmp_path):
    net = build(NetSpec("digits", 3, 32))
    save_net(tmp_path / "new.safetensors", net.state_dict(), Saved(net.spec, LABELS))
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        meta = json.loads(file.metadata()["fullconv"])
    del meta["spec"]["channels"], meta["spec"]["value_range"]
    old = tmp_path / "old.safetensors"
    save_file(load_file(tmp_path / "new.safetensors"), old, {"fullconv": json.dumps(meta)})
    found, saved = load_net(old)
    assert saved.spec == net.spec
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in found.state_dict().items())


def test_a_range_survives_the_file(tmp_path):
    net = build(NetSpec("digits", 3, 32, channels=5, value_range=(-1.5, 10_000.0)))
    net.set_normalization((0.1, 0.2, 0.3, 0.4, 0.5), (0.05,) * 5)
    save_net(tmp_path / "a.safetensors", net.state_dict(), Saved(net.spec, LABELS))
    found, saved = load_net(tmp_path / "a.safetensors")
    assert saved.spec == net.spec
    assert torch.equal(found.mean, net.mean)
    assert TorchRunner(found, LABELS).info.input == InputFormat(5, (-1.5, 10_000.0))
    rows = {row.name: row for row in inspect_fcn(saved.spec).rows}
    assert rows["backbone.features.0"].params == 5 * 24 * 4 * 4


@pytest.fixture(scope="module")
def five() -> TorchRunner:
    torch.manual_seed(3)
    return TorchRunner(lively(build(NetSpec("digits", 3, 8, channels=5))), LABELS)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_tiles_read_many_bands_in_windows(tmp_path, monkeypatch, five, suffix):
    """Labels of tiles are those of the whole image, and --verify finds the same."""
    path = tmp_path / f"a{suffix}"
    image = np.random.default_rng(0).integers(0, 256, (300, 280, 5), np.uint8)
    np.save(path, image) if suffix == ".npy" else write_tiff(path, image, tiled=True, blockxsize=64, blockysize=64)
    save_net(tmp_path / "a.safetensors", five.net.state_dict(), Saved(five.net.spec, LABELS))
    arguments = ["predict", tmp_path / "a.safetensors", path, "--tile", "260", "--save", "labels", "--verify"]
    assert run_command(monkeypatch, *arguments, "--out", tmp_path / "command") == 0
    options = PredictOptions(["labels", "overlay"], max_in_memory_pixels=300 * 280 - 1)
    assert not predict_files(TiledRunner(five, 260), [path], tmp_path / "out", options).failed
    labels = read_label_map(tmp_path / "out" / "a.png")
    assert np.array_equal(labels, read_label_map(tmp_path / "command" / "a.png"))
    whole = five.label_maps(image[None])[0]
    assert np.mean(labels != whole) < 1e-4
    assert len(np.unique(whole)) > 1
    assert (tmp_path / "out" / "overlays" / "a.png").is_file()


def test_images_with_other_bands_than_the_models_are_reported(tmp_path, monkeypatch, capsys, five):
    """Files with fewer bands or more; the others are still processed."""
    save_net(tmp_path / "a.safetensors", five.net.state_dict(), Saved(five.net.spec, LABELS))
    (tmp_path / "images").mkdir()
    for count in (4, 5, 6):
        np.save(tmp_path / "images" / f"{count}.npy", scene(1, count)[0])
    Image.fromarray(scene(1, 3)[0]).save(tmp_path / "images" / "3.png")
    assert run_command(monkeypatch, "predict", tmp_path / "a.safetensors", tmp_path / "images", "--out", tmp_path) == 1
    errors = capsys.readouterr().err
    for name, count in (("3.png", 3), ("4.npy", 4), ("6.npy", 6)):
        assert f"{name}: has {count} bands, but the model takes images of 5 bands" in errors
    assert (tmp_path / "5.png").is_file()


def test_the_python_face_takes_the_channels_of_its_model(tmp_path, five):
    save_net(tmp_path / "a.safetensors", five.net.state_dict(), Saved(five.net.spec, LABELS))
    model, image = fullconv.load(tmp_path / "a.safetensors"), scene(1, 5)[0]
    np.save(tmp_path / "a.npy", image)
    result = model.predict(tmp_path / "a.npy")
    assert np.array_equal(result.label_map, model.predict(image).label_map)
    assert result.overlay().shape == (72, 88, 3)
    with pytest.raises(UsageError, match="H x W x 5 uint8 array of the model's channels"):
        model.predict(image[..., :3])
    with refuses("band-count", "the image: ", 3, 5):
        model.predict(Image.fromarray(image[..., :3]))
    alpha = TorchRunner(build(NetSpec("digits", 3, 8, channels=4)), LABELS)
    save_net(tmp_path / "b.safetensors", alpha.net.state_dict(), Saved(alpha.net.spec, LABELS))
    assert (
        fullconv.load(tmp_path / "b.safetensors").predict(Image.fromarray(image[..., :4], "RGBA")).image.shape[2] == 4
    )


def test_patchwise_prediction_takes_the_models_channels(five):
    image = scene(1, 5)[0][None, :40, :44]
    slow = PatchwiseRunner.over(five, five.mean_color, step=8, batch=4)
    assert (len(five.mean_color), slow.info.input) == (5, InputFormat(5))
    assert slow.logits(image).shape == (1, 3, 40, 44)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pairs_of_any_channels_are_augmented(channels):
    """Padding is the fill of each channel; a jitter of brightness alone keeps what the channels are to each other."""
    fill = tuple(range(10, 10 + channels))
    image = torch.randint(0, 100, (channels, 40, 50)).to(torch.uint8)
    target = torch.randint(0, 5, (40, 50)).to(torch.uint8)
    augmentation = Augmentation(96, (0.5, 1.0), 0.5, 0.3, fill)
    first, again, other = (augmentation(image, target, seed) for seed in (1, 1, 2))
    assert first[0].shape == (channels, 96, 96)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    plain, labels = Augmentation(96, (1.0, 1.0), 0.0, 0.0, fill)(image, target, 1)
    assert torch.equal(plain[:, labels == 255][:, 0], torch.tensor(fill, dtype=torch.uint8))
    assert (labels == 255).sum() >= 96 * 96 - 40 * 50


def test_jitter_is_brightness_and_contrast_about_the_mean_of_each_channel():
    from torchvision import tv_tensors

    image = torch.randint(60, 120, (4, 30, 30)).to(torch.uint8)
    found = BandJitter(0.3).transform(tv_tensors.Image(image), {"brightness": 1.2, "contrast": 0.8})
    lit = 1.2 * image.float()
    expected = 0.8 * lit + 0.2 * lit.mean((1, 2), keepdim=True)
    assert (found.as_subclass(torch.Tensor).float() - expected).abs().max() <= 0.5 + 1e-3
    mask = tv_tensors.Mask(image[0])
    assert BandJitter(0.3).transform(mask, {}) is mask


def test_rgb_view_shows_the_first_three_channels_or_the_first():
    image = scene(1, 5)[0]
    assert np.array_equal(rgb_view(image), image[..., :3])
    for count in (1, 2):
        assert np.array_equal(rgb_view(image[..., :count]), image[..., :1].repeat(3, 2))
