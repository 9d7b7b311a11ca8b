"""Numbers of JSON files: 264.0 is 264 wherever a whole number is expected.

Programs that compute with floats write whole numbers as floats. Datasets are read by `whole` alone. The
official evaluators also take true for 1, and so does `WholeNumbers`, which counts such numbers for a warning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmax.errors import InputWarnings


def whole(value: Any) -> int | None:
    """The whole number that a number equals; None for all other values, including true and false."""
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


class WholeNumbers:
    """Reads the whole numbers of one file as the official evaluators do.

    Args:
        path: the file.
        side: its role, for the warning.
    """

    def __init__(self, path: Path, side: str) -> None:
        self._path, self._side = path, side
        self._count, self._first = 0, ""

    def read(self, value: Any) -> int | None:
        """The whole number that a value equals; None if there is none."""
        if type(value) is int:
            return value
        number = int(value) if type(value) is bool else whole(value)
        if number is not None:
            self._first = self._first or repr(value)
            self._count += 1
        return number

    def replace(self, entry: dict[str, Any], key: str) -> int | None:
        """`read` a value of an object, and replace it by the number."""
        value = entry.get(key)
        if type(value) is int:
            return value
        number = self.read(value)
        if number is not None:
            entry[key] = number
        return number

    def warn(self, warnings: InputWarnings) -> None:
        """Add one warning, if there were numbers in another form."""
        if self._count:
            kind = f"{self._side}: numbers in another form, such as {self._first}, are read as whole numbers"
            warnings.add(kind, f"{self._path}: {self._count} number{'s' * (self._count > 1)}")
