"""The two originals of the model, and every place where they compute different things.

`tf` is deeplab2 (google-research), `torch` is the public PyTorch re-implementation (bytedance/kmax-deeplab).
Their weights fit the same shapes, so a wrong choice gives wrong results without any error. Each difference is
one named field here; modules read the field and never the name of the original.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmax.config import Flavour


@dataclass(frozen=True)
class ModelFlavour:
    """The choices of one original where the two differ.

    Attributes:
        resnet_max_pool: whether a ResNet activates and pools after its first convolution, so that its stem
            and its first stage have stride 4; otherwise the stem has stride 2 and the first stage strides.
        resnet_activated_features: whether a ResNet's features are the activated outputs of its stages;
            otherwise they are the sums that the next block activates.
        resnet_stem_first: with five decoder stages, whether the fourth reads a ResNet's stem and the fifth
            its first stage; otherwise the other way round. The PyTorch original sorts by stride, and its
            pooled stem is as coarse as the first stage.
        axial_resnet: whether MaX-S exists.
        bottleneck_dilation: dilation of the 3x3 convolutions in the bottleneck stages of the pixel decoder.
            deeplab2 makes these stages for input stride 32 and output stride 16, so they get an atrous rate.
        align_even_widths: whether bilinear resizing inside the network aligns the corners of maps of even
            width too. It makes a difference only where sides are not 1 more than a multiple of 32.
        biased_moving_variance: whether the moving variance of batch norm takes the batch variance over n (as
            Keras does when it synchronises) or over n - 1 (as torch does).
        clamp_squared_norm: L2 normalisation keeps the squared length (True), or the length, above 1e-12.
        semantic_reads_activated: the low-level inputs of the auxiliary semantic head are activated encoder
            features; otherwise they are read as the encoder's stages return them.
    """

    resnet_max_pool: bool
    resnet_activated_features: bool
    resnet_stem_first: bool
    axial_resnet: bool
    bottleneck_dilation: int
    align_even_widths: bool
    biased_moving_variance: bool
    clamp_squared_norm: bool
    semantic_reads_activated: bool


MODEL_FLAVOURS: dict[Flavour, ModelFlavour] = {
    "tf": ModelFlavour(
        resnet_max_pool=False,
        resnet_activated_features=False,
        resnet_stem_first=False,
        axial_resnet=True,
        bottleneck_dilation=2,
        align_even_widths=True,
        biased_moving_variance=True,
        clamp_squared_norm=True,
        semantic_reads_activated=True,
    ),
    "torch": ModelFlavour(
        resnet_max_pool=True,
        resnet_activated_features=True,
        resnet_stem_first=True,
        axial_resnet=False,
        bottleneck_dilation=1,
        align_even_widths=False,
        biased_moving_variance=False,
        clamp_squared_norm=False,
        semantic_reads_activated=False,
    ),
}
