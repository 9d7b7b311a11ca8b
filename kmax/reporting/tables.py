"""Tables of reported and measured figures, with differences, intervals, seeds and a verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from kmax.reporting.config import Column, Reference, Row, Table
from kmax.reporting.measured import Measured, seeds_of

REPRODUCED, NOT_RUN, WEIGHTS_ONLY, MEASURED, SHORT = (
    "reproduced",
    "not run",
    "weights only",
    "measured",
    "short by",
)


@dataclass(frozen=True)
class Cell:
    """One figure. All values are in the column's unit, rounded to its digits, or None.

    Attributes:
        reported: by the row's reference.
        measured: by this project; the mean if there are several seeds.
        difference: measured minus reported, of the rounded figures.
        interval: 95% bootstrap interval over images, of a single run.
        seeds: number of runs in the mean.
        spread: sample standard deviation over seeds.
    """

    reported: float | None = None
    measured: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0
    spread: float | None = None


@dataclass(frozen=True)
class FilledRow:
    """One row with its figures.

    Attributes:
        label: of the row.
        cells: one per column.
        verdict: `reproduced`, `short by x`, `weights only`, `not run`; `measured` where nothing was reported.
        runs: measured runs.
        source: of the reported figures.
    """

    label: str
    cells: list[Cell]
    verdict: str
    runs: list[str]
    source: str


@dataclass(frozen=True)
class FilledTable:
    """One table with its figures.

    Attributes:
        table: its definition.
        rows: filled.
        evaluators: of the measured figures, as named in metrics.json.
    """

    table: Table
    rows: list[FilledRow]
    evaluators: list[str]

    @property
    def judged(self) -> bool:
        """Whether any row has both a reported and a measured figure to compare."""
        return any(cell.difference is not None for row in self.rows for cell in row.cells)

    @property
    def evaluator_line(self) -> str:
        """The sources of the reported and the evaluators of the measured figures."""
        sources = sorted({row.source for row in self.rows if row.source})
        reported = f"Reported: {'; '.join(sources)}. " if sources else ""
        if self.evaluators:
            return f"{reported}Measured by: {'; '.join(self.evaluators)}."
        return f"{reported}No row was measured; evaluator: {self.table.evaluator}."


def fill_tables(
    tables: list[Table], reference: Reference, measured: Mapping[str, Measured]
) -> list[FilledTable]:
    """Fill all tables with reported and measured figures."""
    return [_fill_table(table, reference, measured) for table in tables]


def _fill_table(table: Table, reference: Reference, measured: Mapping[str, Measured]) -> FilledTable:
    rows = [_fill_row(table, row, reference, measured) for row in table.rows]
    evaluators = {
        evaluator
        for row in rows
        for run in row.runs
        for column in table.columns
        if column.measured and (evaluator := measured[run].evaluator(column.measured))
    }
    if not evaluators and any(row.runs for row in rows):
        evaluators = {table.evaluator}
    return FilledTable(table, rows, sorted(evaluators))


def _fill_row(table: Table, row: Row, reference: Reference, measured: Mapping[str, Measured]) -> FilledRow:
    reported = reference[row.reference] if row.reference else {}
    paths = [column.measured for column in table.columns if column.measured]

    def having(runs: list[str]) -> list[Measured]:
        return [measured[run] for run in runs if any(path in measured[run].numbers for path in paths)]

    trained = having(seeds_of(row.trained, measured)) if row.trained else []
    ported = having([row.ported]) if row.ported and row.ported in measured else []
    shown = trained or ported
    cells = [_fill_cell(column, reported, shown) for column in table.columns]
    verdict = _verdict(table, row, cells, is_trained=bool(trained), is_ported=bool(ported))
    return FilledRow(row.label, cells, verdict, [run.run for run in shown], reported.get("source", ""))


def _fill_cell(column: Column, reported: Mapping[str, str], runs: list[Measured]) -> Cell:
    def shown(value: float) -> float:
        return round(value, column.digits) + 0.0  # no negative zero

    text = reported.get(column.reported, "") if column.reported else ""
    published = float(text) if text else None
    available = [run for run in runs if column.measured and column.measured in run.numbers]
    if column.measured is None or not available:
        return Cell(reported=published)
    values = [run.numbers[column.measured] * column.scale for run in available]
    mean = shown(statistics.fmean(values))
    interval = available[0].interval(column.measured) if len(available) == 1 else None
    return Cell(
        reported=published,
        measured=mean,
        difference=None if published is None else shown(mean - published),
        interval=None
        if interval is None
        else (shown(interval[0] * column.scale), shown(interval[1] * column.scale)),
        seeds=len(values),
        spread=shown(statistics.stdev(values)) if len(values) > 1 else None,
    )


def _verdict(table: Table, row: Row, cells: list[Cell], *, is_trained: bool, is_ported: bool) -> str:
    """The verdict by the table's verdict column; for ported weights, of the weights themselves."""
    if not (is_trained or is_ported):
        return NOT_RUN
    column = table.verdict_column
    difference = None if column is None else cells[column].difference
    if is_ported and not is_trained and row.trained is not None and row.reference is not None:
        return WEIGHTS_ONLY
    if difference is None:
        return MEASURED
    if difference >= -table.tolerance - 1e-9:
        return REPRODUCED
    digits = table.columns[column].digits if column is not None else 1
    return f"{SHORT} {-difference:.{digits}f}"
