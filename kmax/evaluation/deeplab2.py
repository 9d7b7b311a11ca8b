"""Panoptic quality and instance AP as deeplab2 counts them: the second number of the TensorFlow zoo.

It differs from panopticapi in what a segment is. A label map holds class x divisor + instance, so segments
are (class, instance) pairs. Only instance 0 of the ignored class is void; other instances of that class
(crowds) forgive nothing. Areas are counted pixels.

Legend of shapes: H W pixels, C classes.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.evaluation.coco_ap import CocoAP, evaluate
from kmax.evaluation.pairs import Pairs, count_pairs
from kmax.evaluation.pq import Counts

EVALUATOR = "kmax panoptic quality (deeplab2 rules)"
LabelMap = NDArray[np.integer[Any]]


def match(
    truth: LabelMap, predicted: LabelMap, num_classes: int, ignored_class: int, label_divisor: int
) -> Counts:
    """Panoptic quality counts [C] of one image.

    Args:
        truth, predicted: label maps [H, W], class x label_divisor + instance.
        ignored_class: class of void; may lie outside of 0 .. num_classes - 1.
    """
    pairs = count_pairs(truth.astype(np.int32), predicted.astype(np.int32))
    return match_pairs(pairs, num_classes, ignored_class, label_divisor)


def match_pairs(pairs: Pairs, num_classes: int, ignored_class: int, label_divisor: int) -> Counts:
    """Panoptic quality counts [C] from the pixels that pairs of labels share."""
    truths, truth_of = np.unique(pairs.truth, return_inverse=True)
    guesses, guess_of = np.unique(pairs.predicted, return_inverse=True)
    truth_areas = np.bincount(truth_of, pairs.pixels, len(truths))
    guess_areas = np.bincount(guess_of, pairs.pixels, len(guesses))
    on_void = pairs.truth == ignored_class * label_divisor
    void = np.bincount(guess_of[on_void], pairs.pixels[on_void], len(guesses))
    truth_classes, guess_classes = truths // label_divisor, guesses // label_divisor

    same = (truth_classes[truth_of] == guess_classes[guess_of]) & (truth_classes[truth_of] != ignored_class)
    iou = np.zeros(len(pairs.pixels))
    union = truth_areas[truth_of] + guess_areas[guess_of] - pairs.pixels - void[guess_of]
    iou[same] = pairs.pixels[same] / union[same]
    matched = iou > 0.5
    missed, spurious = truth_classes != ignored_class, guess_classes != ignored_class
    missed[truth_of[matched]] = False
    spurious[guess_of[matched]] = False
    spurious &= ~(void / guess_areas > 0.5)

    def total(classes: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return np.bincount(classes, weights, num_classes).astype(np.float64)

    classes = truth_classes[truth_of[matched]]
    return Counts(
        iou_sum=total(classes, iou[matched]),
        tp=total(classes),
        fp=total(guess_classes[spurious]),
        fn=total(truth_classes[missed]),
    )


def summary(counts: Counts) -> dict[str, float]:
    """PQ, SQ, RQ, TP, FN and FP, each averaged over the classes that occur, from counts [C]."""
    occurs = counts.occurs()
    pq, sq, rq = counts.scores()
    columns = {"pq": pq, "sq": sq, "rq": rq, "tp": counts.tp, "fn": counts.fn, "fp": counts.fp}
    return {name: float(values[occurs].mean()) if occurs.any() else 0.0 for name, values in columns.items()}


class InstanceAP:
    """Average precision of the instances of label maps, by COCO's rules.

    The score of an instance is the mean of the instance scores of its pixels times the mean probability of
    its class there.

    Args:
        thing_classes: classes whose instances count.
    """

    def __init__(self, thing_classes: Collection[int], ignored_class: int, label_divisor: int) -> None:
        self.classes = set(thing_classes) - {ignored_class}
        self.divisor = label_divisor
        self.images: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.detections: list[dict[str, Any]] = []

    def update(
        self,
        truth: LabelMap,
        predicted: LabelMap,
        semantic_probability: NDArray[Any],
        instance_score: NDArray[Any],
        crowd: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add one image.

        Args:
            truth, predicted: label maps [H, W].
            semantic_probability: [H, W, C].
            instance_score: [H, W].
            crowd: [H, W], where ground truth instances are crowds.
        """
        number = len(self.images) + 1
        self.images.append({"id": number, "height": truth.shape[0], "width": truth.shape[1]})
        for label in self._instances(truth):
            mask = truth == label
            annotation = _annotation(number, label // self.divisor, mask)
            annotation |= {"id": len(self.truth) + 1, "area": int(mask.sum())}
            self.truth.append(annotation | {"iscrowd": int(crowd is not None and bool(crowd[mask].any()))})
        for label in self._instances(predicted):
            mask = predicted == label
            category = label // self.divisor
            score = instance_score[mask].mean() * semantic_probability[..., category][mask].mean()
            self.detections.append(_annotation(number, category, mask) | {"score": float(score)})

    def _instances(self, labels: LabelMap) -> list[int]:
        """Labels of things, in the order of their first pixels."""
        found, first = np.unique(labels, return_index=True)
        ordered = found[np.argsort(first)].tolist()
        return [label for label in ordered if label // self.divisor in self.classes]

    def compute(self) -> CocoAP:
        """The average precision of all images so far."""
        categories = {entry["category_id"] for entry in [*self.truth, *self.detections]}
        content = {
            "images": self.images,
            "annotations": self.truth,
            "categories": [{"id": category} for category in sorted(categories)],
        }
        return evaluate(content, self.detections)


def _annotation(image: int, category: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    from pycocotools import mask as masks

    return {
        "image_id": image,
        "category_id": int(category),
        "segmentation": masks.encode(np.asfortranarray(mask.astype(np.uint8))),
    }
