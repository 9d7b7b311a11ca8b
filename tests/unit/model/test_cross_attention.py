"""The three updates of cluster centres from pixels."""

import pytest
import torch
from tiny_model import tiny

from kmax.model.cross_attention import CROSS_ATTENTIONS


def test_kmeans_gives_every_pixel_wholly_to_its_best_cluster_without_gradient():
    logits = torch.randn(2, 5, 7, requires_grad=True)
    weights = CROSS_ATTENTIONS["kmeans"](logits)
    assert not weights.requires_grad
    assert torch.equal(weights.sum(1), torch.ones(2, 7))
    assert torch.equal(weights.argmax(1), logits.argmax(1))


def test_kmeans_settles_ties_by_the_first_cluster():
    assert CROSS_ATTENTIONS["kmeans"](torch.zeros(1, 4, 3))[0, 0].tolist() == [1.0, 1.0, 1.0]


def test_cmt_shares_a_pixel_among_clusters_and_softmax_a_cluster_among_pixels():
    logits = torch.randn(2, 5, 7, requires_grad=True)
    cmt, softmax = CROSS_ATTENTIONS["cmt"](logits), CROSS_ATTENTIONS["softmax"](logits)
    torch.testing.assert_close(cmt.sum(1), torch.ones(2, 7))
    torch.testing.assert_close(softmax.sum(2), torch.ones(2, 5))
    assert cmt.requires_grad
    assert softmax.requires_grad


@pytest.mark.parametrize("form", ["kmeans", "cmt", "softmax"])
def test_only_soft_forms_let_the_update_teach_the_masks(form):
    """The mask head of a k-means layer learns from its predictions alone, never through the assignment."""
    model = tiny(cross_attention=form)
    layer = model.transformer_decoder.layers[0]
    torch.nn.init.ones_(layer.cluster_update.project.norm.weight)
    pixels = torch.randn(2, layer.project_pixels.conv.in_channels, 5, 5)
    centers, _ = layer(pixels, torch.randn(2, 16, 96))
    centers.square().sum().backward()
    gradient = layer.predictor.mask_head.linear.weight.grad
    taught = gradient is not None and bool(gradient.abs().sum() > 0)
    assert taught == (form != "kmeans")
