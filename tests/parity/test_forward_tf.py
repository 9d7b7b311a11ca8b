"""The forward pass of flavour "tf", array by array, against runs of deeplab2 with the same weights."""

from pathlib import Path

import pytest
from forward_golden import CARRIED, Deviation
from forward_tf import TF_CASES, max_s_deviations, small_deviations, tf_deviations


def beyond_bounds(deviations: list[Deviation]) -> list[Deviation]:
    return [deviation for deviation in deviations if not deviation.within]


def test_the_carried_case() -> None:
    assert beyond_bounds(tf_deviations(CARRIED / "tf", "coco_r50")) == []


@pytest.mark.parametrize("config", TF_CASES)
def test_every_array_of_a_case(golden: Path, config: str) -> None:
    assert beyond_bounds(tf_deviations(golden / "tf_reference", config)) == []


def test_every_block_of_max_s(golden: Path) -> None:
    assert beyond_bounds(max_s_deviations(golden / "tf_reference")) == []


def test_the_network_of_the_small_checkpoint(golden: Path) -> None:
    """All its widths differ, so that no two can be confused."""
    assert beyond_bounds(small_deviations(golden / "tf_reference")) == []
