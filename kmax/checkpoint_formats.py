"""The formats of checkpoints, in a module that the command line imports without any library.

A format is one name here and one module, `kmax.porting.formats.<name>_format`, with a function `open_file`.
"""

from typing import Literal

# As programs ("whose tensor names?") they are the TensorFlow original, the PyTorch original and this project.
CheckpointFormat = Literal["tf", "torch", "safetensors"]
