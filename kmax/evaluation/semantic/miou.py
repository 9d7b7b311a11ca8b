"""Mean intersection over union of the semantic maps that follow from panoptic maps.

A pixel has the class of its segment. Void pixels of the ground truth are ignored; a void prediction on a
labelled pixel is a miss. Crowd segments are ordinary pixels of their class. Which classes the mean goes over
is a convention; the first of AVERAGES is the one that figures without a name follow.

Legend of shapes: I images, C categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmax.data.formats.coco_panoptic import CategoryFacts, ImageId
from kmax.evaluation.panoptic.image_segments import ImageSegments, count_images
from kmax.evaluation.panoptic.pairs import VOID
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.score_provenance import Provenance
from kmax.evaluator_version import VERSION

EVALUATOR = "kmax mean IoU of panoptic maps"
PROTOCOL = "the class of each pixel's segment, void ground truth left out"
# Which program averages over which classes. Where all classes occur in the ground truth they agree.
AVERAGES = (
    "classes in ground truth or prediction",  # Cityscapes, mmsegmentation
    "classes in ground truth",  # detectron2
    "all classes",  # the toolkit of ADE20K; absent classes count 0
)


@dataclass(frozen=True)
class PixelCounts:
    """Pixels per image and category, or any sums of them: float64 [..., C], whole numbers.

    Attributes:
        intersection: labelled and predicted as the category.
        truth: labelled as the category.
        predicted: predicted as the category on labelled pixels.
    """

    intersection: NDArray[np.float64]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]

    def union(self) -> NDArray[np.float64]:
        """Pixels labelled or predicted as the category [..., C]."""
        return self.truth + self.predicted - self.intersection

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union [..., C]; nan where the category does not occur."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.union() > 0, self.intersection / self.union(), np.nan)

    def averages(self) -> dict[str, float | None]:
        """Mean IoU by each of AVERAGES, from counts [C]; None where nothing occurs."""
        iou, labelled = self.iou(), self.truth > 0
        chosen = (iou[~np.isnan(iou)], iou[labelled], np.nan_to_num(iou) if labelled.any() else iou[:0])
        means = (float(values.mean()) if values.size else None for values in chosen)
        return dict(zip(AVERAGES, means, strict=True))

    def accuracies(self) -> dict[str, float | None]:
        """Of pixels, of pixels per class (mean over classes in ground truth), and IoU weighted by pixels."""
        labelled = self.truth > 0
        if not labelled.any():
            return {"pixel_accuracy": None, "mean_accuracy": None, "frequency_weighted_iou": None}
        intersection, truth = self.intersection[labelled], self.truth[labelled]
        return {
            "pixel_accuracy": float(intersection.sum() / truth.sum()),
            "mean_accuracy": float((intersection / truth).mean()),
            "frequency_weighted_iou": float((self.iou()[labelled] * truth).sum() / truth.sum()),
        }


@dataclass(frozen=True)
class MiouResult:
    """Mean IoU of a split; `per_image` has counts [I, C], `warnings` the unusual input that was accepted,
    `provenance` where they come from, if from files."""

    categories: list[CategoryFacts]
    image_ids: Sequence[ImageId]
    per_image: PixelCounts
    warnings: list[str]
    provenance: Provenance | None = None

    def counts(self) -> PixelCounts:
        """Counts over all images [C]."""
        images = self.per_image
        return PixelCounts(*(a.sum(0) for a in (images.intersection, images.truth, images.predicted)))

    def to_json(self) -> dict[str, Any]:
        """The means (None where nothing occurs), the number of classes, and IoU and pixels per class."""
        counts = self.counts()
        iou = counts.iou()
        occurs = ~np.isnan(iou)
        columns = zip(iou, counts.intersection, counts.truth, counts.predicted, strict=True)
        return {
            "evaluator": self.provenance.evaluator if self.provenance else EVALUATOR,
            "version": VERSION,
            **({"provenance": self.provenance.to_json()} if self.provenance else {}),
            "average": AVERAGES[0],
            "miou": counts.averages()[AVERAGES[0]],
            "averages": counts.averages(),
            **counts.accuracies(),
            "n": int(occurs.sum()),
            "per_class": {
                str(category.id): {
                    "iou": None if np.isnan(value) else float(value),
                    "intersection": int(intersection),
                    "truth": int(truth),
                    "predicted": int(predicted),
                }
                for category, (value, intersection, truth, predicted) in zip(
                    self.categories, columns, strict=True
                )
            },
        }


def count_pixels(image: ImageSegments, num_categories: int) -> PixelCounts:
    """Pixel counts of one image [C]; ground truth of an unknown category counts as void."""
    truth = _classes_of(image.pairs.truth, image.truth_ids, image.truth_classes)
    predicted = _classes_of(image.pairs.predicted, image.predicted_ids, image.predicted_classes)
    truth[image.pairs.truth == VOID] = -1
    labelled = truth >= 0
    pixels = image.pairs.pixels

    def total(classes: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(classes[chosen], pixels[chosen], minlength=num_categories).astype(np.float64)

    return PixelCounts(
        intersection=total(truth, labelled & (truth == predicted)),
        truth=total(truth, labelled),
        predicted=total(predicted, labelled & (predicted >= 0)),
    )


def _classes_of(
    queries: NDArray[np.int64], ids: NDArray[np.int64], classes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The class of each of `queries`; -1 where `ids` does not list it."""
    table = dict(zip(ids.tolist(), classes.tolist(), strict=True))
    return np.array([table.get(number, -1) for number in queries.tolist()], np.int64)


def collect(
    categories: list[CategoryFacts],
    image_ids: Sequence[ImageId],
    counts: Sequence[PixelCounts],
    warnings: list[str],
) -> MiouResult:
    """The result over images whose counts [C] are given in order."""

    def stack(name: str) -> NDArray[np.float64]:
        rows = [getattr(c, name) for c in counts]
        return np.stack(rows) if rows else np.zeros((0, len(categories)))

    per_image = PixelCounts(*(stack(name) for name in ("intersection", "truth", "predicted")))
    return MiouResult(categories, image_ids, per_image, warnings)


def evaluate_files(arguments: PanopticArguments) -> MiouResult:
    """Mean IoU of predictions in COCO panoptic format; errors as `pq.evaluate_files`."""
    files = arguments.open()
    num_categories = len(files.categories)
    count = partial(count_pixels, num_categories=num_categories)
    counts = count_images(files, count, arguments.workers, arguments.strict)
    result = collect(files.categories, [i.image_id for i in files.images], counts, files.warnings.lines())
    return replace(result, provenance=files.provenance(EVALUATOR, PROTOCOL, arguments.split))
