"""The typed model of params/tables.yaml, and the reader of params/reference.csv."""

from __future__ import annotations

import csv
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kmax import paths
from kmax.config import Name, Parameters
from kmax.config.metrics import METRICS
from kmax.errors import InputError
from kmax.parameter_files import load

ReportedColumn = Literal["pq", "sq", "rq", "pq_thing", "pq_stuff", "ap_mask", "miou", "pq_own_pipeline"]
# What the paths of measured figures begin with.
MEASURED = (*METRICS, "provenance", "speed")
Reference = dict[str, dict[str, str]]


class Column(Parameters):
    """One figure of a table."""

    name: str
    reported: ReportedColumn | None = Field(None, description="column of reference.csv; null: not reported")
    measured: str | None = Field(
        None, description="path in metrics.json, or speed/<path>; null: not measured"
    )
    scale: Annotated[float, Field(gt=0, description="factor applied to measured figures")]
    digits: Annotated[int, Field(ge=0, le=6, description="decimal places")]
    machine: bool = Field(False, description="depends on the machine: excluded from comparisons of tables")

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.reported is None and self.measured is None:
            raise ValueError("set 'reported', 'measured' or both")
        if self.measured is not None and self.measured.split("/")[0] not in MEASURED:
            raise ValueError(f"measured: {self.measured}: must begin with one of {', '.join(MEASURED)}")
        return self


class Row(Parameters):
    """One model of a table."""

    label: str
    reference: str | None = Field(None, description="key of reference.csv; null: no reported figures")
    trained: Name | None = Field(
        None, description="the trained run; runs <trained>-s<seed> are its other seeds"
    )
    ported: Name | None = Field(None, description="the run with the published weights")


class Table(Parameters):
    """One table of the report."""

    table: Name
    title: str
    caption: str
    evaluator: str = Field(description="evaluator of the measured figures")
    tolerance: Annotated[
        float, Field(ge=0, description="a value lower by at most this still counts as reproduced")
    ]
    columns: Annotated[list[Column], Field(min_length=1)]
    rows: Annotated[list[Row], Field(min_length=1)]

    @property
    def verdict_column(self) -> int | None:
        """Index of the column that decides the verdict: the first that is both reported and measured."""
        both = (i for i, column in enumerate(self.columns) if column.reported and column.measured)
        return next(both, None)


class TablesFile(Parameters):
    """`params/tables.yaml`."""

    columns: dict[str, Column] = Field(description="columns that several tables share, as YAML anchors")
    tables: Annotated[list[Table], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [table.table for table in self.tables]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"duplicate tables: {', '.join(twice)}")
        return self


def read_tables() -> tuple[list[Table], Reference]:
    """The tables, and the reported figures by key.

    Raises:
        InputError: wrong keys, or rows with keys that reference.csv lacks.
    """
    tables = load(TablesFile, paths.TABLES_FILE).tables
    reference = read_reference()
    faults = [
        f"{paths.TABLES_FILE}: table '{table.table}', row '{row.label}': {paths.REFERENCE_FILE} has no key "
        f"'{row.reference}'"
        for table in tables
        for row in table.rows
        if row.reference is not None and row.reference not in reference
    ]
    if faults:
        raise InputError(faults)
    return tables, reference


def read_reference() -> Reference:
    """The rows of params/reference.csv by their key, with cells as text.

    Raises:
        InputError: missing or unreadable, a missing column, a duplicate key, a figure that is not a number.
    """
    path = paths.REFERENCE_FILE
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: reported figures cannot be read: {error}") from error
    figures = ReportedColumn.__args__  # type: ignore[attr-defined]
    reference: Reference = {}
    faults = []
    for number, row in enumerate(rows, start=2):
        missing = [name for name in ("key", "source", *figures) if row.get(name) is None]
        if missing:
            raise InputError(f"{path}: line {number}: columns missing: {', '.join(missing)}")
        if row["key"] in reference:
            faults.append(f"{path}: line {number}: duplicate key '{row['key']}'")
        faults += [
            f"{path}: line {number}: {name}: not a number: '{row[name]}'"
            for name in figures
            if row[name] and not _is_number(row[name])
        ]
        reference[row["key"]] = row
    if faults:
        raise InputError(faults)
    return reference


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
