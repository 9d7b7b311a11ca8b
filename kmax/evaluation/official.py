"""Cross-checks with the official evaluators, where a user has installed them.

They are slow and, except for pycocotools, not dependencies; hotcoco computes average precision by default.
panopticapi needs numpy below 2, so it runs in a separate environment.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kmax.errors import InputError
from kmax.evaluation import coco_ap
from kmax.evaluation.cityscapes.cityscapes_ap import CityscapesAP
from kmax.evaluation.cityscapes.cityscapes_format import INSTANCE_CLASSES, find_frames
from kmax.evaluation.cityscapes.cityscapes_miou import CityscapesMiou
from kmax.evaluation.coco_ap import CocoAP
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import GROUPS, PQResult

TOLERANCE = 1e-9
# Environment variable: the Python interpreter that has panopticapi; default: the one that runs.
PANOPTICAPI_PYTHON = "KMAX_PANOPTICAPI_PYTHON"
_RUN_PANOPTICAPI = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    from panopticapi.evaluation import pq_compute
    figures = pq_compute(*sys.argv[1:])
print(json.dumps(figures))
"""


def check_pq(ours: PQResult, arguments: PanopticArguments) -> str:
    """Compare all figures with those of panopticapi.

    Returns:
        One line that says how far they agree.

    Raises:
        InputError: it is not installed, fails on the files, or gives different values.
    """
    theirs = _panopticapi(arguments)
    figures = ours.to_json()
    pairs = [
        (f"{group} {score}", figures[group][score], theirs[group.capitalize()][score])
        for group in GROUPS
        for score in ("pq", "sq", "rq")
    ]
    for key, scores in theirs["per_class"].items():
        category = str(int(json.loads(key)))  # the id as the JSON states it, such as 3.0
        mine = figures["per_category"][category]
        pairs += [(f"category {category} {score}", mine[score], value) for score, value in scores.items()]
    return _verdict("panopticapi", pairs)


def _panopticapi(arguments: PanopticArguments) -> dict[str, Any]:
    """What `pq_compute` returns, through JSON: keys are strings."""
    python = os.environ.get(PANOPTICAPI_PYTHON, sys.executable)
    paths = (arguments.gt_json, arguments.pred_json, arguments.gt_dir, arguments.pred_dir)
    command = [python, "-c", _RUN_PANOPTICAPI, *map(str, paths)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(
            f"--check-with official: {PANOPTICAPI_PYTHON}: {python}: {error.strerror}"
        ) from error
    if answer.returncode:
        reason = (answer.stderr.strip() or f"exit code {answer.returncode}").splitlines()[-1]
        if "No module named 'panopticapi'" in reason:
            raise InputError(
                f"--check-with official: panopticapi is not installed: run pip install panopticapi-lite in a "
                f"separate environment and set {PANOPTICAPI_PYTHON} to its Python"
            )
        raise InputError(f"--check-with official: panopticapi failed ({python}): {reason}")
    figures: dict[str, Any] = json.loads(answer.stdout)
    return figures


def check_coco_ap(ours: CocoAP, truth_json: Path, detections_json: Path) -> str:
    """Compare all figures with those that pycocotools computes; as `check_pq`."""
    options: Any = {"iou_type": ours.iou_type, "max_detections": ours.max_detections}
    official = coco_ap.evaluate_files(truth_json, detections_json, **options, engine="pycocotools")
    figures, theirs = ours.to_json(), official.to_json()
    pairs = [(name, figures[name], _number(theirs[name])) for name in theirs if name.startswith(("ap", "ar"))]
    pairs += [
        (f"category {category} {score}", figures["per_category"][category][score], _number(value))
        for category, scores in theirs["per_category"].items()
        for score, value in scores.items()
    ]
    return _verdict("pycocotools", pairs)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def check_cityscapes_ap(ours: CityscapesAP, truth_dir: Path, predicted_dir: Path) -> str:
    """Compare the average precision of each class with that of cityscapesscripts; as `check_pq`."""
    name = "cityscapesscripts"
    module = _cityscapesscripts("evalInstanceLevelSemanticLabeling")
    frames, _ = find_frames(truth_dir, predicted_dir, "_gtFine_instanceIds.png", ".txt", warn=False)
    with tempfile.TemporaryDirectory() as folder, _quiet(name):
        module.writeDict2JSON = lambda *_: None  # its ground truth cache cannot store numpy integers
        arguments = module.args
        arguments.quiet, arguments.JSONOutput = True, False
        arguments.predictionPath = str(Path(predicted_dir).resolve())
        arguments.gtInstancesFile = str(Path(folder) / "instances.json")  # its default is beside its code
        predicted, truth = [str(f.predicted.resolve()) for f in frames], [str(f.truth) for f in frames]
        theirs = module.evaluateImgLists(predicted, truth, arguments)["averages"]
    figures = ours.to_json()
    pairs = [("ap", figures["ap"], theirs["allAp"]), ("ap50", figures["ap50"], theirs["allAp50%"])]
    for label in INSTANCE_CLASSES:
        mine, official = figures["per_category"][str(label.id)], theirs["classes"][label.name]
        pairs += [(f"{label.name} ap", mine["ap"], official["ap"])]
        pairs += [(f"{label.name} ap50", mine["ap50"], official["ap50%"])]
    return _verdict(name, pairs)


def check_cityscapes_miou(ours: CityscapesMiou, truth_dir: Path, predicted_dir: Path) -> str:
    """Compare the mean IoU and iIoU of classes and categories with cityscapesscripts; as `check_pq`."""
    name = "cityscapesscripts"
    module = _cityscapesscripts("evalPixelLevelSemanticLabeling")
    frames, _ = find_frames(truth_dir, predicted_dir, "_gtFine_labelIds.png", ".png", warn=False)
    with _quiet(name):
        module.args.quiet, module.args.JSONOutput, module.args.evalPixelAccuracy = True, False, False
        predicted, truth = [str(f.predicted) for f in frames], [str(f.truth) for f in frames]
        theirs = module.evaluateImgLists(predicted, truth, module.args)
    figures = ours.to_json()
    keys = {
        "miou": "averageScoreClasses",
        "iiou": "averageScoreInstClasses",
        "category_iou": "averageScoreCategories",
        "category_iiou": "averageScoreInstCategories",
    }
    return _verdict(name, [(key, figures[key], theirs[official]) for key, official in keys.items()])


def _cityscapesscripts(module: str) -> Any:
    package = "cityscapesscripts"
    try:
        return importlib.import_module(f"{package}.evaluation.{module}")
    except ImportError as error:
        missing = error.name or package
        if missing.split(".")[0] == package:
            raise InputError(
                f"--check-with official: {package} is not installed: pip install {package}"
            ) from None
        raise InputError(f"--check-with official: {package} cannot be imported: {error}") from error


@contextlib.contextmanager
def _quiet(package: str) -> Iterator[None]:
    """Silence an official evaluator, and report its failure in one line."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (Exception, SystemExit) as error:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            package = f"{package} {importlib.metadata.version(package)}"
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if isinstance(error, AttributeError) and "module 'numpy'" in reason:
            reason = f"it requires an older numpy ({reason})"
        raise InputError(
            f"--check-with official: {package} failed (numpy {np.__version__}): {reason}"
        ) from error


def _verdict(package: str, pairs: list[tuple[str, float | None, float]]) -> str:
    """One line about figures that agree; nan and None are equal.

    Raises:
        InputError: every figure that differs.
    """
    worst, faults = 0.0, []
    for name, mine, official in pairs:
        known = mine is not None and not np.isnan(official)
        difference = abs(mine - official) if known and mine is not None else 0.0
        worst = max(worst, difference)
        if difference > TOLERANCE or known != (mine is not None) or known == bool(np.isnan(official)):
            faults.append(f"{name}: {package} gives {official}, this evaluator {mine}")
    if faults:
        raise InputError(faults)
    return f"{package} agrees on {len(pairs)} values, largest difference {worst:.1e}"
