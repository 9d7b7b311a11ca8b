"""Reading the CSV files that stages and reports leave."""

from __future__ import annotations

import csv
from pathlib import Path

from kmax.errors import InputError


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file that has at least `columns`.

    Raises:
        InputError: unreadable, or a column is missing.
    """
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if rows and not all(rows[0].get(column) is not None for column in columns):
        raise InputError(f"{path}: wants the columns {', '.join(columns)}")
    return rows
