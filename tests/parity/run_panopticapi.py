"""Evaluates with panopticapi, in its own environment.

Reads a JSON list of arguments of `pq_compute` from stdin, and prints a JSON list of what each call returned
({"figures": ...}) or raised ({"raises": class}).
"""

import contextlib
import io
import json
import multiprocessing
import sys

from panopticapi.evaluation import pq_compute

multiprocessing.cpu_count = lambda: 2


def call(paths: list) -> dict:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return {"figures": pq_compute(*paths)}
    except Exception as error:
        return {"raises": type(error).__name__}


print(json.dumps([call(paths) for paths in json.load(sys.stdin)]))
