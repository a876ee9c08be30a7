"""The live model: features, fitting, saving, tiles, caches, and what it proposes to label next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fullconv
from fullconv.arrays import Float32, UInt8
from fullconv.geometry.tiles import Cut
from fullconv.images import write_image
from fullconv.label.live import Learner
from fullconv.label.live.cache import DiskCache, MemoryCache
from fullconv.label.live.decode import Features, fuse, gather, logits_on_grid
from fullconv.label.live.logistic import Problem, solve
from fullconv.label.live.model import Classes, Model, Scale
from fullconv.label.live.network import TapNetwork
from fullconv.label.live.priors import DEFAULT_POWER, choose_penalty, choose_power, count_regions, tap_factors
from fullconv.label.live.samples import Painted, choose, weigh
from fullconv.label.live.tap_store import Summary
from fullconv.onnx_graph.compose import compose
from fullconv.onnx_graph.split import ScoreLayer
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled, taps_path
from fullconv.runtime.onnx import OnnxFile
from fullconv.runtime.products import narrow_product, tall_product
from refusals import refuses

CLASSES = [(3, "dark", (10, 20, 30)), (0, "light", (200, 10, 10)), (7, "never painted", (0, 0, 255))]


def draw(height: int, width: int, seed: int = 0) -> UInt8:
    """Return noisy squares; their red is 40 or 200."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 2, (height // 24 + 1, width // 24 + 1, 1)) * 160 + random.integers(0, 40, 3)
    squares = coarse.repeat(24, 0).repeat(24, 1)[:height, :width]
    return np.clip(squares + random.integers(0, 40, squares.shape), 0, 255).astype(np.uint8)


def paint(learner: Learner, path: Path, pixels: UInt8, count: int = 300, seed: int = 0) -> None:
    """Paint random pixels with the class that they have."""
    random = np.random.default_rng(seed)
    rows, columns = (random.integers(0, size, count) for size in pixels.shape[:2])
    learner.set_labels(path, rows, columns, np.where(pixels[rows, columns, 0] < 120, 3, 0).astype(np.uint8))


@pytest.fixture(scope="module")
def networks() -> dict[str, TapNetwork]:
    return {"taps": TapNetwork(taps_path()), "street": TapNetwork(bundled("street"))}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_image(tmp_path / "photo.png", draw(150, 230))
    return tmp_path / "photo.png"


def random_layers(network: TapNetwork, classes: int = 4) -> list[ScoreLayer]:
    """Return score layers with biases on all taps."""
    random = np.random.default_rng(1)
    return [
        ScoreLayer(
            (random.normal(size=(classes, channels)) / channels**0.5).astype(np.float32),
            random.normal(size=classes).astype(np.float32),
        )
        for channels in network.channels
    ]


def save(network: TapNetwork, layers: list[ScoreLayer], path: Path) -> ExportedRunner:
    from dataclasses import replace

    from fullconv.labels import LabelSet

    metadata = network.split.metadata
    labels = LabelSet.named([f"class {index}" for index in range(len(layers[0].bias))])
    metadata = replace(metadata, info=replace(metadata.info, labels=labels))
    onnx.save(compose(network.split, layers, metadata), path)
    runner = load_runner(path)
    assert isinstance(runner, ExportedRunner)
    return runner


@pytest.mark.parametrize("name", ["taps", "street"])
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (129, 95)])
def test_scored_features_of_pixels_are_the_logits_of_the_network(tmp_path, networks, name, size) -> None:
    """Everywhere, borders included, where the last cells are missing and the biases count less."""
    network, image = networks[name], draw(*size)
    layers = random_layers(network)
    expected = save(network, layers, tmp_path / "net.onnx").logits(image[None])[0]
    maps = network.compute(image, (Cut(range(size[0]), range(size[0])), Cut(range(size[1]), range(size[1]))))
    rows, columns = (axis.ravel() for axis in np.mgrid[: size[0], : size[1]])
    features = gather(maps, network.axes, rows, columns)
    weight = np.concatenate([layer.weight for layer in layers], 1)
    logits = weight @ features.values.T + np.stack([layer.bias for layer in layers], 1) @ features.mass.T
    np.testing.assert_allclose(logits.reshape(expected.shape), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["taps", "street"])
@pytest.mark.parametrize(
    "window", [(range(150), range(230)), (range(17, 60), range(101, 230)), (range(149, 150), range(1))]
)
def test_scores_of_a_window_are_those_of_the_whole_image(networks, name, window) -> None:
    network, image = networks[name], draw(150, 230)
    layers, (rows, columns) = random_layers(network), window
    maps = network.compute(image, (Cut(range(150), range(150)), Cut(range(230), range(230))))
    whole = logits_on_grid(
        fuse(maps, network.axes, layers, range(150), range(230)), network.split.metadata, (150, 230), 1
    )
    part = fuse(maps, network.axes, layers, rows, columns)
    logits = logits_on_grid(part, network.split.metadata, (len(rows), len(columns)), 1)
    np.testing.assert_allclose(logits, whole[:, rows.start : rows.stop, columns.start : columns.stop], atol=1e-3)


def features_of(count: int, wide: int, taps: int, seed: int = 0) -> Features:
    random = np.random.default_rng(seed)
    values = random.normal(3, 20, (count, wide)).astype(np.float32)
    return Features(values, random.uniform(0.2, 1, (count, taps)).astype(np.float32))


def test_standardisation_is_folded_into_the_score_layers_exactly(networks) -> None:
    """With any mass: at the border, a mean counts as much as the cells that exist."""
    split, channels = networks["street"].split, networks["street"].channels
    features = features_of(400, sum(channels), len(channels))
    random = np.random.default_rng(0)
    summary = Summary(random.normal(3, 1, sum(channels)), random.uniform(100, 500, sum(channels)), features)
    scale = Scale.of([summary], channels)
    keys = np.where(features.values[:, 5] > 3, 3, 0).astype(np.uint8)
    model = Model(split, Classes(((3, "x", (0, 0, 0)), (0, "y", (1, 1, 1)))))
    model = model.fitted(features, keys, weigh(keys.astype(np.int64)), scale, 0.03)
    direct = scale.apply(features, channels) @ np.stack([model.fit[3], model.fit[0]]).T
    weight = np.concatenate([layer.weight for layer in model.layers], 1)
    folded = features.values @ weight.T + features.mass @ np.stack([layer.bias for layer in model.layers], 1).T
    np.testing.assert_allclose(folded, direct, atol=1e-3)
    assert (model.keys[folded.argmax(1)] == keys).mean() > 0.9


@pytest.mark.parametrize("shape", [(1, 1, 1), (700, 33, 2), (100, 3000, 90)])
def test_products_in_blocks_are_products(shape) -> None:
    count, wide, classes = shape
    random = np.random.default_rng(0)
    inputs, layer = random.normal(size=(count, wide)), random.normal(size=(classes, wide))
    shares = random.normal(size=(classes, count))
    as32 = [array.astype(np.float32) for array in (inputs, layer, shares)]
    np.testing.assert_allclose(narrow_product(as32[0], as32[1]), layer @ inputs.T, atol=1e-2)
    np.testing.assert_allclose(tall_product(as32[2], as32[0]), shares @ inputs, atol=1e-2)


def test_the_fit_is_the_minimum_from_any_start() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(200, 20)).astype(np.float32)
    targets = random.integers(0, 3, 200)
    problem = Problem(inputs, targets, weigh(targets), np.zeros((3, 200), np.float32), 0.05, np.ones(20, np.float32))
    starts = [np.zeros((3, 20), np.float32), random.normal(size=(3, 20)).astype(np.float32)]
    one, other = (solve(problem, start, 200, 1e-6) for start in starts)
    np.testing.assert_allclose(one, other, atol=1e-3)
    value, gradient = problem.loss(one)
    assert np.abs(gradient).max() < 1e-4
    for _ in range(20):
        assert problem.loss(one + random.normal(scale=0.05, size=one.shape).astype(np.float32))[0] > value


def test_gradient_is_that_of_finite_differences() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 50)
    problem = Problem(
        random.normal(size=(50, 4)).astype(np.float32),
        targets,
        weigh(targets),
        random.normal(size=(3, 50)).astype(np.float32),
        0.3,
        np.array([1, 1, 1, 0], np.float32),
    )
    layer = random.normal(size=(3, 4)).astype(np.float32)
    gradient = problem.loss(layer)[1]
    for index in np.ndindex(3, 4):
        step = np.zeros_like(layer)
        step[index] = 1e-2
        assert (problem.loss(layer + step)[0] - problem.loss(layer - step)[0]) / 2e-2 == pytest.approx(
            gradient[index], abs=2e-3
        )


@pytest.mark.parametrize(("informative", "chosen"), [("coarse", 0.2), ("fine", 0.8)])
def test_held_out_images_choose_how_much_coarse_taps_count(networks, informative: str, chosen: float) -> None:
    """The other taps tell the images apart, so they mislead in every image that is held out."""
    split, channels = networks["taps"].split, networks["taps"].channels
    random = np.random.default_rng(0)
    groups, targets = np.repeat(np.arange(4), 50), np.tile(np.repeat([0, 1], 25), 4)
    inputs = random.normal(size=(200, sum(channels) + 1)).astype(np.float32)
    coarse, fine = inputs[:, : channels[0]], inputs[:, -channels[-1] - 1 : -1]
    signal, noise = (coarse, fine) if informative == "coarse" else (fine, coarse)
    signal[:] += 2 * (2 * targets[:, None] - 1)
    noise[:] += random.normal(size=(4, 2, noise.shape[1]))[groups, targets] * 3
    rest = np.zeros((2, 200), np.float32), groups, 0.03, np.ones(inputs.shape[1], np.float32)
    assert choose_power(split, DEFAULT_POWER, inputs, targets, *rest) == chosen
    few = rest[0], groups % 2, *rest[2:]
    assert choose_power(split, DEFAULT_POWER, inputs, targets, *few) == DEFAULT_POWER


def test_coarse_taps_count_less_with_a_higher_power(networks) -> None:
    network = networks["taps"]
    begins = np.cumsum([0, *network.channels[:-1]])
    np.testing.assert_allclose(tap_factors(network.split, 1)[begins], [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
    np.testing.assert_allclose(tap_factors(network.split, 0), 1)


def test_more_regions_are_penalised_less() -> None:
    rows = np.array([1, 2, 3, 40, 40])
    assert count_regions(rows, np.array([1, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 1], np.uint8)) == 3
    penalties = [choose_penalty(count) for count in (0, 10, 100, 1000, 10**6)]
    assert penalties == sorted(penalties, reverse=True)
    assert penalties[0] < 1
    assert penalties[-1] > 0


def test_the_model_learns_and_one_class_alone_is_no_model(tmp_path: Path, photo: Path) -> None:
    pixels = draw(150, 230)
    learner = Learner(None, tmp_path / "cache")
    assert learner.fit() == 0
    learner.set_classes(CLASSES)
    learner.set_labels(photo, np.array([3, 4]), np.array([5, 6]), np.array([3, 3], np.uint8))
    assert learner.fit() == learner.version == 0
    assert learner.predict(photo, range(10), range(10)) is None
    paint(learner, photo, pixels)
    assert learner.fit() == learner.version == 1
    labels = learner.predict(photo, range(150), range(230))
    assert labels is not None
    truth = np.where(pixels[:, :, 0] < 120, 3, 0)
    assert (labels == truth).mean() > 0.97
    assert set(np.unique(labels)) == {0, 3}
    learner.set_labels(photo, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))
    assert learner.fit() == 0
    assert learner.predict(photo, range(150), range(230)) is None


def test_the_saved_file_labels_as_the_learner_does(tmp_path: Path, photo: Path) -> None:
    """Only pixels may differ whose two largest logits are closer than the rounding of the cached taps to float16."""
    learner = Learner(None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    paint(learner, photo, draw(150, 230), 60)
    learner.fit()
    learner.save(tmp_path / "live.onnx")
    labels = learner.predict(photo, range(150), range(230))
    model = fullconv.load(tmp_path / "live.onnx")
    assert model.labels.class_names == ("dark", "light", "never painted")
    assert model.labels.palette == tuple(color for _, _, color in CLASSES)
    keys = np.array([key for key, _, _ in CLASSES], np.uint8)
    other = keys[model.predict(photo).label_map]
    logits = np.sort(load_runner(tmp_path / "live.onnx").logits(draw(150, 230)[None])[0], 0)
    tied = logits[-1] - logits[-2] < 1e-2 * np.abs(logits[-2:]).max()
    assert labels is not None
    assert (other == labels)[~tied].all()
    assert (other == labels).mean() > 0.999
    assert len(np.unique(labels)) == 2


@pytest.mark.parametrize("start", [None, "street"])
def test_parts_of_a_large_image_are_labelled_as_the_whole(tmp_path: Path, start: str | None) -> None:
    image, path = draw(640, 700, 3), tmp_path / "large.png"
    write_image(path, image)
    learner = Learner(bundled(start) if start else None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    paint(learner, path, image, 500)
    learner.fit()
    learner.save(tmp_path / "live.onnx")
    whole = learner.predict(path, range(640), range(700))
    parts = Learner(tmp_path / "live.onnx", tmp_path / "parts", max_whole_pixels=90_000)
    parts.set_classes(CLASSES)
    labels = parts.predict(path, range(310, 640), range(320, 700))
    assert whole is not None
    assert labels is not None
    assert (labels == whole[310:640, 320:700]).mean() > 0.9995
    assert len(np.unique(labels)) > 1
    assert len(list((tmp_path / "parts").glob("*.npz"))) == 4
    paint(parts, path, image, 500)
    parts.fit()
    corrected = parts.predict(path, range(640), range(700))
    assert (corrected == np.where(image[:, :, 0] < 120, 3, 0)).mean() > 0.9


def test_parts_of_an_image_that_nobody_looks_at_are_not_computed(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    write_image(path, draw(900, 1000))
    learner = Learner(None, tmp_path / "cache", max_whole_pixels=90_000)
    learner.set_classes(CLASSES)
    learner.set_labels(path, np.array([5, 250]), np.array([7, 9]), np.array([3, 0], np.uint8))
    learner.fit()
    learner.predict(path, range(280), range(290))
    assert len(list((tmp_path / "cache").glob("*.npz"))) <= 2
    uncertain = learner.uncertain(path)
    assert uncertain
    assert all(place.y < 300 and place.x < 300 for place in uncertain)


@settings(max_examples=15)
@given(
    count=st.integers(1, 3000),
    classes=st.lists(st.integers(0, 254), min_size=1, max_size=20, unique=True),
    seed=st.integers(0, 99),
)
def test_any_samples_are_fitted(count: int, classes: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory):
    learner, path = _shared(tmp_path_factory)
    random = np.random.default_rng(seed)
    learner.set_classes([(key, f"class {key}", (0, 0, key)) for key in classes])
    rows, columns = random.integers(0, 90, count), random.integers(0, 120, count)
    learner.set_labels(path, rows, columns, random.choice(classes, count).astype(np.uint8))
    version = learner.fit()
    labels = learner.predict(path, range(90), range(120))
    assert (labels is None) == (version == 0)
    if labels is not None:
        assert set(np.unique(labels)) <= set(classes)


_LEARNERS: list[tuple[Learner, Path]] = []


def _shared(factory: pytest.TempPathFactory) -> tuple[Learner, Path]:
    if not _LEARNERS:
        folder = factory.mktemp("shared")
        write_image(folder / "photo.png", draw(90, 120))
        _LEARNERS.append((Learner(None, folder / "cache"), folder / "photo.png"))
    return _LEARNERS[0]


def test_labels_are_keys_whatever_happens_to_the_classes(tmp_path: Path, photo: Path) -> None:
    learner = Learner(None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    paint(learner, photo, draw(150, 230))
    learner.fit()
    before = learner.predict(photo, range(150), range(230))
    learner.set_classes([(9, "new", (1, 2, 3)), CLASSES[1], CLASSES[0]])
    np.testing.assert_array_equal(learner.predict(photo, range(150), range(230)), before)
    learner.set_classes([CLASSES[0]])
    learner.fit()
    assert learner.version == 0
    learner.save(tmp_path / "one.onnx")
    assert OnnxFile.load(tmp_path / "one.onnx").metadata.info.labels.class_names == ("dark",)


def test_a_trained_model_predicts_at_once_and_is_corrected(tmp_path: Path, photo: Path) -> None:
    """Classes are matched by their folded names; a class that it does not know starts without weights."""
    learner = Learner(bundled("street"), tmp_path / "cache")
    learner.set_classes([(5, "Tree", (0, 0, 0)), (1, "road", (1, 1, 1)), (2, "ours", (2, 2, 2))])
    assert learner.version == 1
    start = learner.predict(photo, range(150), range(230))
    assert start is not None
    assert set(np.unique(start)) <= {1, 5}
    rows, columns = (axis.ravel() for axis in np.mgrid[20:60, 30:70:2])
    learner.set_labels(photo, rows, columns, np.full(len(rows), 2, np.uint8))
    assert learner.fit() == 2
    corrected = learner.predict(photo, range(150), range(230))
    assert corrected is not None
    assert (corrected[20:60, 30:70] == 2).mean() > 0.9
    learner.save(tmp_path / "live.onnx")
    assert load_runner(tmp_path / "live.onnx").info.labels.class_names == ("Tree", "road", "ours")


def test_the_start_alone_predicts_as_its_file_does(tmp_path: Path, photo: Path) -> None:
    learner = Learner(bundled("street"), tmp_path / "cache")
    names = load_runner(bundled("street")).info.labels.class_names
    learner.set_classes([(key, name, (0, 0, key)) for key, name in enumerate(names)])
    labels = learner.predict(photo, range(150), range(230))
    assert labels is not None
    assert (labels == fullconv.load("street").predict(photo).label_map).mean() > 0.998


def test_a_trained_model_takes_the_place_of_the_live_one(tmp_path: Path, photo: Path) -> None:
    learner = Learner(None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    paint(learner, photo, draw(150, 230))
    learner.fit()
    learner.save(tmp_path / "first.onnx")
    before = learner.predict(photo, range(150), range(230))
    version = learner.version
    learner.replace(tmp_path / "first.onnx")
    assert learner.version > version
    np.testing.assert_array_equal(learner.predict(photo, range(150), range(230)), before)
    learner.replace(bundled("street"))
    learner.fit()
    labels = learner.predict(photo, range(150), range(230))
    assert labels is not None
    assert (labels == before).mean() > 0.9
    with refuses("model-not-found"):
        learner.replace(tmp_path / "absent.onnx")
    assert learner.predict(photo, range(150), range(230)) is not None


def test_next_images_are_uncertain_or_unlike_the_painted_ones(tmp_path: Path) -> None:
    learner = Learner(None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    images = {}
    for name, seed in (("a", 0), ("b", 1), ("strange", 2), ("unread", 3)):
        pixels = draw(120, 120, seed)
        images[name] = tmp_path / f"{name}.png"
        write_image(images[name], 255 - np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8) // 2
                    if name == "strange" else pixels)  # fmt: skip
        if name != "unread":
            learner.prepare(images[name])
    first = learner.rank(list(images.values()))
    assert first[-1].image == images["unread"]
    assert all(0 <= one.score <= 1 and one.reason.endswith(".") for one in first)
    paint(learner, images["a"], draw(120, 120, 0))
    learner.fit()
    ranked = learner.rank(list(images.values()))
    assert ranked[0].image == images["strange"]
    assert ranked[-1].image == images["unread"]
    assert learner.rank([tmp_path / "absent.png"])[0].score == 0


def test_uncertain_places_are_inside_the_image_in_order_and_without_paint(tmp_path: Path, photo: Path) -> None:
    learner = Learner(None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    paint(learner, photo, draw(150, 230), 4)
    learner.fit()
    places = learner.uncertain(photo, 20)
    scores = [place.score for place in places]
    assert scores == sorted(scores, reverse=True)
    assert 0 < len(places) <= 20
    for place in places:
        assert 0 <= place.x < place.x + place.width <= 230
        assert 0 <= place.y < place.y + place.height <= 150
    confidence = learner.confidence(photo, 10)
    assert confidence.shape == (15, 23)
    assert confidence.min() >= 0
    assert confidence.max() <= 1


def test_samples_are_bounded_balanced_and_stable() -> None:
    random = np.random.default_rng(0)
    rows, columns = random.integers(0, 999, 20000), random.integers(0, 999, 20000)
    keys = np.where(np.arange(20000) < 19000, 1, 2).astype(np.uint8)
    painted = Painted(rows, columns, keys)
    index = choose(painted, 4, 4000)
    assert len(index) <= 1000
    assert (keys[index] == 2).sum() == 500
    half = choose(Painted(rows[:19500], columns[:19500], keys[:19500]), 4, 4000)
    assert len(set(index.tolist()) & set(half.tolist())) > 450
    assert weigh(keys[index].astype(np.int64)).sum() == pytest.approx(1)
    few = choose(Painted(rows[:3], columns[:3], keys[:3]), 4)
    np.testing.assert_array_equal(few, [0, 1, 2])


def test_cache_is_bounded_and_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 30_000)
    for index in range(6):
        cache.write(f"key{index}", {"a": np.full(1000, index, np.float64)})
        assert cache.read("key0") is not None
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 30_000
    assert cache.read("key1") is None
    assert cache.read("key5") is not None
    (tmp_path / "key5.npz").write_bytes(b"damaged")
    assert cache.read("key5") is None
    memory = MemoryCache[Float32](10_000)  # type: ignore[type-var]
    for index in range(5):
        memory.put(str(index), np.zeros(1000, np.float32))
    assert memory.get("0") is None
    assert memory.get("4") is not None


def test_taps_come_from_the_disk_unchanged_and_errors_of_float16_are_small(
    tmp_path: Path, photo: Path, networks
) -> None:
    labels = []
    for _ in range(2):
        learner = Learner(None, tmp_path / "cache")
        learner.set_classes(CLASSES)
        paint(learner, photo, draw(150, 230))
        learner.fit()
        labels.append(learner.predict(photo, range(150), range(230)))
    np.testing.assert_array_equal(labels[0], labels[1])
    exact = networks["taps"].compute(draw(150, 230), (Cut(range(150), range(150)), Cut(range(230), range(230))))
    store = learner._store
    for rounded, tap in zip(store.maps(store.central(photo)).taps, exact.taps, strict=True):
        assert np.abs(rounded - tap).max() <= 2**-11 * np.abs(tap).max()


def test_an_image_that_was_removed_does_not_stop_the_others(tmp_path: Path, photo: Path) -> None:
    learner = Learner(None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    other = tmp_path / "other.png"
    write_image(other, draw(80, 80, 4))
    paint(learner, photo, draw(150, 230))
    paint(learner, other, draw(80, 80, 4))
    assert learner.fit() == 1
    other.unlink()
    assert learner.fit() == 2
    assert learner.predict(photo, range(40), range(40)) is not None
    with refuses("missing-file", other):
        learner.predict(other, range(40), range(40))
    assert {one.image for one in learner.rank([photo, other])} == {photo, other}


def test_a_changed_image_is_computed_again(tmp_path: Path, photo: Path) -> None:
    learner = Learner(None, tmp_path / "cache")
    learner.set_classes(CLASSES)
    paint(learner, photo, draw(150, 230))
    learner.fit()
    before = learner.predict(photo, range(40), range(40))
    write_image(photo, 255 - draw(100, 90))
    larger = learner.predict(photo, range(120), range(110))
    assert larger is not None
    assert ((larger == 255) == np.pad(np.zeros((100, 90), bool), ((0, 20), (0, 20)), constant_values=True)).all()
    assert not np.array_equal(learner.predict(photo, range(40), range(40)), before)
