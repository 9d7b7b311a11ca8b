"""Which pixels are drawn."""

import torch

from kmax.losses.sampling import gumbel_top_k, sample_logits
from kmax.losses.targets import GroundTruth


def test_pixels_are_drawn_once_and_void_last(make_batch) -> None:
    torch.manual_seed(0)
    targets = GroundTruth(make_batch([0, 1]), "tf").at((17, 33))
    labelled = int((~targets.void).sum())
    indices = gumbel_top_k(sample_logits(targets, 1.5), labelled + 5)
    assert len(set(indices[0].tolist())) == labelled + 5
    assert int(targets.void[0, indices[0]].sum()) == 5


def test_odds_are_those_of_the_softmax() -> None:
    torch.manual_seed(0)
    odds = torch.tensor([0.1, 0.2, 0.7])
    drawn = gumbel_top_k(odds.log().expand(20000, 3), 1)
    torch.testing.assert_close(torch.bincount(drawn[:, 0]) / 20000, odds, rtol=0, atol=0.015)


def test_small_segments_are_as_likely_as_large_ones_at_temperature_one(make_batch) -> None:
    batch = make_batch([0, 1])
    batch.segments[0, :, :4] = 1  # segment 1 grows, segment 0 shrinks
    targets = GroundTruth(batch, "tf").at((17, 33))
    odds = sample_logits(targets, 1.0).softmax(1)
    per_segment = (targets.masks * odds[:, None]).sum(2)
    torch.testing.assert_close(per_segment[0], torch.tensor([0.5, 0.5]))
