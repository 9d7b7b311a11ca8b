"""Metrics of a run: names in metrics.json, titles, headline figures, and the evaluators that compute them.

This is the one table of metrics. The section `evaluate` of a run accepts the values that it lists,
`kmax evaluate` calls the functions that it names, and scores.json, the site and `kmax compare` take names and
titles from it. A new evaluator is a file with a function, and one line in EVALUATORS.

Functions are named, not imported: the table is below `kmax.evaluation` in the order of imports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

Option = Literal["metrics", "ap", "miou"]


@dataclass(frozen=True)
class HeadlineFigure:
    """One figure of a metric shown in scores.json and on the page of a run.

    Attributes:
        name: its key in scores.json.
        title: its name on the page.
        path: its place in the metric's part of metrics.json, such as `all/pq`.
    """

    name: str
    title: str
    path: str


@dataclass(frozen=True)
class Metric:
    """One part of metrics.json.

    Attributes:
        name: key of the part.
        title: its display name.
        headline: its headline figures; figures are fractions.
        has_pixel_counts: whether it is a mean IoU whose counts per image may be those of per_image.npz.
    """

    name: str
    title: str
    headline: tuple[HeadlineFigure, ...]
    has_pixel_counts: bool = False


@dataclass(frozen=True)
class Evaluator:
    """One way to evaluate a run's predictions.

    Attributes:
        option, value: the entry of a run's section `evaluate` that asks for it; `metrics` is a list.
        metrics: the metrics that it computes.
        function: `module:name`; takes `Predictions` and returns a `Score` for each of its metrics, by name
            (both are in `kmax.evaluation.run.run_scores`).
        about: one phrase for the reference of run parameters.
        count: `module:name` of a function that counts one image's panoptic map, called in the one pass over
            all maps with an image's segments and whether each category is a thing; None: not needed.
        needs: entries of the section `predict` that write the predictions it reads.
        whole_split: whether it evaluates whole splits only, not the images listed in `data.val_images`.
    """

    option: Option
    value: str
    metrics: tuple[Metric, ...]
    function: str
    about: str
    count: str | None = None
    needs: dict[str, Any] = field(default_factory=dict)
    whole_split: bool = False


PQ = Metric(
    "pq",
    "PQ",
    (
        HeadlineFigure("pq", "PQ", "all/pq"),
        HeadlineFigure("pq_things", "PQ things", "things/pq"),
        HeadlineFigure("pq_stuff", "PQ stuff", "stuff/pq"),
        HeadlineFigure("sq", "SQ", "all/sq"),
        HeadlineFigure("rq", "RQ", "all/rq"),
    ),
)
PQ_DEEPLAB2 = Metric(
    "pq_deeplab2",
    "PQ by deeplab2's rules",
    (HeadlineFigure("pq_deeplab2", "PQ by deeplab2's rules", "all/pq"),),
)
AP = Metric("ap", "AP", (HeadlineFigure("ap", "AP", "ap"), HeadlineFigure("ap50", "AP50", "ap50")))
AP_BOX = Metric("ap_box", "AP of boxes", (HeadlineFigure("ap_box", "AP of boxes", "ap"),))
MIOU = Metric("miou", "mIoU", (HeadlineFigure("miou", "mIoU", "miou"),), has_pixel_counts=True)
MIOU_PANOPTIC = Metric(
    "miou_panoptic",
    "mIoU of panoptic maps",
    (HeadlineFigure("miou_panoptic", "mIoU of panoptic maps", "miou"),),
    has_pixel_counts=True,
)
CEILING = Metric(
    "ceiling", "PQ ceiling of the grid", (HeadlineFigure("pq_ceiling", "PQ ceiling of the grid", "all/pq"),)
)

_RUN = "kmax.evaluation.run.run_scores"
_COCO = {"instances": "coco"}
_CITYSCAPES = {"instances": "cityscapes"}
_LABELS = {"semantic": True}

# In the order in which figures are shown; of several mean IoUs, the first has its counts in per_image.npz.
EVALUATORS = (
    Evaluator("metrics", "pq", (PQ,), f"{_RUN}:panoptic_quality", "PQ by panopticapi's rules"),
    Evaluator(
        "metrics",
        "pq_deeplab2",
        (PQ_DEEPLAB2,),
        f"{_RUN}:deeplab2_quality",
        "PQ by deeplab2's rules",
        count="kmax.evaluation.panoptic.deeplab2:match_image",
    ),
    Evaluator(
        "ap",
        "coco",
        (AP, AP_BOX),
        f"{_RUN}:coco_precision",
        "COCO's rules, against the dataset's instance JSON",
        needs=_COCO,
    ),
    Evaluator(
        "ap",
        "cityscapes",
        (AP,),
        f"{_RUN}:cityscapes_precision",
        "Cityscapes' rules, against its label PNGs",
        needs=_CITYSCAPES,
        whole_split=True,
    ),
    Evaluator(
        "ap",
        "panoptic_annotation",
        (AP, AP_BOX),
        f"{_RUN}:things_precision",
        "COCO's rules, against the things of the panoptic annotation",
        needs=_COCO,
    ),
    Evaluator(
        "miou",
        "cityscapes",
        (MIOU,),
        f"{_RUN}:cityscapes_iou",
        "Cityscapes' rules, against its label PNGs",
        needs=_LABELS,
        whole_split=True,
    ),
    Evaluator(
        "miou",
        "ade20k",
        (MIOU,),
        f"{_RUN}:ade20k_iou",
        "ADE20K's rules, against its label PNGs",
        needs=_LABELS,
        whole_split=True,
    ),
    Evaluator(
        "miou",
        "panoptic_annotation",
        (MIOU,),
        f"{_RUN}:panoptic_annotation_iou",
        "against the classes of the panoptic annotation",
        needs=_LABELS,
    ),
    Evaluator(
        "metrics",
        "miou_panoptic",
        (MIOU_PANOPTIC,),
        f"{_RUN}:panoptic_map_iou",
        "mean IoU of the classes of segments",
    ),
    Evaluator(
        "metrics",
        "ceiling",
        (CEILING,),
        f"{_RUN}:grid_ceiling",
        "PQ of the ground truth on the stride-4 grid of the network's output",
    ),
)
METRICS = {metric.name: metric for evaluator in EVALUATORS for metric in evaluator.metrics}


def evaluators_of(option: Option) -> dict[str, Evaluator]:
    """The evaluators of an entry of the section `evaluate`, by the value that asks for them."""
    return {evaluator.value: evaluator for evaluator in EVALUATORS if evaluator.option == option}


def descriptions_of(option: Option) -> str:
    """The values of an entry of the section `evaluate`, for the reference of run parameters."""
    return "; ".join(f"{value}: {evaluator.about}" for value, evaluator in evaluators_of(option).items())


if TYPE_CHECKING:
    MapMetric: TypeAlias = str
    ApRules: TypeAlias = str
    MiouRules: TypeAlias = str
else:
    MapMetric = Literal[tuple(evaluators_of("metrics"))]
    ApRules = Literal[tuple(evaluators_of("ap"))]
    MiouRules = Literal[tuple(evaluators_of("miou"))]
