"""Tables as Markdown, CSV, LaTeX (booktabs), and as HTML by templates."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from kmax.csv_files import csv_text
from kmax.display import one_line, printable
from kmax.reporting.config import Column
from kmax.reporting.tables import MEASURED, NOT_RUN, REPRODUCED, WEIGHTS_ONLY, Cell, FilledTable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# The fields of a figure; two sets of tables are compared by them.
FIGURE_COLUMNS = (
    "reported",
    "measured",
    "difference",
    "low",
    "high",
    "seeds",
    "spread",
    "verdict",
    "runs",
    "evaluator",
)
CSV_COLUMNS = ("table", "row", "column", *FIGURE_COLUMNS, "source", "machine")
LEGEND = (
    "Each cell shows the reported value, the measured value, their difference and the 95% bootstrap "
    "interval over images; several seeds are shown as mean ± standard deviation."
)
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After a line break, both are read as its arguments.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
}


MAX_LABEL, MAX_PARAGRAPH = 200, 10_000  # characters of users' texts in tables
# What Markdown may take for markup. An underscore within a word is none.
MARKUP = re.compile(r"[\\`*\[\]<|$~]|(?<!\w)_|_(?!\w)|&(?=[#\w]+;)|^[#>=+-]", re.ASCII)


def number(value: float, digits: int, sign: bool = False) -> str:
    """A number with a true minus sign."""
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def cell_parts(cell: Cell, column: Column) -> dict[str, str]:
    """The texts of a cell; missing figures are omitted."""
    digits = column.digits
    parts = {}
    if cell.reported is not None:
        parts["reported"] = number(cell.reported, digits)
    if cell.measured is not None:
        parts["measured"] = number(cell.measured, digits)
        if cell.spread is not None:
            parts["measured"] += f" ± {number(cell.spread, digits)}"
            parts["seeds"] = f"{cell.seeds} seeds"
    if cell.difference is not None:
        parts["difference"] = number(cell.difference, digits, sign=True)
    if cell.interval is not None:
        low, high = cell.interval
        parts["interval"] = f"{number(low, digits)}–{number(high, digits)}"
    return parts


def cell_text(cell: Cell, column: Column, bold: str = "**{}**") -> str:
    """A cell in one line: `53.0 → **52.8** (−0.2) [52.3–53.1]`, or the reported figure alone."""
    parts = cell_parts(cell, column)
    if "measured" not in parts:
        return parts.get("reported", "")
    words = [f"{parts['reported']} →"] if "reported" in parts else []
    words.append(bold.format(parts["measured"]))
    details = [parts[name] for name in ("difference", "seeds") if name in parts]
    words += [f"({', '.join(details)})"] if details else []
    words += [f"[{parts['interval']}]"] if "interval" in parts else []
    return " ".join(words)


def markdown(filled: FilledTable) -> str:
    """A Markdown section with the table."""

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    columns = filled.table.columns
    lines = [
        line(["model", *(md(column.name) for column in columns), "verdict"]),
        line(["---", *("---:" for _ in columns), "---"]),
    ]
    for row in filled.rows:
        texts = [cell_text(cell, column) for cell, column in zip(row.cells, columns, strict=True)]
        lines.append(line([md(row.label), *texts, row.verdict]))
    table = "\n".join(lines)
    caption, evaluators = (md(text, MAX_PARAGRAPH) for text in (filled.table.caption, filled.evaluator_line))
    return f"## {md(filled.table.title)}\n\n{table}\n\n{caption}\n\n{LEGEND}\n\n{evaluators}\n"


def md(text: str, most: int = MAX_LABEL) -> str:
    """A text as one line of Markdown, with everything escaped that could be markup."""
    return MARKUP.sub(r"\\\g<0>", one_line(text, most))


def csv_rows(filled: FilledTable) -> list[dict[str, str]]:
    """One row per figure, to be read by programs."""
    result = []
    for row in filled.rows:
        for cell, column in zip(row.cells, filled.table.columns, strict=True):

            def text(value: float | None, digits: int = column.digits) -> str:
                return "" if value is None else f"{value:.{digits}f}"

            low, high = cell.interval or (None, None)
            values: list[Any] = [
                filled.table.table,
                row.label,
                column.name,
                *map(text, (cell.reported, cell.measured, cell.difference, low, high)),
                cell.seeds,
                text(cell.spread),
                row.verdict,
                " ".join(row.runs),
                "; ".join(filled.evaluators) or filled.table.evaluator,
                row.source,
                "yes" if column.machine else "",
            ]
            result.append(dict(zip(CSV_COLUMNS, map(str, values), strict=True)))
    return result


def figures_csv(filled: FilledTable) -> str:
    """The rows as CSV."""
    return csv_text(CSV_COLUMNS, (row.values() for row in csv_rows(filled)))


def latex(filled: FilledTable) -> str:
    """A LaTeX table; it needs the package booktabs."""
    columns = filled.table.columns
    caption, evaluators = (tex(text, MAX_PARAGRAPH) for text in (filled.table.caption, filled.evaluator_line))
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{tex(filled.table.title)}. {caption} {evaluators}}}",
        rf"\label{{tab:{filled.table.table}}}",
        rf"\begin{{tabular}}{{l{'r' * len(columns)}l}}",
        r"\toprule",
        " & ".join(["model", *(tex(column.name) for column in columns), "verdict"]) + r" \\",
        r"\midrule",
    ]
    for row in filled.rows:
        cells = [_latex_cell(cell, column) for cell, column in zip(row.cells, columns, strict=True)]
        lines.append(" & ".join([tex(row.label), *cells, tex(row.verdict)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell, column: Column) -> str:
    """The reported figure above the measured one."""
    parts = cell_parts(cell, column)
    if "measured" not in parts:
        return tex(parts.get("reported", ""))
    below = [rf"\textbf{{{tex(parts['measured'])}}}"]
    details = ", ".join(parts[name] for name in ("difference", "seeds") if name in parts)
    below += [f"({tex(details)})"] if details else []
    lines = [tex(parts["reported"])] if "reported" in parts else []
    lines.append(" ".join(below))
    lines += [rf"\scriptsize [{tex(parts['interval'])}]"] if "interval" in parts else []
    return r"\shortstack[r]{" + r" \\ ".join(lines) + "}" if len(lines) > 1 else lines[0]


def tex(text: str, most: int = MAX_LABEL) -> str:
    """A text as one line of LaTeX, with its special characters escaped; others need a font that has them."""
    return "".join(LATEX.get(character, character) for character in one_line(text, most))


def html(filled: FilledTable) -> Markup:
    """The table as HTML (templates/table.html), with classes for the site's style; also usable alone."""
    from markupsafe import Markup

    columns = filled.table.columns
    rows = [
        {
            "label": one_line(row.label, MAX_LABEL),
            "cells": [
                (cell_parts(cell, column), "down" if (cell.difference or 0) < 0 else "up")
                for cell, column in zip(row.cells, columns, strict=True)
            ],
            "verdict": row.verdict,
            "style": verdict_class(row.verdict),
        }
        for row in filled.rows
    ]
    text = templates().get_template("table.html").render(table=filled.table, rows=rows)
    return Markup(text + "\n")  # noqa: S704 - the template escapes its values


@functools.cache
def templates() -> Environment:
    """The Jinja templates of tables and of the site; texts are escaped, and unknown names are errors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("kmax.reporting"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """What a template shows of a value: of texts, only printable characters; markup is kept."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(value, keep="\n\t") if is_text else value


def verdict_class(verdict: str) -> str:
    """The CSS class of a verdict."""
    known = {REPRODUCED: "good", MEASURED: "plain", WEIGHTS_ONLY: "part", NOT_RUN: "none"}
    return known.get(verdict, "short")
