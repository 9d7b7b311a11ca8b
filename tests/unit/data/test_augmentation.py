"""The input pipelines of both originals: what holds for any image and any draw."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as PillowImage
from small_datasets import data_of

from kmax.config import Augmentation, CopyPaste, Data
from kmax.data.augmentation.colour_policies import (
    FULL_POLICY,
    SCALED_POLICY,
    ColorTransform,
    draw_ssd,
    linear,
    saturate,
    select_steps,
    shift_hue,
)
from kmax.data.augmentation.copy_paste import copy_paste
from kmax.data.augmentation.fitting import fitting_size
from kmax.data.augmentation.resampling import (
    interpolate,
    pick_labels,
    pick_labels_with_pillow,
    resize_with_pillow,
    whole,
)
from kmax.data.augmentation.training_view import ViewParameters, augmented_view, render, train_view
from kmax.data.augmentation.view import View, targets_of, write_input
from kmax.data.batch import INPUT_MEAN
from kmax.data.formats.coco_panoptic import Image
from kmax.data.image_source import DecodedImage, SegmentLabels

TARGET = (33, 41)
originals = st.sampled_from(["tf", "torch"])
policies = st.sampled_from(
    [None, "simple_classification_policy", "simple_classification_policy_magnitude_scale_0.2", "ssd"]
)
sizes = st.tuples(st.integers(3, 60), st.integers(3, 60))
lengths = st.integers(1, 70)
seeds = st.integers(0, 10**6)


def data_for(original: str | None, policy: str | None = None, **changes) -> tuple[Data, Augmentation]:
    values = {
        "flip": 0.5,
        "scale": [0.4, 1.7],
        "scale_step": 0.1,
        "color_jitter": 0.0,
        "color_policy": policy,
    }
    values["copy_paste"] = CopyPaste(scale_factor=0.5)
    augmentation = Augmentation(**(values | changes))
    return data_of("few", TARGET, preprocessing=original, augmentation=augmentation), augmentation


def noise(seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def rectangles(seed: int, size: tuple[int, int]) -> DecodedImage:
    """Six random rectangles over void: things of the classes 0 and 1, stuff of 2 and 3; the last is crowd."""
    rng = np.random.default_rng(seed)
    owner = np.zeros(size, np.uint8)
    for index in range(6):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        owner[top : top + rng.integers(1, 30), left : left + rng.integers(1, 30)] = index + 1
    classes = np.array([0, 0, 1, 2, 3, 1])
    labels = SegmentLabels(classes, classes < 2, np.arange(6) == 5)
    about = Image(seed, f"{seed}.png", size[1], size[0])
    return DecodedImage(about, np.repeat(40 * owner[..., None], 3, axis=-1), owner, labels)


class Images:
    """DecodedImage images in a list, in the place of a dataset's split."""

    def __init__(self, decoded: list[DecodedImage]) -> None:
        self.decoded = decoded
        self.images = [one.image for one in decoded]

    def __len__(self) -> int:
        return len(self.decoded)

    def __getitem__(self, index: int) -> DecodedImage:
        return self.decoded[index]


@st.composite
def windows(draw: st.DrawFn, size: tuple[int, int]) -> tuple[slice, slice]:
    bounds = [sorted((draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1)))) for n in size]
    rows, columns = (slice(low, high + 1) for low, high in bounds)
    return rows, columns


@settings(max_examples=80, deadline=None)
@given(data=st.data(), seed=seeds, sizes=st.lists(st.tuples(lengths, lengths), min_size=2, max_size=3))
def test_a_window_is_the_same_part_of_the_whole(data: st.DataObject, seed: int, sizes: list) -> None:
    first, *steps = sizes
    image, size = noise(seed, first), steps[-1]
    window = data.draw(windows(size))
    part = interpolate(image, steps, window)
    np.testing.assert_array_equal(part, interpolate(image, steps, whole(size))[window])
    assert 0 <= part.min() <= part.max() <= 255
    np.testing.assert_array_equal(interpolate(image, steps, window, np.uint8), part.astype(np.uint8))
    labels = image[..., 0]
    picked = pick_labels(labels, steps, whole(size))
    np.testing.assert_array_equal(pick_labels(labels, steps, window), picked[window])
    once = pick_labels(labels, steps[:1], whole(steps[0]))
    np.testing.assert_array_equal(pick_labels(once, steps[1:], whole(size)), picked)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, size=sizes, new=st.tuples(lengths, lengths))
def test_labels_and_pixels_are_picked_as_pillow_does(seed: int, size: tuple, new: tuple) -> None:
    image = noise(seed, size)
    nearest = PillowImage.fromarray(image[..., 0].copy()).resize(new[::-1], PillowImage.Resampling.NEAREST)
    picked = pick_labels_with_pillow(image[..., 0], new, whole(new))
    np.testing.assert_array_equal(picked, np.asarray(nearest))
    smooth = PillowImage.fromarray(image).resize(new[::-1], PillowImage.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize_with_pillow(image, new, whole(new)), np.asarray(smooth))


def color_transforms() -> list[ColorTransform]:
    pairs = [[(operation, 1.0) for operation, _ in pair] for pair in (*FULL_POLICY, *SCALED_POLICY)]
    both = [select_steps(pair, [0.0, 0.0]) for pair in pairs]
    return both + [select_steps(pair[:1], [0.0]) for pair in pairs] + [select_steps([], [])]


@pytest.mark.parametrize("number", range(len(color_transforms())))
@settings(max_examples=15, deadline=None)
@given(seed=seeds, size=sizes, scaled=st.tuples(st.integers(3, 90), st.integers(3, 90)))
def test_a_view_is_a_part_of_the_recoloured_image(number: int, seed: int, size: tuple, scaled: tuple) -> None:
    """Only the visible part is resampled; its colours are those of the whole image recoloured."""
    transform = color_transforms()[number]
    decoded = DecodedImage(
        Image(0, "0.png", size[1], size[0]), noise(seed, size), np.ones(size, np.uint8), one()
    )
    rng = np.random.default_rng(seed)
    start = [int(rng.integers(0, max(n - c, 0) + 1)) for n, c in zip(scaled, TARGET, strict=True)]
    parameters = ViewParameters([size, scaled], transform, (0, 0), (start[0], start[1]), flip=False)
    view = render(decoded, parameters, TARGET, "tf")
    pixels = transform.apply(interpolate(decoded.rgb, [size, scaled], whole(scaled)), scaled)
    height, width = view.content_size
    cut = pixels[start[0] : start[0] + height, start[1] : start[1] + width, :3]
    np.testing.assert_array_equal(view.pixels[:height, :width], cut)


def one() -> SegmentLabels:
    return SegmentLabels(np.zeros(1, int), np.ones(1, bool), np.zeros(1, bool))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, size=sizes, original=originals)
def test_labels_move_with_pixels(seed: int, size: tuple[int, int], original: str) -> None:
    """Each source pixel is a segment of its own, and its colour says where it lies."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    rgb = np.stack([4 * rows, 4 * columns, 0 * rows], axis=-1).astype(np.uint8)
    count = size[0] * size[1]
    labels = SegmentLabels(np.zeros(count, int), np.ones(count, bool), np.zeros(count, bool))
    decoded = DecodedImage(
        Image(0, "0.png", size[1], size[0]), rgb, np.arange(1, count + 1).reshape(size), labels
    )
    data, augmentation = data_for(original)
    view = augmented_view(np.random.default_rng(seed), decoded, data, augmentation)
    content = view.owner > 0
    assert content.sum() == view.content_size[0] * view.content_size[1]
    assert (view.pixels[~content] == INPUT_MEAN).all()
    there = np.stack(np.unravel_index(view.owner[content] - 1, size), axis=-1)
    smallest_scale = 0.4 * min(TARGET[0] / size[0], TARGET[1] / size[1])
    # deeplab2: half a pixel of the image, then half a pixel of the image that fits; bytedance smooths.
    fitted = fitting_size(size, TARGET, "tf")
    reach = max((a - 1) / max(b - 1, 1) for a, b in zip(size, fitted, strict=True))
    bound = 0.51 + 0.5 * reach if original == "tf" else 0.8 + 0.5 * max(0.0, 1.3 / smallest_scale)
    assert np.abs(view.pixels[content][:, :2] / 4 - there).max(initial=0) <= bound


@settings(max_examples=60, deadline=None)
@given(seed=seeds, size=sizes, other=sizes, original=originals, policy=policies)
def test_samples_of_the_originals(seed: int, size: tuple, other: tuple, original: str, policy: str) -> None:
    data, augmentation = data_for(original, policy)
    rng = np.random.default_rng(seed)
    canvas, pasted = (
        augmented_view(rng, rectangles(seed + i, shape), data, augmentation)
        for i, shape in enumerate((size, other))
    )
    for view in (canvas, pasted):
        assert view.pixels.min() >= 0
        assert view.pixels.max() <= 255
        assert not np.isin(view.owner, np.flatnonzero(view.labels.iscrowd) + 1).any()  # crowd is void
        if original == "torch" and (view.owner == -1).any():
            height, width = view.content_size
            assert (view.owner[:height, :width] >= 0).all()  # padding lies at the bottom and right
    merged = copy_paste(rng, canvas, pasted, data.preprocessing)
    covered = merged.owner != canvas.owner
    things = np.isin(pasted.owner, np.flatnonzero(pasted.labels.isthing) + 1)
    assert (merged.pixels[things] == pasted.pixels[things]).all()
    assert (merged.pixels[covered] == pasted.pixels[covered]).all()
    assert not (covered & (pasted.owner <= 0)).any()  # void and padding are never pasted
    assert (merged.owner[~covered & (canvas.owner <= 0)] <= 0).all()  # void stays void
    assert_targets(merged)


def assert_targets(view: View) -> None:
    """Areas agree with masks, each segment has a pixel, stuff of a class is one segment, void has neither."""
    full, kept = targets_of(view, stride=1), targets_of(view, stride=4)
    np.testing.assert_array_equal(full.segments[::4, ::4], kept.segments)
    np.testing.assert_array_equal(full.semantic[::4, ::4], kept.semantic)
    counts = np.bincount(full.segments.ravel() + 1, minlength=len(full.classes) + 1)[1:]
    assert (counts > 0).all()
    things = full.classes < 2
    np.testing.assert_array_equal(full.thing_areas, np.where(things, counts, 0))
    stuff = full.classes[~things]
    assert len(stuff) == len(set(stuff.tolist()))
    void = view.owner <= 0
    assert ((full.segments == -1) == void).all()
    assert ((full.semantic == -1) == void).all()
    inside = full.segments >= 0
    assert (full.classes[full.segments[inside]] == full.semantic[inside]).all()


@settings(max_examples=40, deadline=None)
@given(seed=seeds, size=sizes, original=st.sampled_from([None, "tf", "torch"]), policy=policies)
def test_a_fourth_channel_means_nothing(seed: int, size: tuple, original: str | None, policy: str) -> None:
    data, augmentation = data_for(original, policy)
    three = rectangles(seed, size)
    three = dataclasses.replace(three, rgb=noise(seed, size))
    fourth = np.random.default_rng(seed + 1).integers(0, 256, (*size, 1), dtype=np.uint8)
    four = dataclasses.replace(three, rgb=np.concatenate([three.rgb, fourth], axis=-1))
    one, other = (
        augmented_view(np.random.default_rng(seed), decoded, data, augmentation) for decoded in (three, four)
    )
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.owner, other.owner)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, size=sizes, other=sizes, original=st.sampled_from([None, "tf", "torch"]), policy=policies)
def test_network_input_is_the_view_in_its_range(
    seed: int, size: tuple, other: tuple, original: str | None, policy: str
) -> None:
    data, augmentation = data_for(original, policy)
    rng = np.random.default_rng(seed)
    canvas, pasted = (
        augmented_view(rng, rectangles(seed + i, shape), data, augmentation)
        for i, shape in enumerate((size, other))
    )
    for view in (canvas, copy_paste(rng, canvas, pasted, original)):
        found = np.empty((3, *TARGET), np.float32)
        write_input(view, found)
        np.testing.assert_array_equal(found, ((view.pixels - INPUT_MEAN) / INPUT_MEAN).transpose(2, 0, 1))
        assert (found[:, view.owner < 0] == 0).all()
        assert (view.owner[view.content] >= 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_ssd_keeps_bytes_and_its_parts_do_as_they_say(seed: int) -> None:
    image = noise(seed, (9, 11))
    recoloured = draw_ssd(np.random.default_rng(seed)).apply(image, (9, 11))
    assert recoloured.dtype == np.uint8
    assert recoloured.shape == image.shape
    np.testing.assert_array_equal(linear(image, 1.0, 0.0), image)
    grey = saturate(image, 0.0)
    assert (np.ptp(grey, axis=-1) == 0).all()
    assert np.abs(shift_hue(image, 0).astype(int) - image).max() <= 8  # Pillow's HSV is coarse
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    green = shift_hue(red, 60)[0, 0]  # 120 degrees
    assert green[1] == 255
    assert green[[0, 2]].max() <= 8


def test_an_image_with_too_few_labels_is_replaced_by_another() -> None:
    empty = DecodedImage(Image(0, "0.png", 40, 30), noise(0, (30, 40)), np.zeros((30, 40), np.uint8), one())
    full = DecodedImage(Image(1, "1.png", 40, 30), noise(1, (30, 40)), np.ones((30, 40), np.uint8), one())
    source = Images([empty, full])
    for threshold, wanted in ((None, 0), (20, 1)):
        data, _ = data_for("torch", scale=[1.0, 1.0], scale_step=0.0, redraw_below=threshold, copy_paste=None)
        about, view = train_view(np.random.default_rng(0), source, 0, 0, data)
        assert about.id == wanted
        assert (view.owner > 0).any() == bool(wanted)


def test_sizes_of_the_originals() -> None:
    assert fitting_size((480, 640), (1281, 1281), "tf") == (960, 1281)
    assert fitting_size((480, 640), (1281, 1281), "torch") == (961, 1281)
    assert fitting_size((1024, 2048), (1025, 2049), "tf", native=True) == (1024, 2048)
    assert fitting_size((1200, 2400), (1025, 2049), "tf", native=True) == (1024, 2049)
    assert fitting_size((1024, 2048), (1025, 2049), "torch") == (1025, 2049)


def test_what_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="color_jitter: must be 0 where a color_policy is given"):
        data_for("tf", "ssd", color_jitter=0.2)
    with pytest.raises(ValueError, match="native_size: bytedance's pipeline has none"):
        data_of("few", preprocessing="torch", native_size=True)
