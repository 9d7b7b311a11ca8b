"""Figures as the terminal shows them."""

from __future__ import annotations


def percent(value: float | None, sign: bool = False) -> str:
    """A fraction in percent; "n/a" where there is none."""
    return "n/a" if value is None else f"{100 * value:{'+' if sign else ''}.2f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Columns of text, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        numbers = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers]))
    return "\n".join(lines)
