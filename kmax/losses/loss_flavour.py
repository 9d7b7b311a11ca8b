"""Where the losses of the two originals differ.

======================  ========================================  ==========================================
difference              "tf" (deeplab2)                           "torch" (bytedance/kmax-deeplab)
======================  ========================================  ==========================================
void pixels             without a class                           without a segment (so crowd is void too)
semantic labels         wherever there is a class                 on segments alone
segments left over by   stay, with a cluster of no probability;   become void before the losses
too few clusters        their classes go to cluster 0
enlarging auxiliary     corners aligned                           corners aligned where the height is odd
outputs
======================  ========================================  ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass

from kmax.config import Flavour


@dataclass(frozen=True)
class LossFlavour:
    """The rules of one original where the two differ.

    Attributes:
        void_without_segment: void are the pixels without a segment; otherwise those without a class, so that
            a crowd region (class, but no segment) is labelled.
        semantic_on_segments: the semantic labels outside of segments are void.
        drop_left_over: segments that found no cluster, because there are more segments than clusters, turn
            into pixels without segment; otherwise they stay in the terms and address cluster 0.
        align_even_heights: corners are aligned when enlarging to an even height too.
    """

    void_without_segment: bool
    semantic_on_segments: bool
    drop_left_over: bool
    align_even_heights: bool


LOSS_FLAVOURS: dict[Flavour, LossFlavour] = {
    "tf": LossFlavour(
        void_without_segment=False,
        semantic_on_segments=False,
        drop_left_over=False,
        align_even_heights=True,
    ),
    "torch": LossFlavour(
        void_without_segment=True,
        semantic_on_segments=True,
        drop_left_over=True,
        align_even_heights=False,
    ),
}
