"""What the verbs do: each loads its run, calls the package that does the work, and records the outcome.

The functions import what they need when they are called, so that `kmax --help` and small verbs stay quick.
"""

from kmax.stages.engines import record, restore
from kmax.stages.evaluators import ap_files, cityscapes_ap_files, miou_files, pq_files
from kmax.stages.porting import port, port_file
from kmax.stages.reports import report, track_sync, track_ui
from kmax.stages.runs import benchmark, evaluate, predict, train

__all__ = [
    "ap_files",
    "benchmark",
    "cityscapes_ap_files",
    "evaluate",
    "miou_files",
    "port",
    "port_file",
    "pq_files",
    "predict",
    "record",
    "report",
    "restore",
    "track_sync",
    "track_ui",
    "train",
]
