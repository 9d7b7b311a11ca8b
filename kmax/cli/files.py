"""Verbs on files alone, without run files: `kmax predict-images`, `kmax port-file`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Source(StrEnum):
    """Kinds of checkpoints."""

    torch = "torch"
    safetensors = "safetensors"
    tf = "tf"


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
    from kmax.inference.images import predict_images

    typer.echo(predict_images(images, weights, out))


def port_file(
    source: Annotated[Source, typer.Argument(help="What wrote the checkpoint.")],
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The file.")],
    model: Annotated[str, typer.Option(help="Architecture, for example kmax_resnet50.")],
    dataset: Annotated[str, typer.Option(help="Dataset whose categories the weights predict.")],
    image_size: Annotated[tuple[int, int], typer.Option(help="Network input: height width.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write; its report lies beside it.")],
    flavour: Annotated[Flavour, typer.Option(help="Which original the weights come from.")] = Flavour.tf,
    num_clusters: Annotated[int, typer.Option(help="Cluster centres.", min=1)] = 128,
    decoder_stages: Annotated[int, typer.Option(help="Stages of the pixel decoder.", min=4, max=5)] = 4,
    cross_attention: Annotated[
        CrossAttention, typer.Option(help="Form of cross-attention.")
    ] = CrossAttention.kmeans,
) -> None:
    """Turn a checkpoint file into a model.

    Every tensor must find its place; the account of them is written beside the model.

    \b
    Example:
      kmax port-file torch state.pth --model kmax_tiny --dataset shapes --image-size 129 129
        --num-clusters 16 --out model.safetensors
    """
    from kmax.porting import port_file

    arguments = {
        "flavour": flavour.value,
        "num_clusters": num_clusters,
        "decoder_stages": decoder_stages,
        "cross_attention": cross_attention.value,
    }
    typer.echo(
        port_file(source.value, checkpoint, out, model, dataset=dataset, image_size=image_size, **arguments)
    )
