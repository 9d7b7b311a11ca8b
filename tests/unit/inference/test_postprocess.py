import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kmax.inference.overlaps import AllOverlaps, PairOverlaps
from kmax.inference.panoptic_postprocess import maskwise
from kmax.inference.predict_images import DEFAULTS
from kmax.inference.upsampling import ImageSizes, to_image

PREDICT = DEFAULTS.model_copy(update={"class_threshold_thing": 0.5, "class_threshold_stuff": 0.5})
ISTHING = torch.tensor([True, False])
THING, STUFF, VOID = 0, 1, 2


def logits(masks: list[torch.Tensor], classes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that say with certainty that these are the masks (bool [h, w]) of these classes."""
    class_logits = torch.zeros(len(masks), 3)
    class_logits[torch.arange(len(masks)), torch.tensor(classes)] = 10.0
    return class_logits, torch.stack(masks).float() * 20


def columns(low: int, high: int, height: int = 9, width: int = 9) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[:, low:high] = True
    return mask


def segment(class_logits: torch.Tensor, mask_logits: torch.Tensor, flavour: str = "tf", **changes: object):
    sizes = ImageSizes(*(changes.pop(f"{name}_size", (33, 33)) for name in ("input", "content", "original")))
    predict = PREDICT.model_copy(update=changes)
    return maskwise(class_logits, mask_logits, sizes, ISTHING, predict, flavour)


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_masks_of_one_stuff_class_are_one_segment_and_things_stay_apart(flavour: str) -> None:
    masks = [columns(0, 3), columns(3, 6), columns(6, 9)]
    for kind, count in ((STUFF, 1), (THING, 3)):
        result = segment(*logits(masks, [kind] * 3), flavour)
        assert [s.class_index for s in result.segments] == [kind] * count
        assert set(np.unique(result.ids)) - {0} == {s.id for s in result.segments}


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_void_clusters_leave_void(flavour: str) -> None:
    result = segment(*logits([columns(0, 9)], [VOID]), flavour)
    assert result.segments == []
    assert not result.ids.any()
    assert result.ids.dtype == np.int32


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_padding_is_cropped_and_the_map_has_the_image_size(flavour: str) -> None:
    masks = [columns(0, 5), columns(5, 9)]
    result = segment(*logits(masks, [THING, STUFF]), flavour, content_size=(33, 16), original_size=(70, 34))
    assert result.ids.shape == (70, 34)
    assert [s.class_index for s in result.segments] == [THING]


def test_area_limits_hold_for_tf_alone_and_a_segment_of_exactly_the_limit_stays() -> None:
    made = logits([columns(0, 3), columns(3, 9)], [THING, STUFF])
    whole = segment(*made)
    areas = np.bincount(whole.ids.ravel())
    thing = next(s for s in whole.segments if s.class_index == THING)
    limit = int(areas[thing.id])
    assert len(segment(*made, thing_area_limit=limit).segments) == 2
    assert [s.class_index for s in segment(*made, thing_area_limit=limit + 1).segments] == [STUFF]
    assert len(segment(*made, "torch", thing_area_limit=limit + 1).segments) == 2


def test_confidence_of_exactly_the_threshold_passes_in_tf_only() -> None:
    class_logits = torch.tensor([[1.0, 1.0, -1000.0]])
    mask_logits = torch.zeros(1, 9, 9)
    assert len(segment(class_logits, mask_logits, "tf").segments) == 1
    assert len(segment(class_logits, mask_logits, "torch").segments) == 0


def test_a_segment_that_vanishes_in_a_small_image_is_not_listed() -> None:
    masks = [columns(0, 4), columns(4, 5), columns(5, 9)]
    result = segment(*logits(masks, [THING] * 3), original_size=(2, 2))
    assert len(result.segments) == 2
    assert set(np.unique(result.ids)) == {1, 2}


def pasted_by_definition(masks: np.ndarray, order: np.ndarray, threshold: float) -> np.ndarray:
    canvas = np.zeros(masks.shape[1:], np.int32)
    for place, index in enumerate(order, start=1):
        free = masks[index] & (canvas == 0)
        if free.sum() > np.float32(masks[index].sum()) * np.float32(threshold):
            canvas[free] = place
    return canvas


def pasted(overlaps: AllOverlaps | PairOverlaps, masks: np.ndarray, order: np.ndarray) -> np.ndarray:
    shares = np.where(masks, np.random.default_rng(0).uniform(0.4, 0.5, masks.shape), 0.1)
    total = np.random.default_rng(1).uniform(0.5, 2.0, masks.shape[1:])
    for rows in range(0, masks.shape[1], 2):
        weights = torch.from_numpy(shares * total)[:, rows : rows + 2].transpose(0, 1)
        overlaps.add(weights.clone(), torch.from_numpy(total)[rows : rows + 2])
    assert np.array_equal(overlaps.areas(), masks.sum((1, 2)))
    assert overlaps.shares() == pytest.approx((shares * masks).sum((1, 2)))
    table, indices = overlaps.paste(order, 0.8)
    return table[indices]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_pasting_follows_its_definition(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    masks, order = rng.random((6, 5, 7)) < share, rng.permutation(6)
    expected = pasted_by_definition(masks, order, 0.8)
    assert np.array_equal(pasted(AllOverlaps(6, 0.35), masks, order), expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_pasting_by_pairs_is_the_same_where_two_masks_at_most_claim_a_pixel(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(6)
    masks = np.zeros((6, 5, 7), bool)
    for claimant in range(2):
        owner = rng.integers(0, 3 if claimant else 6, (5, 7))
        masks |= (owner == np.arange(6)[:, None, None]) & (rng.random((5, 7)) < share)
    expected = pasted_by_definition(masks, order, 0.8)
    assert np.array_equal(pasted(PairOverlaps(6, 0.35), masks, order), expected)


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch, flavour: str) -> None:
    generator = torch.Generator().manual_seed(0)
    class_logits = 4 * torch.randn(12, 3, generator=generator)
    mask_logits = 6 * torch.randn(12, 9, 9, generator=generator)
    results = []
    for elements in (1, 12 * 33 * 5, 2**20):
        monkeypatch.setattr("kmax.inference.upsampling.CPU_BAND_ELEMENTS", elements)
        changes = {"class_threshold_thing": 0.2, "overlap_threshold": 0.3, "original_size": (20, 50)}
        results.append(segment(class_logits, mask_logits, flavour, **changes))
    assert results[0].segments
    for result in results[1:]:
        assert np.array_equal(result.ids, results[0].ids)


@pytest.mark.parametrize("scale", [1.0, 40.0, 1000.0])
def test_banded_softmax_is_the_softmax_of_the_enlarged_logits(scale: float) -> None:
    logits = scale * torch.randn(7, 9, 5, generator=torch.Generator().manual_seed(0))
    upsampling = to_image((9, 5), ImageSizes((33, 17), (30, 14), (50, 12)))
    expected = upsampling(logits).softmax(0)
    found = torch.cat([band.weights / band.total[:, None] for band in upsampling.bands(logits)])
    torch.testing.assert_close(found.transpose(0, 1), expected, rtol=1e-4, atol=2e-6 * scale)
