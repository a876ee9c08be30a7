"""Losses in bands equal plain references on the full logits: value, gradient, and which pixels count."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fullconv.net.fcn.network import FCN
from fullconv.training.losses.objective import compute_loss
from fullconv.training.losses.terms import keep_hard, make_lovasz_term
from fullconv.training.recipe import Recipe, override
from test_loss import SIZE, batch, network

ROWS = 4 * 2 * 5 * SIZE[1]
"""The bytes of a row of logits."""


def plain_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the mean Dice coefficient of the classes in the target, class by class."""
    labelled = target != 255
    coefficients = []
    for label in torch.unique(target[labelled]).tolist():
        probability = logits.softmax(1)[:, label][labelled]
        true = (target[labelled] == label).to(logits.dtype)
        coefficients.append(2 * (probability * true).sum() / (probability.sum() + true.sum()))
    return 1 - torch.stack(coefficients).mean()


def plain_lovasz(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean over the classes of the Lovász extension, from its definition: a sum over growing error sets.

    The sorted errors are weighted by what each pixel adds to the Jaccard loss of the set of mistakes before it.
    """

    def jaccard_loss(true: Tensor, mistakes: Tensor) -> float:
        predicted = true ^ mistakes
        return 1 - (true & predicted).sum().item() / (true | predicted).sum().item()

    labelled = target != 255
    values = []
    for label in torch.unique(target[labelled]).tolist():
        probability = logits.softmax(1)[:, label][labelled]
        true = target[labelled] == label
        errors = torch.where(true, 1 - probability, probability)
        order = errors.argsort(descending=True, stable=True).tolist()
        mistakes, losses = torch.zeros_like(true), [0.0]
        for pixel in order:
            mistakes[pixel] = True
            losses.append(jaccard_loss(true, mistakes))
        gains = [after - before for before, after in pairwise(losses)]
        values.append((errors[order] * torch.tensor(gains, dtype=errors.dtype)).sum())
    return torch.stack(values).mean()


REFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"dice": plain_dice, "lovasz": plain_lovasz}


def small(target: Tensor) -> Tensor:
    """Ignore most pixels, so that the slow reference ends soon, and leave out one class."""
    torch.manual_seed(1)
    target = target.masked_fill(torch.rand(target.shape) < 0.97, 255)
    return target.masked_fill(target == 3, 255)


@pytest.mark.parametrize("upsample", ["fixed", "learned"])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_dice_and_lovasz_are_added_to_cross_entropy_with_exact_gradients(name, normalized, upsample):
    net = network(upsample)
    score, target, weights = batch(net)
    target = small(target)
    sources = [score, *net.get_submodule("upscore8").parameters()]
    recipe = Recipe(loss=name, normalized=normalized)
    logits = net.upsample(score, SIZE)
    entropy = functional.cross_entropy(logits, target.long(), weights, ignore_index=255)
    scale = 1 if normalized else weights[target[target != 255].long()].sum()
    expected = scale * (entropy + REFERENCES[name](logits, target))
    expected_gradients = torch.autograd.grad(3 * expected, sources)
    for rows in (5, 1000):
        loss = compute_loss(net, score, target, weights, recipe, band_bytes=rows * ROWS)
        torch.testing.assert_close(loss, expected)
        for gradient, other in zip(torch.autograd.grad(3 * loss, sources), expected_gradients, strict=True):
            torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_the_gradient_is_that_of_finite_differences(name):
    net = network("fixed")
    score, target, weights = batch(net)
    loss = partial(compute_loss, net, target=small(target), weights=weights, recipe=Recipe(loss=name))
    (gradient,) = torch.autograd.grad(loss(score), score)
    torch.manual_seed(2)
    direction = torch.randn_like(score)
    with torch.no_grad():
        step = 1e-6 * direction
        difference = (loss(score + step) - loss(score - step)) / 2e-6
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("threshold", "share"), [(0.3, 0.0), (0.001, 0.25), (1.0, 0.1), (0.0, 0.0)])
def test_ohem_is_the_cross_entropy_of_the_hardest_pixels(threshold, share):
    net = network("fixed")
    score, target, weights = batch(net)
    logits = net.upsample(score, SIZE).detach()
    labelled = target != 255
    probability = logits.softmax(1).gather(1, target.long().clamp_max(4)[:, None])[:, 0]
    count = max(int((probability[labelled] < threshold).sum()), int(-(-share * int(labelled.sum()) // 1)))
    hardest = probability.masked_fill(~labelled, 2).flatten().argsort()[:count]
    kept = torch.full_like(target, 255).flatten()
    kept[hardest] = target.flatten()[hardest]
    kept = kept.view_as(target)
    assert torch.equal(keep_hard(net, score, target, threshold, share, band_bytes=7 * ROWS), kept)
    recipe = Recipe(loss="ohem", ohem_threshold=threshold, ohem_share=share)
    loss = compute_loss(net, score, target, weights, recipe, band_bytes=7 * ROWS)
    plain = functional.cross_entropy(net.upsample(score, SIZE), kept.long(), weights, ignore_index=255, reduction="sum")
    torch.testing.assert_close(loss, plain / max(1e-6, float(weights[kept[kept != 255].long()].sum())))


def lovasz(net: FCN, score: Tensor, target: Tensor, most: int) -> float:
    term = make_lovasz_term(net, score, target, most_pixels=most)
    bands = term.of_band(net.upsample(score, SIZE), range(SIZE[0]))
    return float(term.constant + bands)


def test_the_lovasz_sample_is_bounded_seeded_and_near_the_whole():
    net = network("fixed")
    score, target, _ = batch(net)
    score = score.detach()
    whole = lovasz(net, score, target, 10**6)
    sampled = []
    for seed in (0, 0, 1, 2, 3, 4):
        torch.manual_seed(seed)
        sampled.append(lovasz(net, score, target, 2000))
    assert sampled[0] == sampled[1] != sampled[2]
    assert max(abs(value - whole) for value in sampled) < 0.02


@pytest.mark.parametrize("name", ["cross-entropy", "ohem", "dice", "lovasz"])
def test_a_loss_without_labelled_pixels_is_zero_and_has_no_gradient(name):
    net = network("fixed")
    score, target, weights = batch(net)
    loss = compute_loss(net, score, torch.full_like(target, 255), weights, Recipe(loss=name))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, score)[0].count_nonzero() == 0


@pytest.mark.parametrize("name", ["ohem", "dice", "lovasz"])
def test_losses_run_in_bfloat16_on_the_processor_near_float32(name):
    net = network("fixed").float().eval()
    torch.nn.init.normal_(net.score_fr.weight, std=0.1)
    image, target = torch.rand(2, 3, *SIZE), torch.randint(0, 5, (2, *SIZE)).to(torch.uint8)
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            score = net.score(net.encode(image), SIZE)
            loss = compute_loss(net, score, target, torch.ones(5), Recipe(loss=name))
        net.zero_grad()
        torch.autograd.backward(loss)
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("name", ["dice", "lovasz"])
def test_no_tensor_of_the_size_of_the_logits_is_made(name):
    """The largest tensor that any operation returns has at most the bytes of a band, or of the target's indices."""
    net = network("fixed")
    score, target, weights = batch(net)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.is_floating_point():
                largest = max(largest, out.numel())
            return out

    term = partial(make_lovasz_term, most_pixels=400) if name == "lovasz" else None
    with Watch():
        if term is not None:
            term(net, score, target, band_bytes=3 * ROWS)
        else:
            compute_loss(net, score.detach().requires_grad_(), target, weights, Recipe(loss=name), band_bytes=3 * ROWS)
    assert 0 < largest <= 3 * ROWS // 4 < score.shape[1] * target.numel() // 10


def test_the_values_of_losses_are_checked():
    assert override(Recipe(), {"loss": "dice"}).loss == "dice"
    for values in ({"ohem_share": 1.5}, {"ohem_threshold": -0.1}, {"loss": "hinge"}):
        with pytest.raises(Exception, match=next(iter(values))) as caught:
            override(Recipe(), values)
        assert caught.value.code == "invalid-recipe-value"
