"""Evaluates with an official evaluator, in a process of its own, which malformed input may end.

python official_server.py panopticapi | pycocotools reads a JSON list of arguments from each line of stdin,
and prints a line of JSON with what the evaluator returned ({"figures": ...}) or raised ({"raises": class,
"message": text}).
"""

import contextlib
import io
import json
import multiprocessing
import resource
import signal
import sys
import warnings

LIMIT_BYTES, LIMIT_SECONDS = 8 * 2**30, 20


class Computed:
    """A result of a pool."""

    def __init__(self, value: object) -> None:
        self.get = lambda: value


class OneProcess:
    """A pool that computes at once: starting processes would take longer than the small images."""

    def __init__(self, processes: int) -> None:
        pass

    def apply_async(self, function, arguments: tuple) -> Computed:
        return Computed(function(*arguments))


def panopticapi(*paths: str) -> dict:
    from panopticapi.evaluation import pq_compute

    multiprocessing.cpu_count, multiprocessing.Pool = (lambda: 2), OneProcess
    figures = pq_compute(*paths)
    # A category may have the id 3.0.
    per_class = {
        int(key) if isinstance(key, (int, float)) else key: one for key, one in figures["per_class"].items()
    }
    return {**figures, "per_class": per_class}


def pycocotools(truth: str, detections: str, iou_type: str) -> dict:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ours = COCO(truth)
    evaluation = COCOeval(ours, ours.loadRes(detections), iou_type)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    precision = evaluation.eval["precision"]
    per_category = [precision[:, :, index, 0, -1] for index in range(precision.shape[2])]
    return {
        "stats": [float(value) for value in evaluation.stats],
        "per_category": [float(one[one > -1].mean()) if (one > -1).any() else -1.0 for one in per_category],
    }


def call(evaluator, arguments: list) -> dict:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return {"figures": evaluator(*arguments)}
    except Exception as error:
        return {"raises": type(error).__name__, "message": str(error)[:200]}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    warnings.simplefilter("ignore")
    chosen = {"panopticapi": panopticapi, "pycocotools": pycocotools}[sys.argv[1]]
    for line in sys.stdin:
        signal.alarm(LIMIT_SECONDS)
        answer = call(chosen, json.loads(line))
        signal.alarm(0)
        print(json.dumps(answer), flush=True)
