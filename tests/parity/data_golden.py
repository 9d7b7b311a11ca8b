"""Readers of the recorded samples of deeplab2's input pipeline."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import Image
from kmax.data.image_source import DecodedImage, SegmentLabels

CARRIED = Path(__file__).resolve().parents[1] / "golden" / "tf_data"


def read(name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What was recorded under `name`: its JSON, and its arrays."""
    with np.load(CARRIED / f"{name}.npz") as stored:
        return json.loads((CARRIED / f"{name}.json").read_text()), dict(stored)


CONSTANTS = json.loads((CARRIED / "preprocess.json").read_text())["datasets"]


class Dataset:
    """The constants of the dataset that a case's name begins with; labels are class * divisor + instance."""

    def __init__(self, case: str) -> None:
        values = next(value for name, value in CONSTANTS.items() if name.startswith(case.split("_")[0]))
        self.divisor: int = values["panoptic_label_divisor"]
        self.ignore: int = values["ignore_label"]
        self.things: list[int] = values["thing_class_ids"]

    @property
    def void(self) -> int:
        """The label of pixels without one."""
        return self.ignore * self.divisor

    def decoded(self, image: NDArray[Any], label: NDArray[np.int32]) -> tuple[DecodedImage, list[int]]:
        """An image with its labels as owners, and the label of each owner from 1 on.

        Crowd is an ordinary segment here: the recorded samples move it like one.
        """
        ids = [number for number in np.unique(label).tolist() if number != self.void]
        owner = np.zeros(label.shape, np.uint16)
        for index, number in enumerate(ids, start=1):
            owner[label == number] = index
        classes = np.array(ids, np.int64) // self.divisor
        labels = SegmentLabels(classes, np.isin(classes, self.things), np.zeros(len(ids), bool))
        about = Image(0, "0.png", label.shape[1], label.shape[0])
        return DecodedImage(about, image, owner, labels), ids

    def crowd(self, labels: SegmentLabels, ids: list[int]) -> SegmentLabels:
        """The labels with crowd (instance 0 of a thing class) named as such."""
        return SegmentLabels(
            labels.classes, labels.isthing, labels.isthing & (np.array(ids) % self.divisor == 0)
        )

    def pasted(self, ids: list[int]) -> list[int]:
        """The labels that pasted ones become."""
        return [
            number // self.divisor * self.divisor + self.divisor - 1 - number % self.divisor
            if number % self.divisor
            else number
            for number in ids
        ]
