"""Pickled checkpoints (torch's .pth, detectron2's .pkl), read without running anything that they ask for."""

from kmax.porting.pickles.torch_file import PickledTensors, read_pickled

__all__ = ["PickledTensors", "read_pickled"]
