"""The pixel encoder: a network of timm, with our batch norm."""

from __future__ import annotations

from collections.abc import Sequence

import timm
from torch import Tensor, nn

from kmax.model.norm import BatchNorm
from kmax.model.sizes import EncoderSize

ACTIVATIONS: dict[str, type[nn.Module]] = {"none": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU}


class TimmEncoder(nn.Module):
    """Features of a timm network at strides 2 (or 4, as the network has it), 4, 8, 16 and 32.

    Attributes:
        channels: of the features, finest first.
        activation: the activation that the network's stages leave to their consumers.

    Args:
        size: which network.
        drop_path: largest drop rate of its residual branches (stochastic depth).
    """

    def __init__(self, size: EncoderSize, drop_path: float) -> None:
        super().__init__()
        options = dict(size.options)
        if drop_path > 0.0:
            options["drop_path_rate"] = drop_path
        self.network = timm.create_model(size.timm_name, pretrained=False, features_only=True, **options)
        self.channels: Sequence[int] = self.network.feature_info.channels()
        self.activation = ACTIVATIONS[size.activation]()
        _replace_batch_norms(self.network)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> features [B, C_s, h_s, w_s], finest first."""
        return list(self.network(images))


def _replace_batch_norms(network: nn.Module) -> None:
    """Put our batch norm in the place of torch's, with the scale and bias that it had."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            norm = BatchNorm(child.num_features)
            norm.weight.data.copy_(child.weight.data)
            norm.bias.data.copy_(child.bias.data)
            setattr(network, name, norm)
        else:
            _replace_batch_norms(child)
