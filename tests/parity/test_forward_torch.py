"""The forward pass of flavour "torch", array by array, against runs of the PyTorch original."""

from pathlib import Path

import pytest
from forward_golden import CARRIED
from forward_torch import TORCH_CASES, torch_deviations


def test_the_carried_case() -> None:
    assert [d for d in torch_deviations(CARRIED / "torch", "coco_r50") if not d.within] == []


@pytest.mark.parametrize("config", TORCH_CASES)
def test_every_array_of_a_case(golden: Path, config: str) -> None:
    assert [d for d in torch_deviations(golden / "torch_reference", config) if not d.within] == []
