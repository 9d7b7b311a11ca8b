"""The parity table: maximum deviation per case and group of arrays, in Markdown.

    python tests/parity/forward_table.py [FOLDER]

FOLDER holds `tf_reference` and `torch_reference`; by default KMAX_GOLDEN_DIR.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from forward_golden import Deviation
from forward_tf import TF_CASES, max_s_deviations, tf_deviations
from forward_torch import TORCH_CASES, torch_deviations


def cases(folder: Path) -> Iterator[tuple[str, str, list[Deviation]]]:
    """(flavour, case, deviations) of all cases in that folder."""
    for config in TF_CASES:
        found = tf_deviations(folder / "tf_reference", config)
        if config == "coco_axial_r50":
            found += max_s_deviations(folder / "tf_reference")
        yield "tf", config, found
    for config in TORCH_CASES:
        yield "torch", config, torch_deviations(folder / "torch_reference", config)


def table(folder: Path) -> str:
    """Largest deviation per case and group of arrays."""
    lines = [
        "| original | case | arrays | number | relative rms | maximum (tf: / std, torch: absolute) "
        "| tolerance | differing labels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for flavour, case, found in cases(folder):
        for group in dict.fromkeys(d.group for d in found):
            of_group = [d for d in found if d.group == group]
            rms, largest = max(d.rms for d in of_group), max(d.largest for d in of_group)
            bound, flips = max(d.bound_largest for d in of_group), sum(d.flips for d in of_group)
            numbers = f"{rms:.1e} | {largest:.1e} | {bound:.0e} | " if np.isfinite(bound) else "| | | "
            flipped = "" if np.isfinite(bound) else str(flips)
            lines.append(f"| {flavour} | {case} | {group} | {len(of_group)} | {numbers}{flipped} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["KMAX_GOLDEN_DIR"])))
