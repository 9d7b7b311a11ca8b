"""Pictures of where quality is lost: parts by size and by class, and the classes that are confused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmax import files, paths
from kmax.errors import InputError
from kmax.reporting.canvas import canvas, patch, svg_text
from kmax.reporting.csv_files import read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = {
    "pq": ("PQ", "#2f6fb0"),
    "segmentation": ("segmentation", "#e3a947"),
    "classification": ("classification", "#a8589e"),
    "missed": ("missed", "#8b919b"),
    "spurious": ("spurious", "#d2693f"),
}
SIZES = ("small", "medium", "large")
MAX_CLASSES = 60
MAX_CONFUSED = 20
NONE = "none"


def size_parts(run: str) -> str | None:
    """SVG of the parts of quality of each group, and by size of object; None where they are not explained."""
    path = paths.explanation(run) / "summary.json"
    if not path.exists():
        return None
    try:
        groups = files.read_json(path, "split of quality")["groups"]
        rows = {f"{group}": groups[group]["all"] for group in ("all", "things", "stuff")}
        rows |= {f"{size} objects": groups["all"][size] for size in SIZES}
        shares = {
            f"{name} ({row['n']} classes)": [float(row[part]) for part in PARTS]
            for name, row in rows.items()
            if row["n"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not a split of quality: {error!r}") from error
    return _bars(shares, 0.3) if shares else None


def class_parts(run: str) -> str | None:
    """SVG of the parts of quality of the classes that lose most; None where they are not explained."""
    path = paths.explanation(run) / "parts.csv"
    rows = read_rows(path, ("name", "size", *PARTS)) if path.exists() else []
    rows = [row for row in rows if row["size"] == "all" and row["pq"]]
    rows.sort(key=lambda row: (float(row["pq"]), row["name"]))
    if not rows:
        return None
    shares = {row["name"]: [float(row[part]) for part in PARTS] for row in rows[:MAX_CLASSES]}
    return _bars(shares, 0.22)


def confusions(run: str) -> str | None:
    """SVG of the confusion table of the classes that are confused most; None where it is not there.

    Rows are classes of the ground truth, columns of the prediction; "none" stands for missed and spurious
    segments, and "others" for all classes that are not shown.
    """
    path = paths.explanation(run) / "confusion.csv"
    rows = read_rows(path, ("truth", "predicted", "segments")) if path.exists() else []
    if not rows:
        return None
    try:
        found = [(row["truth"] or NONE, row["predicted"] or NONE, int(row["segments"])) for row in rows]
    except ValueError as error:
        raise InputError(f"{path}: is not a confusion table: {error}") from error
    weight: dict[str, float] = {}
    for true, predicted, segments in found:
        for name in {true, predicted} - {NONE}:
            # Confusions first; among the others, the classes with the most segments.
            weight[name] = weight.get(name, 0) + segments * (
                1 if true != predicted and NONE not in (true, predicted) else 1e-6
            )
    ranked = sorted(weight, key=lambda name: (-weight[name], name))
    shown = ranked[:MAX_CONFUSED]
    ends = [*(["others"] if len(ranked) > len(shown) else []), NONE]
    names = [*shown, *ends]
    place = {
        name: names.index(name if name in shown or name == NONE else "others") for name in [*ranked, NONE]
    }
    table = np.zeros((len(names), len(names)), np.int64)
    for true, predicted, segments in found:
        table[place[true], place[predicted]] += segments
    return _heat_map(table, names)


def _heat_map(table: np.ndarray, names: list[str]) -> str:
    """Numbers of segments, coloured by their share of the row."""
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    with canvas(2.2 + 0.34 * len(names), 1.6 + 0.27 * len(names)) as figure:
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


def _bars(shares: dict[str, list[float]], height: float) -> str:
    """Stacked bars, one per name, whose parts add up to 1."""
    with canvas(7.0, 0.9 + height * len(shares)) as figure:
        axes: Axes = figure.subplots()
        places = list(range(len(shares)))
        values = 100 * np.array(list(shares.values()))
        starts = np.cumsum(values, axis=1) - values
        for column, (_, color) in enumerate(PARTS.values()):
            axes.barh(places, values[:, column], left=starts[:, column], color=color, height=0.75)
        axes.set_yticks(places, list(shares))
        axes.invert_yaxis()
        axes.margins(y=0.5 / len(shares))
        axes.set(xlim=(0, 100), xlabel="share of what is there to gain, %")
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
