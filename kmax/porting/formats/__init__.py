"""Checkpoint formats: each is one module here and one name in `kmax.checkpoint_formats`."""

from kmax.porting.formats.open_checkpoint import open_checkpoint
from kmax.porting.formats.source_checkpoint import Allocate, Checkpoint

__all__ = ["Allocate", "Checkpoint", "open_checkpoint"]
