"""Errors that a user can cause, reported as one-line messages instead of tracebacks.

The command line turns `InputError` into one line per fault and exit code 2. Anything else that escapes is a
bug of this project and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from kmax.display import printable, shorten

MAX_FAULTS_SHOWN = 20
MAX_LINE = 2000


class InputError(Exception):
    """Bad input or usage: what is wrong, where, and what to do.

    Args:
        faults: one line per fault, or a single fault as a string.
    """

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """The lines to print: at most 20 faults, then the number of the others."""
        hidden = len(self.faults) - MAX_FAULTS_SHOWN
        shown = [_line(fault) for fault in self.faults[:MAX_FAULTS_SHOWN]]
        return [*shown, f"... and {hidden} more"] if hidden > 0 else shown


def _line(text: str) -> str:
    """A message as one line, whatever names it contains."""
    return shorten(printable(text), MAX_LINE)


class OutOfTimeError(Exception):
    """The time budget is used up; the state is saved, and the same command resumes (exit code 75)."""


def unknown_name(what: str, name: str, known: Iterable[str], where: str) -> InputError:
    """An `InputError` for an unknown name, with the nearest known one."""
    known = sorted(known)
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    advice = f"did you mean '{by_lower[near[0]]}'?" if near else f"known: {', '.join(known) or 'none'}"
    return InputError(f"{where}: unknown {what} '{name}'; {advice}")


class InputWarnings:
    """Unusual input that was accepted, by kind: where each case was found.

    An `InputError` stops a command; these are reported at its end, one line per kind.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, where: str) -> None:
        """Note one more case of this kind."""
        self._found.setdefault(kind, []).append(where)

    def merge(self, other: InputWarnings) -> None:
        """Add the cases that another collector found later."""
        for kind, places in other._found.items():
            self._found.setdefault(kind, []).extend(places)

    def lines(self) -> list[str]:
        """One line per kind: how often it occurs, and where first."""
        return [
            _line(
                f"{kind} ({places[0]})"
                if len(places) == 1
                else f"{kind} ({len(places)} times, first: {places[0]})"
            )
            for kind, places in self._found.items()
        ]

    def faults(self) -> list[str]:
        """One line per case, for callers that reject them."""
        return [f"{kind} ({where})" for kind, places in self._found.items() for where in places]
