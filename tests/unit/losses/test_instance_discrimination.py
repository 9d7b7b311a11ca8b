"""The loss without a target matrix equals its definition, and so does its gradient."""

import pytest
import torch
from torch.nn import functional as F

from kmax.losses import instance_discrimination
from kmax.losses.instance_discrimination import TEMPERATURE, instance_discrimination_loss


def by_definition(features: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    similarity = torch.einsum("bdk,bdj->bkj", features, features) / TEMPERATURE
    same = torch.einsum("bmk,bmj->bkj", shares, shares)
    target = same / same.sum(2, keepdim=True).clamp(min=1)
    cross_entropy = -(target * similarity.log_softmax(2)).sum(2)
    return cross_entropy.sum(1) / (cross_entropy != 0).sum(1).clamp(min=1)


@pytest.mark.parametrize("at_once", [1, 1000, 2**21])  # bands of 1 and of 20 of the 50 rows; all
def test_value_and_gradient_equal_the_definition(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_discrimination, "CPU_SIMILARITIES", at_once)
    torch.manual_seed(0)
    features = F.normalize(torch.randn(3, 8, 50, dtype=torch.float64), dim=1).requires_grad_()
    segment = torch.randint(-1, 4, (3, 50))
    shares = F.one_hot(segment + 1, 8)[:, :, 1:].transpose(1, 2).double()  # the last three have no pixel yet
    shares[1, :, :20] = torch.tensor([0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0])[:, None]  # pixels of two segments
    shares[0, :, 7] = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0])  # the only one of its two segments
    shares[2] = 0
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    value = instance_discrimination_loss(features, shares)
    expected = by_definition(features, shares)
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad((value * weights).sum(), features)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), features)
    torch.testing.assert_close(gradient, expected_gradient)
    with torch.no_grad():
        torch.testing.assert_close(instance_discrimination_loss(features, shares), expected)


def test_nothing_is_kept_without_a_backward_pass() -> None:
    with torch.no_grad():
        value = instance_discrimination_loss(torch.zeros(1, 2, 4), torch.ones(1, 1, 4))
    assert value.item() == pytest.approx(torch.log(torch.tensor(4.0)).item())
