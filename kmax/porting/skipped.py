"""What lies in the originals' checkpoints beside the weights."""

from __future__ import annotations

import re

_BOOKKEEPING = re.compile(r"_CHECKPOINTABLE_OBJECT_GRAPH|(save_counter|global_step)(/.*)?")
_OPTIMIZER = re.compile(r"(.*/\.OPTIMIZER_SLOT|optimizer|backbone_optimizer)/.*")


def skipped_tf(name: str) -> str | None:
    """Why a variable of a TensorFlow checkpoint is no weight of the network; None if it should be one."""
    if _BOOKKEEPING.fullmatch(name):
        return "bookkeeping of the checkpoint"
    if _OPTIMIZER.fullmatch(name):
        return "state of the optimiser"
    return None


def skipped_torch_reference(name: str) -> str | None:
    """Why a tensor of the PyTorch original is no weight of the network; None if it should be one."""
    if name.endswith(".num_batches_tracked"):
        return "counts batches, which moving averages of a fixed momentum do not need"
    if name in ("pixel_mean", "pixel_std", "criterion.empty_weight"):
        return "a constant"
    return None
