"""Texts of users, such as category names, in a form that is harmless to show.

Characters that are special in one format only (`$`, `|`, `<`, quotes) are kept here; the writer of the format
escapes them.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

MAX_LENGTH = 60
# Control characters, marks that change the direction of writing, surrogates, private and unassigned
# characters, separators of lines and paragraphs.
UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # of letters in Persian and Indic scripts, and of the parts of an emoji
UNNAMED = "(no name)"


def printable(text: str, keep: str = "") -> str:
    """A text whose unprintable characters are shown as their escape sequences, such as `\\n` or `\\u202e`.

    Args:
        text: any text.
        keep: unprintable characters that are kept, such as line breaks.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or not _is_unprintable(character) else _escaped(character)
        for character in text
    )


def one_line(text: str, most: int = MAX_LENGTH) -> str:
    """A text as one printable line.

    Line breaks and other white space become one space. Other unprintable characters are shown as their escape
    sequences. The middle of a long text is replaced by an ellipsis.

    Args:
        text: any text.
        most: length of the line, in characters.
    """
    escaped = printable(" ".join(unicodedata.normalize("NFC", text).split()))
    return shorten(unicodedata.normalize("NFC", escaped), most)


def shorten(text: str, most: int) -> str:
    """A text of at most `most` characters: the middle of a longer one is replaced by an ellipsis."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def category_labels(
    names: Sequence[tuple[int | str, str]],
    can_draw: Callable[[str], bool] = lambda text: True,
    most: int = MAX_LENGTH,
) -> list[str]:
    """A line for each category. It ends with the category's id if its name alone does not identify it.

    Args:
        names: id and name of each category.
        can_draw: whether the font has all characters of a text.
        most: length of a line without the id, in characters.
    """
    lines = [one_line(name, most) or UNNAMED for _, name in names]
    found = Counter(lines)
    return [
        line if found[line] == 1 and line != UNNAMED and can_draw(line) else f"{line} (id {number})"
        for line, (number, _) in zip(lines, names, strict=True)
    ]


def _is_unprintable(character: str) -> bool:
    return unicodedata.category(character) in UNPRINTABLE and character not in JOINERS


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
