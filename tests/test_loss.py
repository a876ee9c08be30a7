"""The banded loss equals cross-entropy on the full logits: value, gradients, labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.loss import compute_banded_loss, iterate_banded_logits

SIZE = (61, 83)


def network(upsample: str) -> FCN:
    """Build a small FCN-8s in float64 whose final kernel, if it is learned, mixes classes."""
    torch.manual_seed(0)
    net = rebuild(NetSpec("digits", 5, 8, upsample=upsample)).double()  # type: ignore[arg-type]
    for parameter in net.get_submodule("upscore8").parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


def batch(net: FCN) -> tuple[Tensor, Tensor, Tensor]:
    """Make a score map, a target with ignored pixels, and class weights."""
    with torch.no_grad():
        score = torch.randn_like(net.score(net.encode(torch.rand(2, 3, *SIZE).double()), SIZE))
    target = torch.randint(0, 5, (2, *SIZE)).to(torch.uint8)
    target[0, :20], target[1, :, 70:] = 255, 255
    return score.requires_grad_(), target, torch.tensor([0.3, 1, 2, 0.7, 1.5], dtype=torch.float64)


def plain(net: FCN, score: Tensor, target: Tensor, weights: Tensor, reduction: str) -> Tensor:
    """Compute the loss of torch on the full logits."""
    logits = net.upsample(score, SIZE)
    return functional.cross_entropy(logits, target.long(), weights, ignore_index=255, reduction=reduction)


@pytest.mark.parametrize("upsample", ["fixed", "learned"])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_banded_value_and_gradients_equal_those_of_the_full_loss(upsample, normalized, rows):
    net = network(upsample)
    score, target, weights = batch(net)
    sources = [score, *net.get_submodule("upscore8").parameters()]
    banded = compute_banded_loss(net, score, target, weights, normalized, band_bytes=rows * 4 * 2 * 5 * SIZE[1])
    expected = plain(net, score, target, weights, "mean" if normalized else "sum")
    torch.testing.assert_close(banded, expected)
    gradients, expected_gradients = (torch.autograd.grad(3 * value, sources) for value in (banded, expected))
    assert len(gradients) == (2 if upsample == "learned" else 1)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


def test_the_gradient_reaches_all_parameters_of_the_network():
    net = network("fixed").eval()
    image, target = torch.rand(2, 3, *SIZE).double(), torch.randint(0, 5, (2, *SIZE)).to(torch.uint8)
    nn.init.normal_(net.score_fr.weight)
    weights = torch.ones(5, dtype=torch.float64)
    losses = (
        compute_banded_loss(net, net.score(net.encode(image), SIZE), target, weights),
        functional.cross_entropy(net(image), target.long()),
    )
    gradients, expected = (torch.autograd.grad(loss, list(net.parameters()), allow_unused=True) for loss in losses)
    assert sum(gradient is not None for gradient in expected) > 20
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


def test_the_loss_without_labelled_pixels_is_zero():
    net = network("fixed")
    score, target, weights = batch(net)
    loss = compute_banded_loss(net, score, torch.full_like(target, 255), weights)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, score)[0].count_nonzero() == 0


def test_without_gradients_only_the_value_is_computed():
    net = network("learned")
    score, target, weights = batch(net)
    with torch.no_grad():
        loss = compute_banded_loss(net, score, target, weights)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(net, score, target, weights, "mean").detach())


@pytest.mark.parametrize("upsample", ["fixed", "learned"])
def test_banded_logits_equal_the_full_logits(upsample):
    net = network(upsample)
    score = batch(net)[0].detach()
    bands = list(iterate_banded_logits(net, score, SIZE, band_bytes=4 * 4 * 2 * 5 * SIZE[1]))
    assert [row for rows, _ in bands for row in rows] == list(range(SIZE[0]))
    assert max(len(rows) for rows, _ in bands) == (16 if upsample == "learned" else 4)
    torch.testing.assert_close(torch.cat([logits for _, logits in bands], 2), net.upsample(score, SIZE))
