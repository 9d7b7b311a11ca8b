"""kMaX-DeepLab (k-means Mask Transformer, ECCV 2022) in PyTorch, and the pipeline around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmax.model.create import create_model

__all__ = ["create_model"]


def __getattr__(name: str) -> Any:
    """Import what needs torch and timm on first use, so that the other verbs start at once."""
    if name == "create_model":
        from kmax.model.create import create_model

        return create_model
    raise AttributeError(f"module 'kmax' has no attribute '{name}'")
