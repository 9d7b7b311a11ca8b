"""Pickled checkpoints (torch's .pth, detectron2's .pkl), read without running anything that they ask for."""

from kmax.porting.pickles.torch_file import WRAPPERS, PickledTensors, read_pickled

__all__ = ["WRAPPERS", "PickledTensors", "read_pickled"]
