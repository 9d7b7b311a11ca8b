"""Segments that overlap: pixels are shared, and where nothing overlaps the layers change nothing."""

from dataclasses import replace

import pytest
import torch

from kmax.config import SmallInstances
from kmax.data.batch import Batch, layer_masks
from kmax.losses import Criterion
from kmax.losses.loss_terms import small_instance_weights
from kmax.losses.targets import GroundTruth

CLASSES = 4


def with_empty_layer(batch: Batch) -> Batch:
    """The same labels in the form of those that overlap: a layer of them between two of nothing."""
    nothing = torch.full_like(batch.segments, -1)
    return replace(batch, segments=torch.stack([nothing, batch.segments, nothing], 1))


def test_masks_become_layers_of_ascending_segments() -> None:
    two = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[0, 1, 1, 0]]]).bool()
    none = torch.zeros(0, 1, 4, dtype=torch.bool)
    assert layer_masks([two, none]).tolist() == [
        [[[0, 0, 2, -1]], [[-1, 2, -1, -1]]],
        [[[-1, -1, -1, -1]], [[-1, -1, -1, -1]]],
    ]
    assert layer_masks([two[:1]]).tolist() == [[[[0, 0, -1, -1]]]]


def test_pixels_are_shared_evenly(make_batch) -> None:
    masks = torch.zeros(2, 65, 129, dtype=torch.bool)
    masks[0, :, :65], masks[1, :, 33:] = True, True
    batch = replace(make_batch([0, 1]), segments=layer_masks([masks]))
    targets = GroundTruth(batch, "torch").at((17, 33))
    shares = targets.shares.view(1, 2, 17, 33)[0, :, 0]
    assert shares[0].tolist() == [1.0] * 9 + [0.5] * 8 + [0.0] * 16
    assert shares[1].tolist() == [0.0] * 9 + [0.5] * 8 + [1.0] * 16
    assert targets.masks.view(1, 2, 17, 33)[0, 0, 0].tolist() == [1.0] * 17 + [0.0] * 16
    assert targets.areas.tolist() == [[17 * 13.0, 17 * 20.0]]
    assert not targets.void.any()


@pytest.mark.parametrize(
    "masks",
    [
        [],
        [torch.full((1, 2, 2), 255, dtype=torch.uint8)],
        [torch.ones(1, 2, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)],
    ],
)
def test_masks_of_other_types_and_shapes_are_refused(masks) -> None:
    with pytest.raises(ValueError, match=r"masks: expected bool \[M, h, w\] for each image, got"):
        layer_masks(masks)


def test_layers_of_more_segments_than_have_a_class_are_refused(make_batch) -> None:
    masks = torch.ones(3, 65, 129, dtype=torch.bool)
    batch = replace(make_batch([0, 1]), segments=layer_masks([masks]))
    with pytest.raises(ValueError, match="image image0: the labels contain segment 2, but only 2 "):
        GroundTruth(batch, "torch")


@pytest.mark.parametrize("overlap", [True, False])
def test_sampled_pixels_have_the_shares_of_their_places(overlap, make_batch) -> None:
    masks = torch.zeros(2, 65, 129, dtype=torch.bool)
    masks[0, :, :65], masks[1, :, 33 if overlap else 65 :] = True, True
    targets = GroundTruth(replace(make_batch([0, 1]), segments=layer_masks([masks])), "torch").at((17, 33))
    indices = torch.randint(17 * 33, (1, 50))
    expected = targets.shares[0, :, indices[0]]
    assert torch.equal(targets.shares_at(indices)[0], expected)
    assert overlap == bool((expected == 0.5).any())


@pytest.mark.parametrize("flavour", ["tf", "torch"])
@pytest.mark.parametrize("clusters", [6, 2])  # two clusters are fewer than the segments
def test_layers_without_overlap_change_no_term(flavour, clusters, losses, make_batch, make_output) -> None:
    losses = losses.model_copy(update={"sample_k": 280})  # half of the pixels: ties are cut alike
    batch, output = make_batch([0, 1, 2, 0], [3], crowd=True), make_output(2, clusters)
    criterion = Criterion(losses, CLASSES, flavour, sampler=lambda logits, k: logits.topk(k).indices)
    expected = criterion.per_image(output, batch)
    terms = criterion.per_image(output, with_empty_layer(batch))
    assert terms.keys() == expected.keys()
    for name, values in terms.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_pixel_of_a_small_and_a_large_thing_has_the_weight_of_the_small_one(make_batch) -> None:
    masks = torch.zeros(2, 65, 129, dtype=torch.bool)
    masks[0], masks[1, :2, :3] = True, True
    batch = replace(make_batch([0, 1]), segments=layer_masks([masks]))
    weights = small_instance_weights(batch, torch.tensor([True] * 4), SmallInstances(area=10, weight=3.0))
    assert weights[0, :3, :4].tolist() == [[3, 3, 3, 1], [3, 3, 3, 1], [1, 1, 1, 1]]
