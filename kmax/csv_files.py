"""CSV files of this project: cells with any text are read back as they were written.

The first line names the columns. Lines end with a line feed. A text that a spreadsheet would run as a formula
is preceded by an apostrophe, which `read_csv` removes. Numbers are written as they are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kmax.errors import InputError

FORMULA = "=+-@\t\r\n＝＋－＠"
QUOTE = "'"
MAX_CELL = 2**24  # in characters


def csv_line(cells: Iterable[Any]) -> str:
    """One line, with the line feed at its end.

    A lone surrogate, which UTF-8 cannot hold, is written as its escape sequence.
    """
    text = io.StringIO()
    # With this terminator, the writer also quotes cells with a carriage return.
    csv.writer(text, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A whole file: the names of the columns, and the rows."""
    return csv_line(columns) + "".join(map(csv_line, rows))


def read_csv(path: Path, what: str, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of their columns.

    Args:
        path: the file.
        what: role of the file, for errors.
        columns: columns that it must have, if it has any row.

    Raises:
        InputError: missing or unreadable, or a column is missing.
    """
    try:
        csv.field_size_limit(MAX_CELL)
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {what} cannot be read: {error}") from error
    if rows and not all(rows[0].get(column) is not None for column in columns):
        raise InputError(f"{path}: {what}: expected the columns {', '.join(columns)}")
    return [{name: _text(cell) for name, cell in row.items()} for row in rows]


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "backslashreplace").decode()
    return QUOTE + text if _is_quoted(text) else text


def _text(cell: Any) -> Any:
    """The text of a cell; cells of malformed rows (None, lists) are kept."""
    if isinstance(cell, str) and cell.startswith(QUOTE) and _is_quoted(cell[1:]):
        return cell[1:]
    return cell


def _is_quoted(text: str) -> bool:
    """Whether a text is written with an apostrophe: formulas, and texts that look like a quoted one."""
    bare = text.lstrip(QUOTE)
    return bare.startswith(tuple(FORMULA)) and not _is_number(bare)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
