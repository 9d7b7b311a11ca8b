"""A loss that is NaN or infinite ends the training with a message that names the term and the images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class NonFiniteLossError(Exception):
    """A loss term, or a cost of the matching, is NaN or infinite.

    Args:
        term: the non-finite term, such as `aux0/dice`.
        image_ids: the images of the batch for which it is not.
    """

    def __init__(self, term: str, image_ids: Sequence[int | str]) -> None:
        self.term = term
        self.image_ids = list(image_ids)
        images = ", ".join(str(image_id) for image_id in self.image_ids)
        super().__init__(
            f"{term} is not finite for image {images}: the network's output has overflowed or is NaN; "
            "lower the learning rate, clip the gradient, or check these images"
        )


def check_finite(terms: dict[str, Tensor], image_ids: Sequence[int | str]) -> None:
    """Raise for the first term with a non-finite value; one device synchronisation for all terms.

    Args:
        terms: per name the values of the images, [B].
        image_ids: ids of the B images.

    Raises:
        NonFiniteLossError: names the term and the images.
    """
    finite = torch.isfinite(torch.stack([values.detach() for values in terms.values()]))  # [terms, B]
    if bool(finite.all()):
        return
    for name, row in zip(terms, finite.tolist(), strict=True):
        if not all(row):
            raise NonFiniteLossError(f"loss term '{name}'", bad_images(row, image_ids))


def bad_images(finite: Sequence[bool], image_ids: Sequence[int | str]) -> list[int | str]:
    """The ids of the images whose flag is false."""
    return [image_id for image_id, good in zip(image_ids, finite, strict=True) if not good]
