"""Figures as SVG: training curves, per-class bars, where quality is lost. Equal input gives equal bytes."""

from __future__ import annotations

from pathlib import Path

from kmax import files, paths
from kmax.reporting.canvas import canvas, patch, svg_text
from kmax.reporting.csv_files import read_rows
from kmax.reporting.quality_figures import class_parts, confusions, size_parts

THING, STUFF, SEMANTIC = "#2f6fb0", "#5a9e5f", "#444444"
MAX_CLASSES = 160


def training_curves(run: str) -> str | None:
    """SVG of the total loss, its terms and the learning rate over steps; None where there is no history."""
    path = paths.history(run)
    rows = read_rows(path, ("step", "loss/total")) if path.exists() else []
    if not rows:
        return None
    steps = [int(row["step"]) for row in rows]
    terms = [name for name in rows[0] if name.startswith("loss/") and "/" not in name.removeprefix("loss/")]
    terms.remove("loss/total")
    with canvas(9.0, 3.2) as figure:
        total, parts = figure.subplots(1, 2)
        for axes in (total, parts):
            axes.xaxis.get_major_locator().set_params(integer=True)
        total.plot(steps, [float(row["loss/total"]) for row in rows], color=THING, label="total loss")
        total.set(xlabel="step", ylabel="loss", title="Total loss and learning rate")
        if "learning_rate" in rows[0]:
            rate = total.twinx()
            rate.plot(steps, [float(row["learning_rate"]) for row in rows], color="#b9772b", linewidth=1)
            rate.set_ylabel("learning rate", color="#b9772b")
            rate.grid(visible=False)
        for name in terms:
            parts.plot(steps, [float(row[name]) for row in rows], label=_title(name), linewidth=1.2)
        parts.set(xlabel="step", title="Terms of the final prediction")
        if terms:
            parts.legend(fontsize=8)
        return svg_text(figure)


def class_bars(run: str) -> str | None:
    """SVG of PQ per class, with semantic IoU as a mark; None where the run is not evaluated."""
    path = paths.per_class(run)
    rows = read_rows(path, ("name", "isthing", "pq", "semantic_iou")) if path.exists() else []
    rows = [row for row in rows if row["pq"]]
    if not rows:
        return None
    rows.sort(key=lambda row: (-int(row["isthing"]), -float(row["pq"]), row["name"]))
    rows = rows[:MAX_CLASSES]
    places = list(range(len(rows)))
    with canvas(7.0, 0.9 + 0.22 * len(rows)) as figure:
        axes = figure.subplots()
        colors = [THING if row["isthing"] == "1" else STUFF for row in rows]
        axes.barh(places, [100 * float(row["pq"]) for row in rows], color=colors, height=0.7)
        marks = [
            (100 * float(row["semantic_iou"]), place)
            for row, place in zip(rows, places, strict=True)
            if row["semantic_iou"]
        ]
        axes.scatter([x for x, _ in marks], [y for _, y in marks], marker="|", color=SEMANTIC, s=60)
        axes.set_yticks(places, [row["name"] for row in rows])
        axes.invert_yaxis()
        axes.margins(y=0.5 / len(rows))
        axes.set(xlim=(0, 100), xlabel="PQ (bar) and semantic IoU (mark), %")
        axes.grid(visible=False, axis="y")
        handles = [patch(THING, "things"), patch(STUFF, "stuff")]
        axes.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, borderaxespad=0.2
        )
        return svg_text(figure)


KINDS = {
    "training": training_curves,
    "parts": size_parts,
    "confusion": confusions,
    "lost": class_parts,
    "classes": class_bars,
}


def write_figures(runs: list[str], folder: Path) -> dict[str, list[str]]:
    """Write all figures of the runs; returns run -> file names in `folder`."""
    written: dict[str, list[str]] = {}
    for run in runs:
        for kind, draw in KINDS.items():
            svg = draw(run)
            if svg is not None:
                files.write_text(folder / f"{run}-{kind}.svg", svg)
                written.setdefault(run, []).append(f"{run}-{kind}.svg")
    return written


def _title(name: str) -> str:
    return name.removeprefix("loss/").replace("_", " ")
