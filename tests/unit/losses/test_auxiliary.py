"""Enlarging features at sampled pixels only gives what enlarging all of them gives."""

import pytest
import torch

from kmax.losses.sampling import enlarge, features_at


@pytest.mark.parametrize("flavour", ["tf", "torch"])
@pytest.mark.parametrize(
    ("small", "large"), [((5, 9), (33, 65)), ((4, 8), (32, 64)), ((1, 1), (3, 5)), ((9, 9), (9, 9))]
)
def test_sampled_features_are_the_enlarged_ones(flavour, small, large) -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, *small)
    indices = torch.stack([torch.randperm(large[0] * large[1]) for _ in range(2)])
    everywhere = enlarge(features, large, flavour).flatten(2)
    expected = everywhere.gather(2, indices[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(features_at(features, indices, large, flavour), expected, rtol=1e-5, atol=2e-5)
    assert torch.equal(features_at(features, None, large, flavour), everywhere)


def test_flavours_differ_on_even_grids_only() -> None:
    features = torch.arange(4.0).view(1, 1, 2, 2)
    assert torch.equal(enlarge(features, (5, 5), "tf"), enlarge(features, (5, 5), "torch"))
    assert not torch.equal(enlarge(features, (4, 4), "tf"), enlarge(features, (4, 4), "torch"))
