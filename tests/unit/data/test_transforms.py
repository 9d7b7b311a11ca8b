import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_datasets import data_of

from kmax.config import Augmentation
from kmax.data.augmentation.colour_policies import draw_jitter
from kmax.data.augmentation.copy_paste import copy_paste
from kmax.data.augmentation.training_view import augmented_view, plain_view
from kmax.data.augmentation.view import View, targets_of
from kmax.data.batch import INPUT_MEAN
from kmax.data.formats.coco_panoptic import Image
from kmax.data.image_source import DecodedImage, SegmentLabels

SIZE = (33, 41)
sizes = st.tuples(st.integers(3, 60), st.integers(3, 60))


def augmentation(**changes) -> Augmentation:
    values = {"flip": 0.5, "scale": [0.5, 1.6], "scale_step": 0.0, "color_jitter": 0.0, "copy_paste": None}
    return Augmentation(**(values | changes))


def view_of(
    rng: np.random.Generator, decoded: DecodedImage, preprocessing: str | None = None, **changes
) -> View:
    data = data_of("few", SIZE, preprocessing=preprocessing)
    return augmented_view(rng, decoded, data, augmentation(**changes))


def colored(seed: int, size: tuple[int, int], count: int = 6) -> DecodedImage:
    """Random rectangles; the red channel of a pixel is 40 times its owner, so pixels show their labels."""
    rng = np.random.default_rng(seed)
    owner = np.zeros(size, np.uint8)
    for index in range(count):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        owner[top : top + rng.integers(1, 30), left : left + rng.integers(1, 30)] = index + 1
    classes = np.array([0, 0, 1, 2, 3, 1][:count])
    labels = SegmentLabels(classes, classes < 2, np.arange(count) == 5)
    rgb = np.repeat(40 * owner[..., None], 3, axis=-1).astype(np.uint8)
    return DecodedImage(Image(seed, f"{seed}.png", size[1], size[0]), rgb, owner, labels)


def random_view(seed: int, size: tuple[int, int], **changes) -> View:
    return view_of(np.random.default_rng(seed), colored(seed, size), **changes)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=sizes)
def test_labels_move_with_pixels(seed: int, size: tuple[int, int]) -> None:
    """Each source pixel is a segment of its own, and its colour says where it lies."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    rgb = np.stack([4 * rows, 4 * columns, 0 * rows], axis=-1).astype(np.uint8)
    count = size[0] * size[1]
    labels = SegmentLabels(np.zeros(count, int), np.ones(count, bool), np.zeros(count, bool))
    decoded = DecodedImage(
        Image(0, "0.png", size[1], size[0]), rgb, np.arange(1, count + 1).reshape(size), labels
    )
    view = view_of(np.random.default_rng(seed), decoded)
    assert view.pixels.shape == (*SIZE, 3)
    assert view.owner.shape == SIZE
    content = view.owner > 0
    assert content.sum() == view.content_size[0] * view.content_size[1]
    assert (view.pixels[~content] == INPUT_MEAN).all()
    there = np.stack(np.unravel_index(view.owner[content] - 1, size), axis=-1)
    smallest_scale = 0.5 * min(SIZE[0] / size[0], SIZE[1] / size[1])
    # Nearest is off by half a pixel at most, smoothing at the border by a third of its reach.
    bound = 0.51 + 0.35 * max(0.0, 1.3 / smallest_scale)
    assert np.abs(view.pixels[content][:, :2] / 4 - there).max(initial=0) <= bound


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=sizes)
def test_targets_have_pixels_and_void_stays_void(seed: int, size: tuple[int, int]) -> None:
    view = random_view(seed, size)
    targets = targets_of(view, stride=1)
    counts = np.bincount(targets.segments.ravel() + 1, minlength=len(targets.classes) + 1)
    assert (counts[1:] > 0).all()
    assert len(counts) == len(targets.classes) + 1
    void = view.owner <= 0
    assert (targets.semantic[void] == -1).all()
    assert (targets.segments[void] == -1).all()
    assert (targets.semantic[~void] >= 0).all()
    crowd = np.isin(view.owner, np.flatnonzero(view.labels.iscrowd) + 1)
    assert (targets.segments[crowd] == -1).all()
    assert (targets.segments[~void & ~crowd] >= 0).all()
    inside = targets.segments >= 0
    assert (targets.classes[targets.segments[inside]] == targets.semantic[inside]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=sizes, other=sizes)
def test_copy_paste_keeps_segments_apart(seed: int, size: tuple[int, int], other: tuple[int, int]) -> None:
    canvas, pasted = random_view(seed, size), random_view(seed + 1, other)
    merged = copy_paste(np.random.default_rng(seed), canvas, pasted)
    from_pasted = merged.owner != canvas.owner
    things = np.flatnonzero(pasted.labels.isthing) + 1
    assert (
        merged.pixels[np.isin(pasted.owner, things)] == pasted.pixels[np.isin(pasted.owner, things)]
    ).all()
    assert not (from_pasted & (pasted.owner <= 0)).any()
    assert not from_pasted[canvas.owner == merged.owner].any()
    # No two sources share a segment, except stuff of one class.
    for owner in np.unique(merged.owner[merged.owner > 0]).tolist():
        mask = merged.owner == owner
        index = owner - 1
        assert (targets_of(merged, stride=1).semantic[mask] == merged.labels.classes[index]).all()
        if merged.labels.isthing[index]:
            source = canvas if index < len(canvas.labels) else pasted
            assert len(np.unique(source.owner[mask])) == 1
    targets = targets_of(merged, stride=1)
    stuff = targets.classes[targets.classes >= 2]
    assert len(stuff) == len(set(stuff.tolist()))


def test_without_augmentation_the_image_lies_at_the_top_left() -> None:
    view = plain_view(colored(0, (10, 20)), (33, 33))
    assert view.content_size == (16, 33)
    assert (view.owner[16:] == -1).all()
    assert (view.owner[:16] >= 0).all()


def test_flip_mirrors_image_and_labels() -> None:
    straight = random_view(3, (33, 41), scale=[1.0, 1.0], flip=0.0)
    flipped = random_view(3, (33, 41), scale=[1.0, 1.0], flip=1.0)
    assert (straight.owner[:, ::-1] == flipped.owner).all()
    assert (straight.pixels[:, ::-1] == flipped.pixels).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), strength=st.floats(0.05, 1.0))
def test_color_jitter_stays_in_range_and_changes_colours(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0, 255, (8, 8, 3)).astype(np.float32)
    jittered = draw_jitter(rng, strength).apply(pixels, (8, 8))
    assert jittered.dtype == np.float32
    assert jittered.min() >= 0
    assert jittered.max() <= 255
    assert np.abs(jittered - pixels).max() > 0
