"""Small synthetic batches and outputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kmax import config
from kmax.data.batch import Batch
from kmax.model.output import Auxiliary, Output

CLASSES = 4
CLUSTERS = 6
SIZE = (17, 33)  # of the final output; the labels are 4 times as large, less 3


@pytest.fixture
def losses() -> config.Losses:
    return config.Losses(
        class_weight=3.0,
        dice_weight=3.0,
        mask_id_weight=0.3,
        instance_discrimination_weight=1.0,
        semantic_weight=1.0,
        sample_k=64,
        sample_temperature=1.5,
    )


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of one image per list of segment classes: vertical stripes, then a stripe of void."""

    def make(*classes: list[int], crowd: bool = False) -> Batch:
        height, width = (4 * (n - 1) + 1 for n in SIZE)
        segments = torch.full((len(classes), height, width), -1)
        semantic = segments.clone()
        for image, labels in enumerate(classes):
            stripe = width // (len(labels) + 1)
            for index, label in enumerate(labels):
                columns = slice(index * stripe, (index + 1) * stripe)
                segments[image, :, columns] = index
                semantic[image, :, columns] = label
            if crowd:
                semantic[image, :, -8:] = 0
        sizes = [(height, width)] * len(classes)
        return Batch(
            images=torch.zeros(len(classes), 3, height, width),
            segments=segments,
            semantic=semantic,
            classes=[torch.tensor(labels, dtype=torch.int64) for labels in classes],
            image_ids=[f"image{index}" for index in range(len(classes))],
            content_sizes=sizes,
            original_sizes=sizes,
        )

    return make


@pytest.fixture
def make_output() -> Callable[..., Output]:
    """Random predictions that require gradients, with auxiliary outputs at strides 32 and 8."""

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape) * scale).requires_grad_()

    def prediction(images: int, clusters: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        features = F.normalize(torch.randn(images, 8, *size), dim=1).requires_grad_()
        return leaf(images, clusters, CLASSES + 1), leaf(images, clusters, *size, scale=2.0), features

    def make(images: int, clusters: int = CLUSTERS) -> Output:
        torch.manual_seed(0)
        layers = [prediction(images, clusters, size) for size in ((3, 5), (9, 17))]
        return Output(
            *prediction(images, clusters, SIZE),
            semantic_logits=leaf(images, CLASSES + 1, *SIZE),
            auxiliary=[Auxiliary(*layer, assignment=layer[1].argmax(1)) for layer in layers],
        )

    return make
