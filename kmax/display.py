"""Texts of users, such as category names, as one harmless line."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 60


def one_line(text: str, most: int = MAX_LENGTH) -> str:
    """A text as one printable line.

    Line breaks and other white space become a space. Control characters, marks that change the direction of
    writing, and surrogates are shown as their escape sequences. The middle of a long text is replaced by an
    ellipsis. Characters that are special in a format (`$`, `|`, `<`, quotes) are kept: they are escaped by
    its writer.

    Args:
        text: any text.
        most: length of the line, in characters.
    """
    line = " ".join("".join(_shown(character) for character in text).split())
    if len(line) <= most:
        return line
    tail = most // 3
    return f"{line[: most - tail - 1]}…{line[-tail:]}"


def printable(text: str) -> str:
    """A message of one line: control characters of the names in it are shown as their escape sequences."""
    return "".join(_escaped(character) for character in text)


def _shown(character: str) -> str:
    return " " if character.isspace() else _escaped(character)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
