"""Size and speed are measured, not guessed."""

import numpy as np
import pytest
import torch

from kmax.inference.benchmark import benchmark_model, count_flops, measure, peak_memory, picture
from kmax.inference.predict_images import DEFAULTS
from kmax.model.create import create_model

CPU = torch.device("cpu")
PREDICT = DEFAULTS.model_copy(update={"class_threshold_thing": 0.4, "class_threshold_stuff": 0.4})


def test_flops_are_two_for_each_multiply_add() -> None:
    a, b = torch.rand(3, 5), torch.rand(5, 7)
    assert count_flops(lambda: a @ b) == 2 * 3 * 5 * 7
    convolution = torch.nn.Conv2d(4, 6, 3, padding=1, bias=False).requires_grad_(False)
    assert count_flops(lambda: convolution(torch.rand(1, 4, 10, 10))) == 2 * 4 * 6 * 9 * 100


def test_a_call_is_warmed_up_and_its_median_is_between_the_extremes() -> None:
    calls: list[int] = []
    times = measure(lambda: calls.append(1), CPU)
    assert times["fastest"] <= times["median"] <= times["slowest"]
    assert len(calls) == times["calls"] + 2


def test_peak_memory_includes_temporary_memory() -> None:
    def needs(megabytes: int) -> int | None:
        return peak_memory(lambda: np.ones(megabytes * 2**20, np.uint8).sum(), CPU)["above_rest"]

    large = needs(300)
    if large is None:
        pytest.skip("this system does not report the memory of a process")
    assert 290 * 2**20 < large < 400 * 2**20
    assert needs(0) < 100 * 2**20


@pytest.mark.parametrize(
    ("image_size", "expected"), [((129, 129), (97, 129)), ((101, 301), (101, 135)), ((301, 101), (76, 101))]
)
def test_the_picture_fits_the_input_and_is_always_the_same(image_size, expected) -> None:
    first = picture(image_size)
    assert first.shape == (*expected, 3)
    assert first.std() > 10
    assert np.array_equal(first, picture(image_size))


def test_a_model_is_measured_from_end_to_end() -> None:
    torch.manual_seed(0)
    model = create_model("kmax_tiny", num_classes=3, image_size=(65, 65), num_clusters=4)
    figures = benchmark_model(model, torch.tensor([True, False, True]), PREDICT)
    assert figures["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert figures["flops"] > 10 * figures["image_size"][0] * figures["image_size"][1]
    assert figures["machine"]["threads"] == torch.get_num_threads()
    assert figures["seconds"].keys() == {"forward", "end_to_end"}
