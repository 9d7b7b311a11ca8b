"""Ground truth at loss resolution."""

import pytest
import torch

from kmax.losses.targets import GroundTruth, subsample


def test_labels_are_subsampled_never_averaged() -> None:
    labels = torch.arange(5 * 9).view(1, 5, 9)
    assert subsample(labels, (3, 5)).tolist() == [
        [[0, 2, 4, 6, 8], [18, 20, 22, 24, 26], [36, 38, 40, 42, 44]]
    ]
    assert torch.equal(subsample(labels, (5, 9)), labels)
    assert subsample(labels, (1, 1)).tolist() == [[[0]]]


def test_prediction_of_foreign_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5\) pixels is not a subsampling of labels of \(5, 9\)"):
        subsample(torch.zeros(1, 5, 9), (4, 5))


def test_padding_of_images_with_fewer_segments_has_no_area(make_batch) -> None:
    truth = GroundTruth(make_batch([0, 1], [2], []), "tf")
    assert truth.classes.tolist() == [[0, 1], [2, -1], [-1, -1]]
    assert (truth.at((17, 33)).areas > 0).tolist() == [[True, True], [True, False], [False, False]]


def test_batch_without_any_segment(make_batch) -> None:
    truth = GroundTruth(make_batch([], []), "tf")
    assert truth.classes.tolist() == [[-1], [-1]]
    assert truth.at((17, 33)).areas.tolist() == [[0.0], [0.0]]


def test_dropped_segments_become_pixels_without_segment(make_batch) -> None:
    truth = GroundTruth(make_batch([0, 1]), "torch")
    before = truth.at((17, 33))
    truth.keep(torch.tensor([[False, True]]))
    after = truth.at((17, 33))
    assert after.areas.tolist() == [[0.0, before.areas[0, 1].item()]]
    assert int(after.void.sum() - before.void.sum()) == before.areas[0, 0]
    assert torch.equal(after.semantic, before.semantic)


def test_each_resolution_is_prepared_once(make_batch) -> None:
    truth = GroundTruth(make_batch([0]), "tf")
    assert truth.at((9, 17)) is truth.at((9, 17))
    assert truth.at((3, 5)) is not truth.at((9, 17))
