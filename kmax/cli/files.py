"""Verbs on files alone, without run files: `kmax predict-images`, `kmax port-file`."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kmax.checkpoint_formats import CheckpointFormat
from kmax.cli.options import Recorded, Verify


class Flavour(StrEnum):
    """Which original is computed."""

    tf = "tf"
    torch = "torch"


class CrossAttention(StrEnum):
    """Forms of cross-attention."""

    kmeans = "kmeans"
    cmt = "cmt"
    softmax = "softmax"


def add_to(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(predict_images)
    app.command()(port_file)


def predict_images(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="JPEG or PNG files.")],
    weights: Annotated[Path, typer.Option(help="A model.safetensors of this project.")],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
) -> None:
    """Segment images of your own.

    Writes overlays, panoptic PNGs and a JSON. The weights file carries the model's arguments and categories,
    so nothing else is needed.

    \b
    Example: kmax predict-images photo.jpg --weights results/shapes-tiny/model.safetensors --out masks
    """
    from kmax.inference.predict_images import predict_images

    typer.echo(predict_images(images, weights, out))


def port_file(
    source: Annotated[CheckpointFormat, typer.Argument(help="What wrote the checkpoint.")],
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The file; of TensorFlow what its files begin with (ckpt-150000), or their folder.",
        ),
    ],
    model: Annotated[str, typer.Option(help="Architecture, for example kmax_resnet50.")],
    dataset: Annotated[str, typer.Option(help="Dataset whose categories the weights predict.")],
    image_size: Annotated[tuple[int, int], typer.Option(help="Network input: height width.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write; its report lies beside it.")],
    flavour: Annotated[
        Flavour | None,
        typer.Option(help="Which original is computed; left out: the one that the weights come from."),
    ] = None,
    num_clusters: Annotated[int, typer.Option(help="Cluster centres.", min=1)] = 128,
    decoder_stages: Annotated[int, typer.Option(help="Stages of the pixel decoder.", min=4, max=5)] = 4,
    cross_attention: Annotated[
        CrossAttention, typer.Option(help="Form of cross-attention.")
    ] = CrossAttention.kmeans,
    thresholds_of: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Thresholds and preprocessing that the file keeps for predict-images."
        ),
    ] = None,
    verify: Verify = False,
    recorded: Recorded = None,
) -> None:
    """Turn a checkpoint file into a model.

    TensorFlow's checkpoints are read without TensorFlow; pickles (.pth, .pkl) without running what they ask
    for.
    Every tensor must find its place; the account of them is written beside the model.

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
        thresholds_of=thresholds_of,
        verify=verify,
        recorded=recorded,
        tell=partial(typer.echo, err=True),
        **arguments,
    )
    typer.echo(path)
