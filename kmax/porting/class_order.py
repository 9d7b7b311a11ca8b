"""The order of classes: deeplab2's weights have things, stuff, void; ours the dataset's order, then void."""

from __future__ import annotations

from collections.abc import Sequence

from kmax.errors import InputError

# Stuff classes of ADE20K's panoptic benchmark, of 150 classes in the order of the dataset.
ADE20K_STUFF = {
    *range(7), 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54, 59, 60, 61, 63, 68, 77, 79,
    84, 91, 94, 96, 99, 100, 101, 105, 106, 109, 113, 114, 117, 122, 128, 131, 140, 141, 145,
}  # fmt: skip
THINGS = {
    133: tuple(range(80)),  # COCO
    19: tuple(range(11, 19)),  # Cityscapes
    150: tuple(c for c in range(150) if c not in ADE20K_STUFF),
}


def dataset_order(num_classes: int, things: Sequence[int] | None) -> list[int]:
    """For each class in the dataset's order, and then void: its place in deeplab2's class logits.

    Args:
        num_classes: K, without void.
        things: indices of the thing classes in the dataset's order. None: as in the datasets of the paper,
            which `num_classes` tells apart; with another number, the dataset's order has things first.

    Raises:
        InputError: `things` does not name classes.
    """
    if things is None:
        things = THINGS.get(num_classes, ())
    first = sorted(set(things))
    if first and not 0 <= first[0] <= first[-1] < num_classes:
        raise InputError(f"thing classes {first[0]} to {first[-1]}: there are only {num_classes} classes")
    theirs = [*first, *sorted(set(range(num_classes)) - set(first)), num_classes]
    place = {label: index for index, label in enumerate(theirs)}
    return [place[label] for label in range(num_classes + 1)]
