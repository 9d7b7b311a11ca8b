"""`kmax data ...`: datasets from raw files to the canonical format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmax.cli.common import Overwrite
from kmax.display import printable
from kmax.errors import InputError

MAX_DIGITS = 9
group = typer.Typer(help="Download, prepare and check datasets.")
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="Name of a file in params/datasets.")]


def add_to(app: typer.Typer) -> None:
    """Add the group to the command."""
    app.add_typer(group, name="data")


@group.command()
def download(dataset: Dataset) -> None:
    """Download the raw files, or find them on disk.

    Writes data/raw/DATASET/manifest.json. Existing data is found through KMAX_DATA_ROOT, or through the root
    in the dataset's file.

    \b
    Example: KMAX_DATA_ROOT=/datasets kmax data download coco_mini
    """
    from kmax.data.download.download_dataset import download

    typer.echo(download(dataset))


@group.command()
def prepare(dataset: Dataset) -> None:
    """Convert a dataset to the canonical format.

    Writes data/prepared/DATASET: COCO panoptic JSON and PNG, and a manifest.

    \b
    Example: kmax data prepare shapes
    """
    from kmax.data.prepare.prepare_dataset import prepare

    typer.echo(prepare(dataset))


@group.command()
def check(dataset: Dataset) -> None:
    """Report all problems of a dataset, file by file.

    Prints at most 20 lines per kind of problem, then a count of the rest. The exit code is 2 if there is any
    problem.

    \b
    Example: kmax data check coco_mini
    """
    from kmax.data.prepare.check_dataset import check

    faults = check(dataset)
    faults.print_warnings()
    if not faults.count():
        number = f" (warnings: {len(faults.warnings)})" if faults.warnings else ""
        typer.echo(f"{dataset}: no problems found{number}")
        return
    for line in [*faults.lines(), f"{dataset}: {faults.summary()}"]:
        typer.echo(printable(line), err=True)
    raise typer.Exit(2)


Folders = Annotated[
    list[Path] | None,
    typer.Option(help="Image folder; give it twice for training and validation.", metavar="DIR"),
]


@group.command()
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new dataset.")],
    images: Folders = None,
    panoptic_json: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="COCO panoptic annotation.")
    ] = None,
    panoptic_dir: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="PNG files of that annotation; default: the folder named like the JSON file."
        ),
    ] = None,
    instances_json: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="COCO instance annotation; all other pixels are background."),
    ] = None,
    semantic_dir: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Grayscale PNG files of class ids, named like the images."),
    ] = None,
    instance_dir: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Grayscale PNG files of instance numbers; 0: no instance."),
    ] = None,
    void: Annotated[
        str,
        typer.Option(
            metavar="VALUE", help="Value of pixels without a label in --semantic-dir; none: all have one."
        ),
    ] = "255",
) -> None:
    """Describe your own dataset, and a run that trains on it.

    Writes params/datasets/NAME.yaml, and params/runs/NAME.yaml with the run NAME-tiny. Give each option once,
    or twice for training and validation. If given once, every tenth image is held out for validation.

    \b
    Example: kmax data init cells --images cells/images --panoptic-json cells/panoptic.json
    """
    from kmax import paths
    from kmax.data.own.own_dataset import init
    from kmax.engines import write_pipelines
    from kmax.runs.families import run_names

    written = init(
        name,
        known_runs=run_names(),
        images=images or [],
        panoptic_json=panoptic_json or [],
        panoptic_dir=panoptic_dir or [],
        instances_json=instances_json or [],
        semantic_dir=semantic_dir or [],
        instance_dir=instance_dir or [],
        void=_void(void),
    )
    for path in written:
        typer.echo(path)
    if paths.PIPELINE_TEMPLATE.is_file():
        for path in write_pipelines():
            typer.echo(path)


def _void(value: str) -> int | None:
    if value == "none":
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
        raise InputError(f"--void {value}: expected a number from 0 on, or none")
    return int(value)


@group.command()
def show(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Also show each image after augmentation.")
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Run whose augmentation is used; default: deeplab2's for COCO, at 641 x 641."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to show.")] = "train",
    count: Annotated[int, typer.Option(help="Number of images.", min=1)] = 6,
    seed: Annotated[int, typer.Option(help="Seed for choosing and augmenting images.", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw a contact sheet: images with their segments.

    With --augmented, also the training samples made from them: after jitter, colours, crop, flip and
    copy-paste.

    \b
    Example: kmax data show coco_mini --augmented --out sheet.png
    """
    from kmax.visualization.contact_sheet import contact_sheet

    path = contact_sheet(
        dataset,
        out,
        run=run,
        split=split,
        count=count,
        augmented=augmented,
        seed=seed,
        overwrite=overwrite,
    )
    typer.echo(path)
