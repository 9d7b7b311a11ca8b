import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kmax.config import Augmentation
from kmax.data.panoptic import Image
from kmax.data.source import Decoded, Labels
from kmax.data.transforms import (
    MEAN,
    View,
    augmented_view,
    copy_paste,
    jitter_colors,
    paste,
    plain_view,
    targets_of,
)

SIZE = (33, 41)
sizes = st.tuples(st.integers(3, 60), st.integers(3, 60))


def augmentation(**changes) -> Augmentation:
    values = {"flip": 0.5, "scale": [0.5, 1.6], "scale_step": 0.0, "color_jitter": 0.0, "copy_paste": None}
    return Augmentation(**(values | changes))


def colored(seed: int, size: tuple[int, int], count: int = 6) -> Decoded:
    """Random rectangles; the red channel of a pixel is 40 times its owner, so pixels show their labels."""
    rng = np.random.default_rng(seed)
    owner = np.zeros(size, np.uint8)
    for index in range(count):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        owner[top : top + rng.integers(1, 30), left : left + rng.integers(1, 30)] = index + 1
    classes = np.array([0, 0, 1, 2, 3, 1][:count])
    labels = Labels(classes, classes < 2, np.arange(count) == 5)
    rgb = np.repeat(40 * owner[..., None], 3, axis=-1).astype(np.uint8)
    return Decoded(Image(seed, f"{seed}.png", size[1], size[0]), rgb, owner, labels)


def random_view(seed: int, size: tuple[int, int], **changes) -> View:
    return augmented_view(np.random.default_rng(seed), colored(seed, size), SIZE, augmentation(**changes))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=sizes)
def test_labels_move_with_pixels(seed: int, size: tuple[int, int]) -> None:
    """Each source pixel is a segment of its own, and its colour says where it lies."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    rgb = np.stack([4 * rows, 4 * columns, 0 * rows], axis=-1).astype(np.uint8)
    count = size[0] * size[1]
    labels = Labels(np.zeros(count, int), np.ones(count, bool), np.zeros(count, bool))
    decoded = Decoded(Image(0, "0.png", size[1], size[0]), rgb, np.arange(1, count + 1).reshape(size), labels)
    view = augmented_view(np.random.default_rng(seed), decoded, SIZE, augmentation())
    assert view.pixels.shape == (*SIZE, 3)
    assert view.owner.shape == SIZE
    content = view.owner > 0
    assert content.sum() == view.content_size[0] * view.content_size[1]
    assert (view.pixels[~content] == MEAN).all()
    there = np.stack(np.unravel_index(view.owner[content] - 1, size), axis=-1)
    smallest_scale = 0.5 * min(SIZE[0] / size[0], SIZE[1] / size[1])
    # Nearest is off by half a pixel at most, smoothing at the border by a third of its reach.
    bound = 0.51 + 0.35 * max(0.0, 1.3 / smallest_scale)
    assert np.abs(view.pixels[content][:, :2] / 4 - there).max(initial=0) <= bound


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=sizes)
def test_targets_have_pixels_and_void_stays_void(seed: int, size: tuple[int, int]) -> None:
    view = random_view(seed, size)
    targets = targets_of(view)
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
        assert (targets_of(merged).semantic[mask] == merged.labels.classes[index]).all()
        if merged.labels.isthing[index]:
            source = canvas if index < len(canvas.labels) else pasted
            assert len(np.unique(source.owner[mask])) == 1
    targets = targets_of(merged)
    stuff = targets.classes[targets.classes >= 2]
    assert len(stuff) == len(set(stuff.tolist()))


@pytest.mark.parametrize("case", range(5))
def test_pasting_gives_the_merge_of_the_original(golden: Path, case: int) -> None:
    recorded = json.loads((golden / "tf_data" / "copy_paste.json").read_text())["cases"][case]
    constants = json.loads((golden / "tf_data" / "preprocess.json").read_text())["datasets"]
    name, divisor = recorded["name"], recorded["label_divisor"]
    dataset = next(key for key in constants if key.startswith(name.split("_")[0]))
    things = constants[dataset]["thing_class_ids"]
    void = {recorded["ignore_label"] * divisor}
    padding = recorded["padding_label_of_pasted"]
    flags = dict(map(tuple, recorded["keep_flag_by_id_in_first_seen_order"]))

    def view(image: NDArray[np.float32], label: NDArray[np.int32]) -> tuple[View, list[int]]:
        ids = [i for i in np.unique(label).tolist() if i not in void and i != padding]
        owner = np.zeros(label.shape, np.int32)
        for index, key in enumerate(ids, start=1):
            owner[label == key] = index
        owner[label == padding] = -1
        classes = np.array(ids) // divisor
        isthing = np.isin(classes, things)
        crowd = isthing & (np.array(ids) % divisor == 0)
        return View(image, owner, Labels(classes, isthing, crowd), label.shape), ids

    with np.load(golden / "tf_data" / "copy_paste.npz") as arrays:
        canvas, _ = view(arrays[f"{name}__canvas_image"], arrays[f"{name}__canvas_label"])
        pasted, ids = view(arrays[f"{name}__pasted_image"], arrays[f"{name}__pasted_label"])
        wanted_image, wanted_label = arrays[f"{name}__merged_image"], arrays[f"{name}__merged_label"]
    keep = pasted.labels.isthing | np.array([bool(flags[key]) for key in ids])
    merged = paste(canvas, pasted, keep)
    assert (merged.pixels == wanted_image).all()
    pairs = set(zip(merged.owner.ravel().tolist(), wanted_label.ravel().tolist(), strict=True))
    crowd = {i + 1 for i in np.flatnonzero(merged.labels.iscrowd).tolist()}
    kept = {pair for pair in pairs if pair[0] not in crowd}
    assert len(kept) == len({a for a, _ in kept}) == len({b for _, b in kept})
    for owner, label in pairs:
        assert (merged.labels.classes[owner - 1] == label // divisor) if owner > 0 else label in void


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
    jittered = jitter_colors(rng, pixels, strength)
    assert jittered.dtype == np.float32
    assert jittered.min() >= 0
    assert jittered.max() <= 255
    assert np.abs(jittered - pixels).max() > 0
