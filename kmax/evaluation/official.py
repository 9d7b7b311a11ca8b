"""Cross-checks with the official evaluators, where a user has installed them.

They are slow, and panopticapi is on no package index, so they are not dependencies.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kmax.errors import InputError
from kmax.evaluation.cityscapes.cityscapes_ap import CityscapesAP
from kmax.evaluation.cityscapes.cityscapes_files import find_frames
from kmax.evaluation.cityscapes.cityscapes_labels import INSTANCE_CLASSES
from kmax.evaluation.cityscapes.cityscapes_miou import CityscapesMiou
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments
from kmax.evaluation.panoptic.pq import GROUPS, PQResult

TOLERANCE = 1e-9
_INSTALL = {
    "panopticapi": "pip install git+https://github.com/cocodataset/panopticapi.git",
    "cityscapesscripts": "pip install cityscapesscripts",
}


def check_pq(ours: PQResult, arguments: PanopticArguments) -> str:
    """Compare all figures with panopticapi's.

    Returns:
        One line that says how far they agree.

    Raises:
        InputError: it is not installed, fails on the files, or gives other figures.
    """
    module = _official("panopticapi", "panopticapi.evaluation")
    with _told_apart("panopticapi"):
        paths = arguments.gt_json, arguments.pred_json, arguments.gt_dir, arguments.pred_dir
        theirs = module.pq_compute(*map(str, paths))
    figures = ours.to_json()
    pairs = [
        (f"{group} {score}", figures[group][score], theirs[group.capitalize()][score])
        for group in GROUPS
        for score in ("pq", "sq", "rq")
    ]
    pairs += [
        (f"category {category} {score}", figures["per_category"][str(category)][score], value)
        for category, scores in theirs["per_class"].items()
        for score, value in scores.items()
    ]
    return _verdict("panopticapi", pairs)


def check_cityscapes_ap(ours: CityscapesAP, truth_dir: Path, predicted_dir: Path) -> str:
    """Compare the average precision of each class with that of cityscapesscripts; as `check_pq`."""
    name = "cityscapesscripts"
    module = _official(name, f"{name}.evaluation.evalInstanceLevelSemanticLabeling")
    frames, _ = find_frames(truth_dir, predicted_dir, "_gtFine_instanceIds.png", ".txt")
    with tempfile.TemporaryDirectory() as folder, _told_apart(name):
        module.writeDict2JSON = lambda *_: None  # its cache of ground truth cannot hold numpy's integers
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
    module = _official(name, f"{name}.evaluation.evalPixelLevelSemanticLabeling")
    frames, _ = find_frames(truth_dir, predicted_dir, "_gtFine_labelIds.png", ".png")
    with _told_apart(name):
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


def _official(package: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or package
        if missing.split(".")[0] == package:
            raise InputError(
                f"--check-with official: {package} is not installed: {_INSTALL[package]}"
            ) from None
        raise InputError(f"--check-with official: {package} cannot be imported: {error}") from error


@contextlib.contextmanager
def _told_apart(package: str) -> Iterator[None]:
    """Silence an official evaluator, and turn what it dies of into one line."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (Exception, SystemExit) as error:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            package = f"{package} {importlib.metadata.version(package)}"
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if isinstance(error, AttributeError) and "module 'numpy'" in reason:
            reason = f"it needs an older numpy ({reason})"
        raise InputError(
            f"--check-with official: {package} failed (numpy {np.__version__}): {reason}"
        ) from error


def _verdict(package: str, pairs: list[tuple[str, float | None, float]]) -> str:
    """One line on figures that agree; nan and None are the same."""
    worst, faults = 0.0, []
    for name, mine, official in pairs:
        known = mine is not None and not np.isnan(official)
        difference = abs(mine - official) if known and mine is not None else 0.0
        worst = max(worst, difference)
        if difference > TOLERANCE or known != (mine is not None) or known == bool(np.isnan(official)):
            faults.append(f"{name}: {package} gives {official}, this evaluator {mine}")
    if faults:
        raise InputError(faults)
    return f"{package} agrees on {len(pairs)} figures, largest difference {worst:.1e}"
