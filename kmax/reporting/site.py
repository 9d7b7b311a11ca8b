"""The static site: tables, and a page per run with pictures, curves, bars and provenance.

It works from the file system without a network: links are relative, and style and figures are included.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kmax import files, paths
from kmax.config.metrics import METRICS
from kmax.csv_files import read_csv
from kmax.reporting import writers
from kmax.reporting.figures import KINDS
from kmax.reporting.measured import Measured
from kmax.reporting.tables import FilledTable
from kmax.runs.families import load_run, run_names
from kmax.runs.parameters import run_as_yaml
from kmax.urls import without_credentials

PICTURES = ("image", "ground_truth", "prediction")
PICTURE_TITLES = {"image": "image", "ground_truth": "ground truth", "prediction": "prediction"}
PROVENANCE = (
    ("run", "provenance/run"),
    ("state digest", "provenance/digest"),
    ("parameters digest", "provenance/parameters_digest"),
    ("commit", "provenance/commit"),
    ("dataset", "provenance/dataset"),
    ("split", "provenance/split"),
    ("data digest", "provenance/data_digest"),
    ("initial weights, SHA-256", "provenance/weights_digest"),
    ("weights, SHA-256", "provenance/model_sha256"),
    ("weights, commit", "provenance/model_commit"),
    ("predictions digest", "provenance/predictions_digest"),
    ("ground truth digest", "provenance/ground_truth_digest"),
    ("protocol", "provenance/protocol"),
    ("speed measured on", "speed/machine/name"),
)


@dataclass(frozen=True)
class Figure:
    """A headline figure in percent."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class Example:
    """The pictures of one image: titles and URLs relative to the page."""

    stem: str
    views: list[tuple[str, str]]
    clusters: list[tuple[str, str]]


@dataclass(frozen=True)
class RunPage:
    """The contents of the page of one run."""

    run: str
    description: str
    headline: list[Figure]
    examples: list[Example]
    worst: list[Example]
    figures: dict[str, str | None]
    provenance: list[tuple[str, str]]
    parameters: str


def write_site(
    folder: Path,
    filled: list[FilledTable],
    measured: Mapping[str, Measured],
    figures: Mapping[str, list[str]],
    figures_folder: Path,
) -> None:
    """Write index.html, runs/<run>.html and their pictures into `folder`.

    Args:
        folder: the site.
        filled: the tables.
        measured: measured figures by run; each run gets a page.
        figures: run -> names of its figures in `figures_folder`.
        figures_folder: folder of the figures.
    """
    templates = writers.templates()
    style = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    files.write_text(folder / "style.css", style)
    pages = [_run_page(folder, measured[run], figures.get(run, []), figures_folder) for run in measured]
    shared: dict[str, Any] = {"pages": pages, "legend": writers.LEGEND}
    run_of_row = {run.run for run in pages}
    index = templates.get_template("index.html").render(
        **shared, root="", tables=[(table, writers.html(table)) for table in filled], known=run_of_row
    )
    files.write_text(folder / "index.html", index)
    for page in pages:
        html = templates.get_template("run.html").render(**shared, root="../", page=page)
        files.write_text(folder / "runs" / f"{page.run}.html", html)


def _run_page(folder: Path, measured: Measured, figures: list[str], figures_folder: Path) -> RunPage:
    run = measured.run
    place = folder / "runs" / run
    place.mkdir(parents=True)
    drawn: dict[str, str | None] = dict.fromkeys(KINDS)
    for name in figures:
        shutil.copyfile(figures_folder / name, place / name)
        drawn[name.removeprefix(f"{run}-").removesuffix(".svg")] = f"{run}/{name}"
    known = run in run_names()
    return RunPage(
        run=run,
        description=without_credentials(load_run(run).description) if known else "",
        headline=_headline(measured),
        examples=_copy_pictures(paths.predictions(run) / "pictures", place, run),
        worst=_worst(place / "worst", run),
        figures=drawn,
        provenance=_provenance(measured),
        parameters=run_as_yaml(run) if known else "",
    )


def _headline(measured: Measured) -> list[Figure]:
    result = []
    for metric in METRICS.values():
        for figure in metric.headline:
            path = f"{metric.name}/{figure.path}"
            if path in measured.numbers:
                interval = measured.interval(path)
                text = "" if interval is None else f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}"
                result.append(Figure(figure.title, f"{100 * measured.numbers[path]:.1f}", text))
    return result


def _provenance(measured: Measured) -> list[tuple[str, str]]:
    """The origin of the figures: run, weights, parameters, commit, evaluators."""
    rows = [(title, measured.texts[path]) for title, path in PROVENANCE if measured.texts.get(path)]
    for part, metric in METRICS.items():
        evaluator = measured.evaluator(f"{part}/")
        if evaluator:
            engine, protocol = (
                measured.texts.get(f"{part}/provenance/{key}") for key in ("engine", "protocol")
            )
            text = f"{evaluator}, computed by {engine}" if engine else evaluator
            rows.append((f"evaluator of {metric.title}", f"{text}: {protocol}" if protocol else text))
    return rows


def _copy_pictures(pictures: Path, place: Path, below: str) -> list[Example]:
    """Copy folders of pictures beside the page.

    Args:
        pictures: source, with a folder per image.
        place: the folder to copy to.
        below: path of `place` from the page's folder.
    """
    examples = []
    for source in sorted(pictures.glob("*/")):
        target = place / source.name
        target.mkdir(parents=True)
        links: dict[str, str] = {}
        for picture in sorted([*source.glob("*.png"), *source.glob("*.jpg")]):
            shutil.copyfile(picture, target / picture.name)
            links[picture.stem] = quote(os.fsencode(f"{below}/{source.name}/{picture.name}"))
        views = [(PICTURE_TITLES[name], links[name]) for name in PICTURES if name in links]
        layers = sorted(int(name.removeprefix("clusters_")) for name in links if name.startswith("clusters_"))
        clusters = [(f"k-means layer {layer}", links[f"clusters_{layer}"]) for layer in layers]
        examples.append(Example(source.name, views, clusters))
    return examples


def _worst(place: Path, run: str) -> list[Example]:
    """Copy the pictures of the worst images; titles give their quality."""
    folder = paths.explanation(run)
    examples = _copy_pictures(folder / "worst", place, f"{run}/worst")
    rows = (
        read_csv(folder / "images.csv", "quality of the images", ("image_id", "quality")) if examples else []
    )
    # Pictures and rows have the same order, the worst first.
    return [
        replace(example, stem=f"{example.stem.partition('_')[2]}: quality {100 * float(row['quality']):.1f}")
        for example, row in zip(examples, rows, strict=False)
    ]
