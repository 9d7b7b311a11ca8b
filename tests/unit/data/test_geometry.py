import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmax.data.geometry import draw_scale, fit_size, resize_image, resize_labels, scale_list, scaled_size


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict:
    return json.loads((golden / "tf_data" / "preprocess.json").read_text())


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "tf_data" / "preprocess.npz") as stored:
        return dict(stored)


def test_sizes_are_those_of_the_original(recorded: dict) -> None:
    count = 0
    for target, table in recorded["resize_to_range_sizes"].items():
        for height, width, new_height, new_width in table["rows"]:
            assert fit_size((height, width), (int(target), int(target))) == (new_height, new_width)
            count += 1
    assert count == 2 * 267


def test_scales_are_those_of_the_original(recorded: dict) -> None:
    for name, lists in recorded["scale_lists"].items():
        train = recorded["configs"][name]["train"]
        low, high, step = train["min_scale"], train["max_scale"], train["step"]
        np.testing.assert_allclose(scale_list(low, high, step), lists["canvas"], rtol=1e-6)
        np.testing.assert_allclose(scale_list(0.5 * low, 0.5 * high, step), lists["pasted"], rtol=1e-6)


def test_scaled_sizes_are_those_of_the_original(recorded: dict) -> None:
    for _, height, width, scale, new_height, new_width in recorded["random_scale_sizes"]["rows"]:
        assert scaled_size((height, width), scale) == (new_height, new_width)


@pytest.mark.parametrize("target", [33, 65, 97])
def test_labels_are_resized_as_the_original_does(arrays: dict[str, np.ndarray], target: int) -> None:
    wanted = arrays[f"range{target}_label"]
    assert (resize_labels(arrays["label"], wanted.shape) == wanted).all()
    for index in (0, 6, 14):
        scaled = arrays[f"range{target}_scale{index}_label"]
        assert (resize_labels(wanted, scaled.shape) == scaled).all()


def test_enlarged_images_are_those_of_the_original(arrays: dict[str, np.ndarray]) -> None:
    for source, wanted in (
        ("image", "range97_image"),
        ("range97_image", "range97_scale14_image"),
        ("range65_image", "range65_scale14_image"),
    ):
        resized = resize_image(arrays[source], arrays[wanted].shape[:2])
        np.testing.assert_allclose(resized, arrays[wanted], atol=1e-3)


@settings(max_examples=100, deadline=None)
@given(original=st.tuples(st.integers(1, 3000), st.integers(1, 3000)), side=st.integers(1, 2000))
def test_an_image_fits_and_keeps_its_aspect(original: tuple[int, int], side: int) -> None:
    height, width = fit_size(original, (side, side))
    assert 1 <= height <= side
    assert 1 <= width <= side
    assert max(height, width) >= side - 1
    exact = [side / max(original) * n for n in original]
    assert abs(height - exact[0]) <= 2
    assert abs(width - exact[1]) <= 2


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_resizing_keeps_range_and_constants(size: tuple[int, int], new: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    resized = resize_image(image, new)
    assert resized.shape == (*new, 3)
    assert resized.dtype == np.float32
    assert resized.min() >= image.min() - 1e-3
    assert resized.max() <= image.max() + 1e-3
    np.testing.assert_allclose(resize_image(np.full_like(image, 77), new), 77, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    new=st.tuples(st.integers(2, 80), st.integers(2, 80)),
)
def test_labels_move_with_pixels(size: tuple[int, int], new: tuple[int, int]) -> None:
    """A picture of coordinates and a label of coordinates agree to half a source pixel."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    image = np.stack([rows, columns, rows], axis=-1).astype(np.float32)
    resized = resize_image(image, new)
    inner = slice(2, -2) if min(new) > 8 else slice(None)
    reach = [max(1.0, (a - 1) / (b - 1)) for a, b in zip(size, new, strict=True)]
    for channel, labels in ((0, rows), (1, columns)):
        error = np.abs(resized[..., channel] - resize_labels(labels, new))[inner, inner]
        assert error.max(initial=0) <= 0.5 + 0.5 * (reach[channel] - 1) + 1e-3


def test_shrinking_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert resize_image(stripes, (16, 16))[:, 2:-2].std() < 20


def test_a_scale_without_step_is_continuous() -> None:
    rng = np.random.default_rng(0)
    assert len({draw_scale(rng, 0.8, 1.2, 0.0) for _ in range(20)}) == 20
    assert {round(draw_scale(rng, 0.5, 1.0, 0.25), 2) for _ in range(50)} == {0.5, 0.75, 1.0}
