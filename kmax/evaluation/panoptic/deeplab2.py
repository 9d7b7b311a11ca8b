"""Panoptic quality and instance AP as deeplab2 counts them: the second number of the TensorFlow zoo.

It differs from panopticapi in what a segment is. A label map holds class x divisor + instance, so segments
are (class, instance) pairs. Only instance 0 of the ignored class is void; other instances of that class
(crowds) suppress no false positives. Areas are counted pixels.

Legend of shapes: H W pixels, C classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.evaluation.coco_ap import CocoAP, evaluate
from kmax.evaluation.panoptic.image_segments import ImageSegments, count_images
from kmax.evaluation.panoptic.pairs import VOID, Pairs, count_pairs
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import Counts, PQResult, collect

EVALUATOR = "kmax panoptic quality (deeplab2 rules)"
PROTOCOL = (
    "label maps of (class, instance) made from panoptic maps: one segment per stuff class, crowd is void"
)
# Larger than the number of segments of any image.
_DIVISOR = 2**20
LabelMap = NDArray[np.integer[Any]]


def evaluate_files(arguments: PanopticArguments) -> PQResult:
    """Panoptic quality by deeplab2's rules; errors as `pq.evaluate_files`."""
    files = arguments.open()
    isthing = [category.isthing for category in files.categories]
    counts = count_images(files, partial(match_image, isthing=isthing), arguments.workers, arguments.strict)
    result = collect(files.categories, [i.image_id for i in files.images], counts, files.warnings.lines())
    return replace(result, provenance=files.provenance(EVALUATOR, PROTOCOL, arguments.split))


def match_image(image: ImageSegments, isthing: list[bool]) -> Counts:
    """Panoptic quality counts [C] of one image of panoptic maps, as label maps of deeplab2 hold it.

    Segments of one stuff class are one; crowd and unlisted ground truth is void.
    """
    unknown = len(isthing)
    counted = np.where(image.truth_crowd, -1, image.truth_classes)
    pairs = Pairs(
        _labels(image.pairs.truth, image.truth_ids, counted, isthing),
        _labels(image.pairs.predicted, image.predicted_ids, image.predicted_classes, isthing),
        image.pairs.pixels,
    )
    return match_pairs(_merged(pairs), unknown, unknown, _DIVISOR)


def _labels(
    queries: NDArray[np.int64], ids: NDArray[np.int64], classes: NDArray[np.int64], isthing: list[bool]
) -> NDArray[np.int64]:
    """The label of each of `queries`; the label of void where an id has no class."""
    void = len(isthing) * _DIVISOR
    table = {
        number: index * _DIVISOR + (place + 1 if isthing[index] else 0)
        for place, (number, index) in enumerate(zip(ids.tolist(), classes.tolist(), strict=True))
        if index >= 0 and number != VOID
    }
    return np.array([table.get(number, void) for number in queries.tolist()], np.int64)


def _merged(pairs: Pairs) -> Pairs:
    """Each pair of labels once."""
    both, places = np.unique(np.stack([pairs.truth, pairs.predicted]), axis=1, return_inverse=True)
    return Pairs(both[0], both[1], np.bincount(places.reshape(-1), pairs.pixels).astype(np.int64))


def match(
    truth: LabelMap, predicted: LabelMap, num_classes: int, ignored_class: int, label_divisor: int
) -> Counts:
    """Panoptic quality counts [C] of one image.

    Args:
        truth, predicted: label maps [H, W], class x label_divisor + instance.
        ignored_class: class of void; may be outside 0 .. num_classes - 1.
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
