"""One small model for many tests: building it takes longer than running it."""

import pytest
import torch
from tiny_model import tiny

from kmax.config import Category
from kmax.model.kmax import KMaX


@pytest.fixture(scope="session")
def model() -> KMaX:
    torch.manual_seed(0)
    return tiny().eval()


@pytest.fixture
def categories() -> list[Category]:
    return [Category(id=3 * i + 1, name=f"class {i}", isthing=i < 4, color=[i, 2 * i, 0]) for i in range(8)]
