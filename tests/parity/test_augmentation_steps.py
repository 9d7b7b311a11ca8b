"""Each colour operation and each resampling of deeplab2 against recorded arrays, to the bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kmax.data.augmentation import colour_operations
from kmax.data.augmentation.colour_policies import (
    FULL_POLICY,
    SCALED_POLICY,
    enhancement_factor,
    select_steps,
    solarize_threshold,
)
from kmax.data.augmentation.fitting import write_fitted
from kmax.data.augmentation.resampling import interpolate, pick_labels, whole
from kmax.data.augmentation.training_view import plain_view
from kmax.data.formats.coco_panoptic import Image
from kmax.data.geometry import draw_scale, fit_size, scaled_size
from kmax.data.image_source import DecodedImage, SegmentLabels

Arrays = dict[str, NDArray]


def load(golden: Path, name: str) -> Arrays:
    with np.load(golden / "tf_data" / f"{name}.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def colours(golden: Path) -> Arrays:
    return load(golden, "autoaugment")


@pytest.fixture(scope="module")
def resized(golden: Path) -> Arrays:
    return load(golden, "preprocess")


def operate(operation: str, image: NDArray[np.uint8], magnitude: float) -> NDArray[np.uint8]:
    factor = enhancement_factor(magnitude)
    match operation:
        case "Contrast":
            return colour_operations.contrast(image, factor, image.shape[0] * image.shape[1])
        case "Brightness" | "Color" | "Sharpness":
            return getattr(colour_operations, operation.lower())(image, factor)
        case "Solarize":
            return colour_operations.solarize(image, solarize_threshold(magnitude))
        case "Equalize":
            return colour_operations.equalize(image)
        case "AutoContrast":
            return colour_operations.auto_contrast(image)
        case "Posterize":
            return colour_operations.posterize(image, int(4 * magnitude / 10))
        case "Invert":
            return colour_operations.invert(image)
    raise ValueError(operation)


def test_colour_operations(colours: Arrays) -> None:
    compared = 0
    for key, wanted in colours.items():
        operation, _, magnitude = key.removesuffix("__edge").partition("__m")
        if operation[0].isupper():
            image = colours["image_edge" if key.endswith("__edge") else "image"]
            result = operate(operation, image, float(magnitude or 0))
            np.testing.assert_array_equal(result, wanted, err_msg=key)
            compared += 1
    assert compared == 80
    np.testing.assert_array_equal(colour_operations.grey(colours["image"]), colours["gray"])


def test_contrast_turns_around_the_number_of_pixels(golden: Path) -> None:
    facts = json.loads((golden / "tf_data" / "autoaugment.json").read_text())
    grey = np.full((1, 1, 3), 100, np.uint8)
    for size, about in facts["contrast_constant_by_image_size"].items():
        height, width = map(int, size.split("x"))
        result = colour_operations.contrast(grey, 0.5, height * width)
        assert (result == about["grey100_with_factor_half"]).all()


@pytest.mark.parametrize("name", ["full", "scaled"])
def test_pairs_of_the_policy(colours: Arrays, name: str) -> None:
    for number, pair in enumerate(FULL_POLICY if name == "full" else SCALED_POLICY):
        transform = select_steps([(operation, 1.0) for operation, _ in pair], [0.0, 0.0])
        result = transform.apply(colours["image"].astype(np.float32), colours["image"].shape[:2])
        np.testing.assert_array_equal(result, colours[f"subpolicy_{name}_{number}_both_applied"])


def test_probabilities_of_the_policy(golden: Path) -> None:
    facts = json.loads((golden / "tf_data" / "autoaugment.json").read_text())["policies"]
    for policy, name in ((FULL_POLICY, ""), (SCALED_POLICY, "_magnitude_scale_0.2")):
        wanted = [[p for _, p, _ in pair] for pair in facts[f"simple_classification_policy{name}"]]
        assert [[p for _, p in pair] for pair in policy] == wanted


@pytest.mark.parametrize("target", [33, 65, 97])
def test_resampling_to_fit_and_by_a_scale(resized: Arrays, target: int) -> None:
    image, label = resized["image"], resized["label"]
    fitted = fit_size(label.shape, (target, target))
    for name, sizes in [(f"range{target}", [fitted])] + [
        (f"range{target}_scale{number}", [fitted, scaled_size(fitted, scale)])
        for number, scale in ((0, 0.3), (6, 0.9), (14, 1.7))
    ]:
        window = whole(sizes[-1])
        result = interpolate(image, sizes, window)[..., :3]
        np.testing.assert_array_equal(result, resized[f"{name}_image"])
        np.testing.assert_array_equal(pick_labels(label, sizes, window), resized[f"{name}_label"])


@pytest.mark.parametrize(("name", "target", "native"), [("sq97", (97, 97), False), ("none", (65, 97), True)])
def test_network_input_at_test_time(
    golden: Path, resized: Arrays, name: str, target: tuple[int, int], native: bool
) -> None:
    height, width = resized[f"test_{name}_resized"].shape[:2]
    for alpha in (0, 1):
        planes = np.full((3, *target), np.nan, np.float32)
        rgb = np.pad(resized["image"], ((0, 0), (0, 0), (0, alpha)), constant_values=9)
        assert write_fitted(rgb, planes, "tf", native) == (height, width)
        wanted = (resized[f"test_{name}_resized"] - np.float32(127.5)) / np.float32(127.5)
        np.testing.assert_array_equal(planes[:, :height, :width], wanted.transpose(2, 0, 1))
        assert (planes[:, height:] == 0).all()
        assert (planes[:, :, width:] == 0).all()
    ids = np.unique(resized["label"])
    owner = np.searchsorted(ids, resized["label"]) + 1
    none = np.zeros(len(ids), bool)
    decoded = DecodedImage(
        Image(0, "0.png", 80, 60), resized["image"], owner, SegmentLabels(np.zeros(len(ids), int), none, none)
    )
    view = plain_view(decoded, target, "tf", native)
    # The original takes the mean off, pads with 0 and adds it again, which costs it the last bit.
    np.testing.assert_allclose(view.pixels, resized[f"test_{name}_padded"], atol=8e-6)
    wanted = resized[f"test_{name}_label"]
    content = view.owner > 0
    np.testing.assert_array_equal(ids[view.owner[content] - 1], wanted[content])
    assert len(np.unique(wanted[~content])) <= 1


def test_scales_are_drawn_from_the_list(golden: Path) -> None:
    facts = json.loads((golden / "tf_data" / "preprocess.json").read_text())["scale_lists"]
    rng = np.random.default_rng(0)
    for name, (low, high) in {"coco_r50": (0.3, 1.7), "cityscapes_r50": (0.5, 2.0)}.items():
        drawn = {np.float32(draw_scale(rng, low, high, 0.1)) for _ in range(600)}
        np.testing.assert_allclose(sorted(drawn), facts[name]["canvas"], rtol=1e-6)
