"""TensorFlow's checkpoint files (tensor bundles), read without TensorFlow.

Nothing in a file is trusted: sizes are checked before memory is taken, and damage ends in one line.
"""

from kmax.porting.tensorflow.bundle import Bundle
from kmax.porting.tensorflow.locate import find_prefix

__all__ = ["Bundle", "find_prefix"]
