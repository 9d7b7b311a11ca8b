"""Verbs on model files, without a run: `kmax predict-images`, `kmax port-file`."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kmax.checkpoint_formats import CheckpointFormat
from kmax.cli.common import Overwrite, Recorded, Verify


class ModelFlavour(StrEnum):
    """Originals whose computation is reproduced."""

    tf = "tf"
    torch = "torch"


class CrossAttention(StrEnum):
    """Variants of cross-attention."""

    kmeans = "kmeans"
    cmt = "cmt"
    softmax = "softmax"


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(predict_images)
    app.command()(port_file)


def predict_images(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="JPEG, PNG, WebP, TIFF or BMP files, or folders that contain them."
        ),
    ],
    weights: Annotated[Path, typer.Option(help="A model.safetensors of this project.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    max_pixels: Annotated[
        int | None,
        typer.Option(help="Allow images of more than 178956970 pixels (width x height), up to this.", min=1),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Segment any images.

    Writes overlays, panoptic PNGs and a JSON file. The weight file contains the model's arguments and
    categories, so nothing else is needed. The outputs of earlier calls are replaced; any other existing file
    is kept, unless --overwrite is given. Inputs are never replaced.

    \b
    Example: kmax predict-images photo.jpg --weights results/shapes-tiny/model.safetensors --out masks
    """
    from kmax.inference.predict_images import predict_images

    typer.echo(predict_images(images, weights, out, max_pixels=max_pixels, overwrite=overwrite))


def port_file(
    source: Annotated[CheckpointFormat, typer.Argument(help="Format of the checkpoint.")],
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The file; for TensorFlow the prefix of its files (ckpt-150000) or their folder.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Architecture, for example kmax_resnet50.")],
    dataset: Annotated[str, typer.Option(help="Dataset whose categories the model predicts.")],
    image_size: Annotated[tuple[int, int], typer.Option(help="Network input: height width.")],
    out: Annotated[
        Path, typer.Option(help="The safetensors file to write; the report is written beside it.")
    ],
    flavour: Annotated[
        ModelFlavour | None,
        typer.Option(help="Original implementation to reproduce; default: that of the weights."),
    ] = None,
    num_clusters: Annotated[int, typer.Option(help="Number of cluster centres.", min=1)] = 128,
    decoder_stages: Annotated[
        int, typer.Option(help="Number of stages of the pixel decoder.", min=4, max=5)
    ] = 4,
    cross_attention: Annotated[
        CrossAttention, typer.Option(help="Variant of cross-attention.")
    ] = CrossAttention.kmeans,
    state_dict: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which state dict of a torch file to read, such as model_ema; default: the model's weights.",
        ),
    ] = None,
    thresholds_of: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Run whose thresholds and preprocessing are stored for predict-images."
        ),
    ] = None,
    verify: Verify = False,
    recorded: Recorded = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a checkpoint file into a model.

    TensorFlow checkpoints are read without TensorFlow, and pickles (.pth, .pkl) without executing their code.
    Every tensor must be mapped; an account of all tensors is written beside the model.

    \b
    Examples:
      kmax port-file tf kmax_resnet50_coco_train/ckpt-150000 --model kmax_resnet50 --dataset coco
        --image-size 1281 1281 --thresholds-of coco-resnet50-tfzoo --out w.safetensors --verify
      kmax port-file torch state.pth --model kmax_tiny --dataset shapes --image-size 129 129
        --num-clusters 16 --flavour tf --out model.safetensors
    """
    from kmax import stages

    arguments = {
        "num_clusters": num_clusters,
        "decoder_stages": decoder_stages,
        "cross_attention": cross_attention.value,
    }
    path = stages.port_file(
        source,
        checkpoint,
        out,
        model,
        dataset=dataset,
        image_size=image_size,
        flavour=None if flavour is None else flavour.value,
        state_dict=state_dict,
        thresholds_of=thresholds_of,
        verify=verify,
        recorded=recorded,
        overwrite=overwrite,
        log=partial(typer.echo, err=True),
        **arguments,
    )
    typer.echo(path)
