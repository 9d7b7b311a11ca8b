"""Figures as SVG: training curves, bars per class, error analysis. Equal input gives equal bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmax import files, paths
from kmax.csv_files import read_csv
from kmax.display import category_labels
from kmax.errors import InputError
from kmax.reporting.canvas import canvas, has_glyphs, patch, svg_text, widest

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

THING, STUFF, SEMANTIC = "#2f6fb0", "#5a9e5f", "#444444"
MAX_CLASSES = 160
PARTS = {
    "pq": ("PQ", "#2f6fb0"),
    "segmentation": ("segmentation", "#e3a947"),
    "classification": ("classification", "#a8589e"),
    "missed": ("missed", "#8b919b"),
    "spurious": ("spurious", "#d2693f"),
}
SIZES = ("small", "medium", "large")
MAX_PARTS_CLASSES = 60
MAX_CONFUSED = 20
MAX_CONFUSED_LABEL = 32  # characters; the table has little room
NONE = ""  # id in place of a class that is missing


def training_curves(run: str) -> str | None:
    """SVG of the total loss, its terms and the learning rate over steps; None without a history."""
    path = paths.history(run)
    rows = read_csv(path, "history", ("step", "loss/total")) if path.exists() else []
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
    """SVG of PQ per class, with semantic IoU as a mark; None if the run is not evaluated."""
    path = paths.per_class(run)
    rows = _read(path, ("isthing", "pq", "semantic_iou"))
    rows = [row for row in rows if row["pq"]]
    if not rows:
        return None
    rows.sort(key=lambda row: (-int(row["isthing"]), -float(row["pq"]), row["name"]))
    rows = rows[:MAX_CLASSES]
    places = list(range(len(rows)))
    names = _labels(rows)
    with canvas(_bar_width(names), 0.9 + 0.22 * len(rows)) as figure:
        axes = figure.subplots()
        colors = [THING if row["isthing"] == "1" else STUFF for row in rows]
        axes.barh(places, [100 * float(row["pq"]) for row in rows], color=colors, height=0.7)
        marks = [
            (100 * float(row["semantic_iou"]), place)
            for row, place in zip(rows, places, strict=True)
            if row["semantic_iou"]
        ]
        axes.scatter([x for x, _ in marks], [y for _, y in marks], marker="|", color=SEMANTIC, s=60)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.margins(y=0.5 / len(rows))
        axes.set(xlim=(0, 100), xlabel="PQ (bar) and semantic IoU (mark), %")
        axes.grid(visible=False, axis="y")
        handles = [patch(THING, "things"), patch(STUFF, "stuff")]
        axes.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, borderaxespad=0.2
        )
        return svg_text(figure)


def _read(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a table of categories; none if there is no such file."""
    return read_csv(path, "table of categories", ("category_id", "name", *columns)) if path.exists() else []


def _labels(rows: list[dict[str, str]]) -> list[str]:
    return category_labels([(row["category_id"], row["name"]) for row in rows], has_glyphs)


def _bar_width(names: list[str]) -> float:
    """Inches; more than usual for names of more than 3 inches."""
    longest = widest(names, 9)
    return 7.0 if longest <= 3.0 else 5.5 + longest


def _title(name: str) -> str:
    return name.removeprefix("loss/").replace("_", " ")


def size_parts(run: str) -> str | None:
    """SVG of the parts of quality per group and per object size; None without an error analysis."""
    path = paths.explanation(run) / "summary.json"
    if not path.exists():
        return None
    try:
        groups = files.read_json(path, "error analysis")["groups"]
        rows = {f"{group}": groups[group]["all"] for group in ("all", "things", "stuff")}
        rows |= {f"{size} objects": groups["all"][size] for size in SIZES}
        shares = {
            f"{name} ({row['n']} classes)": [float(row[part]) for part in PARTS]
            for name, row in rows.items()
            if row["n"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not an error analysis: {error!r}") from error
    return _bars(list(shares), list(shares.values()), 0.3) if shares else None


def class_parts(run: str) -> str | None:
    """SVG of the parts of quality of the worst classes; None without an error analysis."""
    path = paths.explanation(run) / "parts.csv"
    rows = _read(path, ("size", *PARTS))
    rows = [row for row in rows if row["size"] == "all" and row["pq"]]
    rows.sort(key=lambda row: (float(row["pq"]), row["name"]))
    if not rows:
        return None
    rows = rows[:MAX_PARTS_CLASSES]
    return _bars(_labels(rows), [[float(row[part]) for part in PARTS] for row in rows], 0.22)


def confusions(run: str) -> str | None:
    """SVG of the confusion table of the most confused classes; None without an error analysis.

    Rows are classes of the ground truth, columns those of the prediction; "none" stands for missed and
    spurious segments, "others" for all classes that are not shown.
    """
    path = paths.explanation(run) / "confusion.csv"
    columns = ("truth_id", "truth", "predicted_id", "predicted", "segments")
    rows = read_csv(path, "confusion table", columns) if path.exists() else []
    if not rows:
        return None
    try:
        found = [(row["truth_id"], row["predicted_id"], int(row["segments"])) for row in rows]
    except ValueError as error:
        raise InputError(f"{path}: not a confusion table: {error}") from error
    names = {row[f"{side}_id"]: row[side] for row in rows for side in ("truth", "predicted")}
    weight: dict[str, float] = {}
    for true, predicted, segments in found:
        for number in {true, predicted} - {NONE}:
            # Confusions count first, then the number of segments.
            weight[number] = weight.get(number, 0) + segments * (
                1 if true != predicted and NONE not in (true, predicted) else 1e-6
            )
    ranked = sorted(weight, key=lambda number: (-weight[number], names[number], number))
    shown = ranked[:MAX_CONFUSED]
    ends = [*(["others"] if len(ranked) > len(shown) else []), "none"]
    place = {number: min(i, len(shown)) for i, number in enumerate(ranked)}
    place[NONE] = len(shown) + len(ends) - 1
    table = np.zeros((len(shown) + len(ends),) * 2, np.int64)
    for true, predicted, segments in found:
        table[place[true], place[predicted]] += segments
    texts = category_labels(
        [(number, names[number]) for number in ranked],
        lambda text: has_glyphs(text) and text not in ends,
        MAX_CONFUSED_LABEL,
    )
    return _heat_map(table, [*texts[: len(shown)], *ends])


def _heat_map(table: np.ndarray, names: list[str]) -> str:
    """Numbers of segments, coloured by their share of the row."""
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    width, height = 2.2 + 0.34 * len(names), 1.6 + 0.27 * len(names)
    longest = widest(names, 8)
    if 1.75 * longest > width - 0.2:  # the names on two sides would leave no room for the table
        width, height = width + 1.75 * (longest - 1.0), height + 0.75 * (longest - 1.0)
    with canvas(width, height) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        places = list(range(len(names)))
        axes.set_xticks(places, names, rotation=45, ha="left", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(places, names, fontsize=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_xlabel("predicted")
        axes.set_ylabel("ground truth")
        for row, column in np.argwhere(table).tolist():
            color = "white" if share[row, column] > 0.55 else "#1d2430"
            axes.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=7, color=color)
        return svg_text(figure)


def _bars(names: list[str], shares: list[list[float]], height: float) -> str:
    """Stacked bars, one per name, whose parts add up to 1."""
    with canvas(_bar_width(names), 0.9 + height * len(shares)) as figure:
        axes: Axes = figure.subplots()
        places = list(range(len(shares)))
        values = 100 * np.array(shares)
        starts = np.cumsum(values, axis=1) - values
        for column, (_, color) in enumerate(PARTS.values()):
            axes.barh(places, values[:, column], left=starts[:, column], color=color, height=0.75)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.margins(y=0.5 / len(shares))
        axes.set(xlim=(0, 100), xlabel="share of the maximum PQ, %")
        axes.grid(visible=False, axis="y")
        axes.legend(
            handles=[patch(color, name) for name, color in PARTS.values()],
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=len(PARTS),
            fontsize=8,
            borderaxespad=0.2,
            columnspacing=1.2,
            handlelength=1.2,
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
