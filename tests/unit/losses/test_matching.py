"""Assignment of clusters to segments."""

import math

import pytest
import torch

from kmax.losses.finite import NonFiniteLossError
from kmax.losses.matching import assign, match
from kmax.losses.targets import GroundTruth

SIZE = (17, 33)


def perfect_masks(truth: GroundTruth, order: list[int]) -> torch.Tensor:
    """Mask probabilities where cluster `order[m]` is segment m, and the last cluster is the rest."""
    masks = truth.at(SIZE).masks
    probabilities = torch.zeros(1, masks.shape[1] + 1, masks.shape[2])
    probabilities[:, order] = masks
    probabilities[:, -1] = 1 - masks.sum(1)
    return probabilities


def test_clusters_follow_their_segments_and_the_rest_is_void(make_batch) -> None:
    truth = GroundTruth(make_batch([2, 0, 3]), "tf")
    matching = match(torch.zeros(1, 4, 5), perfect_masks(truth, [1, 2, 0]), truth, SIZE, ["a"])
    assert matching.complete
    assert matching.cluster.tolist() == [[1, 2, 0]]
    assert matching.class_target.argmax(2).tolist() == [[3, 2, 0, 4]]
    torch.testing.assert_close(matching.class_probability, torch.full((1, 3), 0.2))
    # dice of 1 for the matched, all of its pixels void for the other
    torch.testing.assert_close(
        matching.class_weight, torch.tensor([[0.75, 0.75, 0.75, 0.25]]), rtol=1e-4, atol=0
    )


def test_class_decides_between_equal_masks(make_batch) -> None:
    truth = GroundTruth(make_batch([2]), "tf")
    logits = torch.zeros(1, 3, 5)
    logits[0, 1, 2] = 3.0
    matching = match(logits, torch.full((1, 3, 17 * 33), 1 / 3), truth, SIZE, ["a"])
    assert matching.cluster.tolist() == [[1]]


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_segments_left_over(flavour, make_batch) -> None:
    truth = GroundTruth(make_batch([2, 0, 3]), flavour)
    probabilities = perfect_masks(truth, [0, 1, 2])[:, :2]
    labelled = int((truth.at(SIZE).segment >= 0).sum())
    matching = match(torch.zeros(1, 2, 5), probabilities, truth, SIZE, ["a"])
    still_labelled = int((truth.at(SIZE).segment >= 0).sum())
    if flavour == "tf":
        assert not matching.complete
        assert matching.cluster.tolist() == [[0, 1, 2]]  # 2 is one more than there are
        assert matching.class_target.tolist() == [[[0, 0, 1, 1, 0], [1, 0, 0, 0, 0]]]
        assert still_labelled == labelled
    else:
        assert matching.complete
        assert matching.cluster.tolist() == [[0, 1, -1]]
        assert matching.class_target.argmax(2).tolist() == [[2, 0]]
        assert still_labelled < labelled


def test_absent_segments_take_no_part() -> None:
    quality = torch.ones(2, 3, 4)
    present = torch.tensor([[True, False, True], [False, False, False]])
    cluster = assign(quality, quality, present, ["a", "b"])
    assert (cluster >= 0).tolist() == present.tolist()
    assert len(set(cluster[present].tolist())) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_cost_that_is_not_finite_is_reported_before_scipy_sees_it(bad: float) -> None:
    quality = torch.ones(3, 1, 2)
    dice = quality.clone()
    dice[[0, 2], 0, 1] = bad
    with pytest.raises(
        NonFiniteLossError, match="mask similarity of the matching is not finite for image a, c:"
    ) as error:
        assign(dice, quality, torch.ones(3, 1, dtype=torch.bool), ["a", "b", "c"])
    assert error.value.image_ids == ["a", "c"]
