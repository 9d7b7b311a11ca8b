"""Fuzzing with mutated JSON files: our evaluators against the official ones.

python fuzz_json.py COUNT SEED FOLDER prints statistics as JSON. Half of the files go to panopticapi (in the
environment KMAX_PANOPTICAPI_PYTHON), half to pycocotools. Each file is either
- accepted by both, with equal figures,
- refused by ours in one line, for a reason that docs/evaluation.md lists, or
- accepted by ours alone, where docs/evaluation.md lists the failure of the official evaluator.
Anything else ends it with an error, and is kept in FOLDER.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import json_mutations
import numpy as np
from panoptic_cases import largest_deviation
from pycocotools import mask as coco_mask
from random_panoptic import random_case

from kmax.errors import InputError
from kmax.evaluation import coco_ap
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.panoptic_files import PanopticArguments

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-9
SIZE = (20, 28)
Json = Any


class Official:
    """The process of an official evaluator, which is started again after a crash."""

    def __init__(self, name: str, python: str) -> None:
        self._command = [python, str(Path(__file__).with_name("official_server.py")), name]
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, *arguments: str) -> dict[str, Any]:
        if self._process is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._process = subprocess.Popen(self._command, text=True, **pipes)
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer:
            return json.loads(answer)
        code, self._process = self._process.wait(), None
        return {"raises": "crash", "message": f"exit code {code}"}

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


class Reasons:
    """The reasons that docs/evaluation.md lists, by the words that its tables show as code."""

    def __init__(self) -> None:
        text = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
        self.refused = self._column(text, "### Refused")
        self.alone = self._column(text, "### Accepted here alone")

    def _column(self, text: str, title: str) -> list[str]:
        section = text.split(f"{title}\n", 1)[1].split("\n#", 1)[0]
        return re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)

    def of(self, line: str) -> str | None:
        """The listed reason of a line of ours; None: it is not listed."""
        return next((reason for reason in self.refused if reason in line), None)

    def alone_of(self, answer: dict[str, Any]) -> str | None:
        """The listed failure of the official evaluator."""
        line = f"{answer['raises']}: {answer['message']}"
        return next((reason for reason in self.alone if reason in line), None)


def different(mine: float | None, official: float) -> bool:
    mine = -1.0 if mine is None else mine
    return not (
        mine == official or abs(mine - official) <= TOLERANCE or (math.isnan(mine) and math.isnan(official))
    )


# --------------------------------------------------------------------------------------------------- panoptic


def panoptic_case(
    rng: random.Random, folder: Path, bases: list[PanopticArguments]
) -> tuple[list[str], Callable[[], Any]]:
    """Writes a mutated pair of JSON files; returns the arguments of panopticapi, and our evaluator."""
    base = rng.choice(bases)
    sides = {"gt": base.gt_json, "pred": base.pred_json}
    chosen = rng.choice((("gt",), ("pred",), ("gt", "pred")))
    for side, path in sides.items():
        text = path.read_text()
        if side in chosen:
            text = json_mutations.mutated(rng, json.loads(text), json_mutations.panoptic)
        (folder / f"{side}.json").write_text(text, encoding="utf-8")
    arguments = PanopticArguments(folder / "gt.json", base.gt_dir, folder / "pred.json", base.pred_dir)
    names = [arguments.gt_json, arguments.pred_json, arguments.gt_dir, arguments.pred_dir]
    return [str(name) for name in names], lambda: pq.evaluate_files(arguments)


def panoptic_difference(result: pq.PQResult, figures: dict[str, Any]) -> str | None:
    deviation = largest_deviation(result, figures)
    return None if deviation <= TOLERANCE else f"figures differ by {deviation}"


# ------------------------------------------------------------------------------------------------ instances


def instance_base(seed: int) -> dict[str, Json]:
    """Ground truth and detections of two images: run-lengths, polygons, boxes, a crowd, equal scores."""
    rng = np.random.default_rng(seed)
    truth: list[Json] = []
    found: list[Json] = []
    for image in (1, 5):
        for _ in range(4):
            mask = np.zeros(SIZE, np.uint8, order="F")
            y, x, height, width = rng.integers(0, 12), rng.integers(0, 18), *rng.integers(4, 14, 2)
            mask[y : y + height, x : x + width] = 1
            encoded = coco_mask.encode(mask)
            region = {"size": list(SIZE), "counts": encoded["counts"].decode()}
            box, category = coco_mask.toBbox(encoded).tolist(), int(rng.choice((3, 4)))
            polygon = [[float(v) for v in (x, y, x + width, y, x + width, y + height, x, y + height)]]
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image,
                    "category_id": category,
                    "area": int(mask.sum()),
                    "bbox": box,
                    "iscrowd": int(rng.random() < 0.2),
                    "segmentation": polygon if rng.random() < 0.4 else region,
                }
            )
            moved = np.roll(mask, int(rng.integers(-1, 2)), axis=1)
            region = {
                "size": list(SIZE),
                "counts": coco_mask.encode(np.asfortranarray(moved))["counts"].decode(),
            }
            entry = {"image_id": image, "category_id": category, "segmentation": region}
            found.append(entry | {"score": float(rng.choice((0.3, 0.5, 0.9)))})
    if seed % 2:
        for entry in found:
            entry["bbox"] = coco_mask.toBbox(entry["segmentation"]).tolist()
    images = [
        {"id": image, "file_name": f"{image}.jpg", "height": SIZE[0], "width": SIZE[1]} for image in (1, 5)
    ]
    categories = [{"id": 3, "name": "car"}, {"id": 4, "name": "bus"}]
    return {"gt": {"images": images, "categories": categories, "annotations": truth}, "pred": found}


def instance_case(
    rng: random.Random, folder: Path, bases: list[dict[str, Json]]
) -> tuple[list[str], Callable[[], Any]]:
    """As `panoptic_case`, for pycocotools."""
    base, iou_type = rng.choice(bases), rng.choice(("segm", "bbox"))
    chosen = rng.choice((("gt",), ("pred",), ("gt", "pred")))
    for side, sound in base.items():
        text = (
            json_mutations.mutated(rng, sound, json_mutations.instances)
            if side in chosen
            else json.dumps(sound)
        )
        (folder / f"{side}.json").write_text(text, encoding="utf-8")
    names = [folder / "gt.json", folder / "pred.json"]
    return [*map(str, names), iou_type], lambda: coco_ap.evaluate_files(*names, iou_type)


def instance_difference(result: coco_ap.CocoAP, figures: dict[str, Any]) -> str | None:
    ours = result.to_json()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    names += ("ar1", "ar10", "ar", "ar_small", "ar_medium", "ar_large")
    pairs = [(ours[name], official) for name, official in zip(names, figures["stats"], strict=True)]
    pairs += [
        (one["ap"], official)
        for one, official in zip(ours["per_category"].values(), figures["per_category"], strict=True)
    ]
    wrong = [pair for pair in pairs if different(*pair)]
    return f"figures differ: {wrong[:3]}" if wrong else None


# ---------------------------------------------------------------------------------------------------- verdict


def verdict(
    official: dict[str, Any], ours: Callable[[], Any], difference: Callable[..., str | None], reasons: Reasons
) -> str:
    """What became of a file.

    Raises:
        RuntimeError: an outcome that docs/evaluation.md does not list.
    """
    accepted = "figures" in official
    try:
        result = ours()
    except InputError as error:
        found = {reasons.of(line) for line in error.faults}
        if None in found or any("\n" in line for line in error.faults):
            raise RuntimeError(
                f"refused for a reason that is not listed: {error}; official: {official}"
            ) from error
        return f"refused ({'official accepts' if accepted else 'both'}): {sorted(found)[0]}"
    if not accepted:
        if (reason := reasons.alone_of(official)) is None:
            raise RuntimeError(f"accepted here alone, official: {official}")
        return f"accepted here alone: {reason}"
    if found := difference(result, official["figures"]):
        raise RuntimeError(found)
    return "accepted by both, equal" + (", with a warning" if result.warnings else "")


def main(count: int, seed: int, folder: Path, keep_going: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng, reasons, begun = random.Random(seed), Reasons(), time.monotonic()
    panoptic_python = os.environ["KMAX_PANOPTICAPI_PYTHON"]
    panoptic_bases = [random_case(folder / f"base{number}", number) for number in range(4)]
    kinds = {
        "panopticapi": (
            Official("panopticapi", panoptic_python),
            panoptic_case,
            panoptic_bases,
            panoptic_difference,
        ),
        "pycocotools": (
            Official("pycocotools", sys.executable),
            instance_case,
            [instance_base(number) for number in range(4)],
            instance_difference,
        ),
    }
    counts: Counter[str] = Counter()
    for number in range(count):
        name = list(kinds)[number % 2]
        official, make, bases, difference = kinds[name]
        arguments, ours = make(rng, folder, bases)
        try:
            counts[f"{name}: {verdict(official(*arguments), ours, difference, reasons)}"] += 1
        except Exception as error:
            kept = folder / f"escaped{number}"
            kept.mkdir(exist_ok=True)
            for side in ("gt", "pred"):
                (kept / f"{side}.json").write_text((folder / f"{side}.json").read_text())
            print(f"{kept}: {arguments}: {type(error).__name__}: {error}", file=sys.stderr)
            if not keep_going:
                raise
    for official, *_ in kinds.values():
        official.close()
    print(
        json.dumps(
            {"files": count, "seconds": round(time.monotonic() - begun)} | dict(sorted(counts.items()))
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), keep_going="--keep-going" in sys.argv)
