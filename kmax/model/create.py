"""Models by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kmax.errors import InputError
from kmax.model.cross_attention import cross_attention as form_of
from kmax.model.flavour import flavour_of
from kmax.model.kmax import KMaX
from kmax.model.sizes import SIZES, AxialResNetSize


def create_model(
    name: str,
    *,
    num_classes: int,
    image_size: tuple[int, int],
    flavour: str = "tf",
    num_clusters: int = 128,
    decoder_stages: int = 4,
    cross_attention: str = "kmeans",
    drop_path: float = 0.0,
    backbone_drop_path: float = 0.0,
    weights: Path | str | None = None,
) -> KMaX:
    """Build a model.

    Args:
        name: size of the model: those of the paper ("kmax_resnet50", "kmax_max_s", "kmax_convnext_tiny",
            _small, _base, _large), or "kmax_tiny" for tests and demos on CPU.
        num_classes: classes of the dataset, without void.
        image_size: (height, width) of the images, both odd.
        flavour: which original is computed, "tf" (deeplab2) or "torch" (bytedance/kmax-deeplab).
        num_clusters: cluster centres; 128, on Cityscapes 256.
        decoder_stages: stages of the pixel decoder; 4, on Cityscapes 5.
        cross_attention: how centres gather pixels: "kmeans", "cmt" or "softmax".
        drop_path: drop rate of the transformer decoder's residual updates.
        backbone_drop_path: largest drop rate in the pixel encoder.
        weights: a file of `kmax.model.io.save_model` to start from; one that holds only the tensors of the
            pixel encoder is fine too. None: initial values of the originals.

    Raises:
        InputError: an unknown name, an impossible value, or weights that do not fit.
    """
    if not isinstance(name, str) or name not in SIZES:
        raise InputError(f"create_model: there is no model '{name}'; there are: {', '.join(SIZES)}")
    numbers = (num_classes, num_clusters, *(image_size if isinstance(image_size, Sequence) else [None]))
    if len(numbers) != 4 or not all(type(number) is int for number in numbers):
        raise InputError(
            "create_model: num_classes and num_clusters must be whole numbers and image_size two of them, "
            f"(height, width); not {num_classes!r}, {num_clusters!r} and {image_size!r}"
        )
    if num_classes < 1 or num_clusters < 1:
        raise InputError(
            f"create_model: num_classes {num_classes} and num_clusters {num_clusters} must be positive"
        )
    for rate, what in ((drop_path, "drop_path"), (backbone_drop_path, "backbone_drop_path")):
        if not isinstance(rate, float | int) or not 0.0 <= rate < 1.0:
            raise InputError(f"create_model: {what} must be at least 0 and below 1, not {rate!r}")
    if type(decoder_stages) is not int or decoder_stages not in (4, 5):
        raise InputError(f"create_model: decoder_stages must be 4 or 5, not {decoder_stages!r}")
    form_of(cross_attention)
    if isinstance(SIZES[name].encoder, AxialResNetSize) and not flavour_of(flavour).axial_resnet:
        raise InputError(f"create_model: {name} does not exist in flavour '{flavour}'; take flavour 'tf'")
    arguments = {
        "name": name,
        "num_classes": num_classes,
        "image_size": list(image_size),
        "flavour": flavour,
        "num_clusters": num_clusters,
        "decoder_stages": decoder_stages,
        "cross_attention": cross_attention,
        "drop_path": drop_path,
        "backbone_drop_path": backbone_drop_path,
    }
    model = KMaX(
        SIZES[name],
        flavour_of(flavour),
        num_classes=num_classes,
        image_size=(image_size[0], image_size[1]),
        num_clusters=num_clusters,
        decoder_stages=decoder_stages,
        cross_attention=cross_attention,
        drop_path=drop_path,
        backbone_drop_path=backbone_drop_path,
        arguments=arguments,
    )
    if weights is not None:
        from kmax.model.io import load_weights  # it builds models itself

        load_weights(model, Path(weights))
    return model
