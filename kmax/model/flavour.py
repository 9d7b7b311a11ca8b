"""The two originals of the model, and every place where they compute different things.

`tf` is deeplab2 (google-research), `torch` is the public PyTorch re-implementation (bytedance/kmax-deeplab).
Their weights fit the same shapes, so a wrong choice gives wrong results without any error. Each difference is
one named field here; the modules take the value of the field and never ask which original is meant.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmax.errors import unknown_name


@dataclass(frozen=True)
class Flavour:
    """Choices that tell the originals apart.

    Attributes:
        bottleneck_dilation: dilation of the 3x3 convolutions in the bottleneck stages of the pixel decoder.
            deeplab2 makes these stages for input stride 32 and output stride 16, so they get an atrous rate.
        biased_moving_variance: whether the moving variance of batch norm takes the batch variance over n (as
            Keras does when it synchronises) or over n - 1 (as torch does).
        clamp_squared_norm: L2 normalisation keeps the squared length (True), or the length, above 1e-12.
        semantic_reads_activated: the low-level inputs of the auxiliary semantic head are activated encoder
            features; otherwise they are read as the encoder's stages return them.
    """

    bottleneck_dilation: int
    biased_moving_variance: bool
    clamp_squared_norm: bool
    semantic_reads_activated: bool


FLAVOURS = {
    "tf": Flavour(
        bottleneck_dilation=2,
        biased_moving_variance=True,
        clamp_squared_norm=True,
        semantic_reads_activated=True,
    ),
    "torch": Flavour(
        bottleneck_dilation=1,
        biased_moving_variance=False,
        clamp_squared_norm=False,
        semantic_reads_activated=False,
    ),
}


def flavour_of(name: str) -> Flavour:
    """The choices of the original called `name`.

    Raises:
        InputError: there is no such original.
    """
    if name not in FLAVOURS:
        raise unknown_name("flavour", name, FLAVOURS, "create_model")
    return FLAVOURS[name]
