"""Models by name."""

from __future__ import annotations

from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, get_type_hints

from kmax.config import ModelArguments
from kmax.model.construction import DEFAULTS, build_model, model_arguments
from kmax.model.io import load_weights
from kmax.model.kmax import KMaX


def create_model(name: str, *, weights: Path | str | None = None, **arguments: Any) -> KMaX:
    """Build a model.

    The arguments are the fields of `kmax.config.ModelArguments`. Two have no default:

    - num_classes (int): classes of the dataset, without void.
    - image_size (two ints): height and width of the images, both odd.

    The others default to the values of deeplab2 on COCO (`kmax.model.construction.DEFAULTS`):

    - flavour ("tf"): original to reproduce, "tf" (deeplab2) or "torch" (bytedance/kmax-deeplab).
    - num_clusters (128): cluster centres; 256 on Cityscapes.
    - decoder_stages (4): stages of the pixel decoder; 5 on Cityscapes.
    - cross_attention ("kmeans"): how centres are updated from pixels, "kmeans", "cmt" or "softmax".
    - drop_path (0.0): drop rate of the transformer decoder's residual updates.
    - backbone_drop_path (0.0): largest drop rate in the pixel encoder.

    Args:
        name: size of the model: one of the paper ("kmax_resnet50", "kmax_max_s", "kmax_convnext_tiny",
            _small, _base, _large), or "kmax_tiny" for tests and demos on CPU.
        weights: a file of `kmax.model.io.save_model` to start from, or one that holds the tensors of the
            pixel encoder only. None: initial values of the originals.
        arguments: see above.

    Raises:
        InputError: an unknown name or argument, an impossible value, or weights that do not fit.
    """
    model = build_model(model_arguments(name, **arguments))
    if weights is not None:
        load_weights(model, Path(weights))
    return model


def _signature() -> Signature:
    """The signature with every argument by name, for `help()` and editors that read it at run time.

    `ModelArguments` is the only list of the arguments.
    """
    types = get_type_hints(ModelArguments)
    fields = {name: types[name] for name in ModelArguments.model_fields if name != "name"}
    order = sorted(fields, key=lambda name: name in DEFAULTS)  # those without a default first
    return Signature(
        [
            Parameter("name", Parameter.POSITIONAL_OR_KEYWORD, annotation=str),
            *(
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=DEFAULTS.get(name, Parameter.empty),
                    annotation=fields[name],
                )
                for name in order
            ),
            Parameter("weights", Parameter.KEYWORD_ONLY, default=None, annotation=Path | str | None),
        ],
        return_annotation=KMaX,
    )


create_model.__signature__ = _signature()  # type: ignore[attr-defined]
