"""Where the post-processing of the two originals differs.

==================  =======================================  ==============================================
difference          "tf" (deeplab2)                          "torch" (bytedance/kmax-deeplab)
==================  =======================================  ==============================================
decided on          the padded network input                 the original image
back to the image   label map, nearest, corners aligned      logits, bilinear, corners aligned if width odd
confidence test     class score >= threshold                 class score > threshold
mask score          mean over the logits as they are         mean over the enlarged logits
area limits         things by mask, stuff by class           none
score of a segment  mean largest share times mean class      class score times mask score
                    score, over its pixels
instances for AP    thing segments of the panoptic map       best pairs of cluster and class
==================  =======================================  ==============================================
"""

from __future__ import annotations

from dataclasses import dataclass

from kmax.config import Flavour


@dataclass(frozen=True)
class PostprocessFlavour:
    """The rules of one original where the two differ.

    Attributes:
        at_image_size: logits are enlarged to the size of the image file and decided there; otherwise at the
            size of the network input, and the label map is resized.
        threshold_passes: a class score of exactly the threshold is confident.
        native_mask_scores: masks are scored on the network's logits; otherwise on the enlarged ones.
        area_limits: small segments become void.
        scores_by_pixels: a segment is scored on its pixels; otherwise by its class and mask scores.
        instances_of_map: the thing segments of the panoptic map are the instances; otherwise each of the
            best pairs of cluster and class is one.
    """

    at_image_size: bool
    threshold_passes: bool
    native_mask_scores: bool
    area_limits: bool
    scores_by_pixels: bool
    instances_of_map: bool


POSTPROCESS_FLAVOURS: dict[Flavour, PostprocessFlavour] = {
    "tf": PostprocessFlavour(
        at_image_size=False,
        threshold_passes=True,
        native_mask_scores=True,
        area_limits=True,
        scores_by_pixels=True,
        instances_of_map=True,
    ),
    "torch": PostprocessFlavour(
        at_image_size=True,
        threshold_passes=False,
        native_mask_scores=False,
        area_limits=False,
        scores_by_pixels=False,
        instances_of_map=False,
    ),
}
