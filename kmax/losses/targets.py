"""Ground truth at the resolution of a prediction.

Labels are read by strided subsampling `[::s, ::s]`, never averaged: a segment that has no pixel left there
does not exist for the losses. The two originals differ in what is void (`loss_flavour`).

Legend of shapes: B images, M segments (padded to the batch's maximum), P = h * w pixels of a prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kmax.config import Flavour
from kmax.data.batch import NO_SEGMENT, VOID_CLASS, Batch
from kmax.losses.loss_flavour import LOSS_FLAVOURS


@dataclass(frozen=True)
class Targets:
    """Ground truth of a batch at one resolution.

    Attributes:
        segment: int64 [B, P], index of the pixel's segment, -1 where there is none; None where segments
            overlap.
        labelled: bool [B, P], the pixels of segments.
        semantic: int64 [B, P], class, -1 for void (and, by `semantic_on_segments`, outside of segments).
        void: bool [B, P], by `void_without_segment`.
        masks: float32 [B, M, P], 1 on the pixels of the segment.
        shares: float32 [B, M, P], the masks with every pixel shared evenly among its segments; the same
            tensor where none overlap.
        areas: float32 [B, M], sums of the shares; 0 for padding and for segments lost in subsampling.
    """

    segment: Tensor | None
    labelled: Tensor
    semantic: Tensor
    void: Tensor
    masks: Tensor
    shares: Tensor
    areas: Tensor

    def shares_at(self, indices: Tensor | None) -> Tensor:
        """The shares [B, M, k] at the pixels `indices` [B, k]; None: at all."""
        if indices is None:
            return self.shares
        count = self.shares.shape[1]
        if self.segment is not None:  # saves reading the masks
            return one_hot(self.segment.gather(1, indices), count)
        return self.shares.gather(2, indices[:, None].expand(-1, count, -1))


class GroundTruth:
    """The targets of a batch, prepared once per resolution, when first asked for.

    Args:
        batch: with labels at the finest resolution asked for, or finer by a whole factor.
        flavour: the original whose rules apply.

    Raises:
        ValueError: of overlapping segments, not all have a class.
    """

    def __init__(self, batch: Batch, flavour: Flavour) -> None:
        self.differences = LOSS_FLAVOURS[flavour]
        self.classes = _padded_classes(batch.classes)  # [B, M], -1 padding
        self._segments = batch.layers
        for image, (layers, of_image) in enumerate(zip(self._segments, batch.classes, strict=True)):
            if len(layers) > 1 and int(layers.max()) >= len(of_image):
                raise ValueError(
                    f"image {batch.image_ids[image]}: the labels contain segment {int(layers.max())}, but "
                    f"only {len(of_image)} segments have a class"
                )
        self._semantic = batch.semantic
        if self.differences.semantic_on_segments:
            labelled = (self._segments != NO_SEGMENT).any(1)
            self._semantic = batch.semantic.where(labelled, VOID_CLASS)
        self._prepared: dict[tuple[int, int], Targets] = {}

    def at(self, size: tuple[int, int]) -> Targets:
        """Targets for a prediction of `size` (h, w).

        Raises:
            ValueError: `size` is not a subsampling of the labels.
        """
        if size not in self._prepared:
            self._prepared[size] = self._prepare(size)
        return self._prepared[size]

    def keep(self, kept: Tensor) -> None:
        """Turn the pixels of all other segments into pixels without segment.

        Args:
            kept: bool [B, M].
        """
        segment = self._segments.clamp(min=0).flatten(1)
        pixel_kept = kept.gather(1, segment).view_as(self._segments)
        self._segments = self._segments.where(pixel_kept, NO_SEGMENT)
        self._prepared.clear()

    def _prepare(self, size: tuple[int, int]) -> Targets:
        layers = subsample(self._segments, size).flatten(2)  # [B, L, P]
        semantic = subsample(self._semantic, size).flatten(1)
        labelled = (layers != NO_SEGMENT).any(1)
        void = ~labelled if self.differences.void_without_segment else semantic == VOID_CLASS
        masks = one_hot(layers[:, 0], self.classes.shape[1])
        if layers.shape[1] == 1:
            return Targets(layers[:, 0], labelled, semantic, void, masks, masks, areas=masks.sum(2))
        for layer in layers.unbind(1)[1:]:
            masks = masks.maximum(one_hot(layer, masks.shape[1]))
        shares = masks / masks.sum(1, keepdim=True).clamp(min=1)
        return Targets(None, labelled, semantic, void, masks, shares, areas=shares.sum(2))


def subsample(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Every s-th row and column of `labels` [..., H, W], with s = (H - 1) / (h - 1): [..., h, w]."""
    steps = [
        max(1, (full - 1) // (small - 1)) if small > 1 else full
        for full, small in zip(labels.shape[-2:], size, strict=True)
    ]
    result = labels[..., :: steps[0], :: steps[1]]
    if result.shape[-2:] != torch.Size(size):
        raise ValueError(
            f"a prediction of {size} pixels is not a subsampling of labels of {tuple(labels.shape[-2:])}"
        )
    return result


def one_hot(segment: Tensor, count: int) -> Tensor:
    """Indicator [B, count, P] of the segment indices [B, P]; -1 gives a column of zeros."""
    indices = torch.arange(count, device=segment.device)
    return (segment[:, None] == indices[:, None]).float()


def _padded_classes(classes: list[Tensor]) -> Tensor:
    """Classes [B, M] of the segments, padded with -1; M is at least 1, which avoids special cases."""
    padded = pad_sequence(classes, batch_first=True, padding_value=VOID_CLASS)
    return padded if padded.shape[1] else padded.new_full((len(classes), 1), VOID_CLASS)
