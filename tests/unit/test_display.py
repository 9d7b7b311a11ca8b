"""Texts of users as harmless lines, and in CSV files."""

import pytest
from hostile_texts import TEXTS, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from kmax.csv_files import csv_text, read_csv
from kmax.display import JOINERS, MAX_LENGTH, category_labels, one_line, shorten
from kmax.errors import InputError, InputWarnings

VOLUMES = [60, pytest.param(20_000, marks=pytest.mark.long)]


def is_harmless(line: str) -> bool:
    """Whether a line has neither control characters nor line breaks, and is valid UTF-8."""
    return "".join(c for c in line if c not in JOINERS).replace("\u3000", " ").isprintable() and bool(
        line.encode() or not line
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("traffic light", "traffic light"),
        ("a\r\nb\n", "a b"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud83d", r"\ud83d"),
        ("x\0y", r"x\x00y"),
        ("Ba\u0308ume", "Bäume"),  # as macOS writes it
        ("c$d|<&>", "c$d|<&>"),
    ],
)
def test_a_name_is_shown_as_one_printable_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_the_middle_of_a_long_name_is_left_out() -> None:
    line = one_line("start " + 10_000 * "x" + " end")
    assert (len(line), line[:6], line[-4:]) == (MAX_LENGTH, "start ", " end")
    assert shorten("abcdefgh", 8) == "abcdefgh"


@pytest.mark.parametrize("volume", VOLUMES)
def test_every_text_becomes_a_harmless_line(volume: int) -> None:
    @settings(max_examples=volume, derandomize=True, deadline=None, database=None)
    @given(texts())
    def check(text: str) -> None:
        line = one_line(text)
        assert is_harmless(line)
        assert len(line) <= MAX_LENGTH
        assert one_line(line) == line

    check()


def test_labels_identify_categories_of_one_name_without_name_or_without_glyphs() -> None:
    names = [(1, "cat"), (2, "dog"), (3, "cat\n"), (4, " "), (5, "猫")]
    labels = category_labels(names, str.isascii)
    assert labels == ["cat (id 1)", "dog", "cat (id 3)", "(no name) (id 4)", "猫 (id 5)"]


@pytest.mark.parametrize("volume", VOLUMES)
def test_csv_cells_are_read_back_exactly(volume: int, tmp_path) -> None:
    path = tmp_path / "table.csv"

    @settings(max_examples=volume, derandomize=True, deadline=None, database=None)
    @given(st.lists(st.tuples(texts(), texts()), min_size=1, max_size=4))
    def check(rows: list[tuple[str, str]]) -> None:
        content = csv_text(("name", "other"), rows).encode()
        path.write_bytes(content)
        read = [(row["name"], row["other"]) for row in read_csv(path, "table")]
        # UTF-8 has no lone surrogates.
        assert read == [tuple(t.encode("utf-8", "backslashreplace").decode() for t in row) for row in rows]

    check()


def test_csv_of_ordinary_names_and_numbers_is_plain() -> None:
    rows = [("traffic light", -0.5, 3), ("a, b", "-0.2", "")]
    assert csv_text(("name", "x", "y"), rows) == 'name,x,y\ntraffic light,-0.5,3\n"a, b",-0.2,\n'


@pytest.mark.parametrize("text", ["=cmd|'/c calc'!A0", "@x", "+1+cmd", "-2-cmd", "\t=1", "\r=1"])
def test_no_spreadsheet_takes_a_csv_cell_for_a_formula(text: str) -> None:
    (line,) = csv_text(("name",), [(text,)]).splitlines()[1:2]
    assert line.strip('"').startswith("'")


def test_messages_have_one_line_per_fault_whatever_the_names() -> None:
    for text in TEXTS:
        (line,) = InputError(f"name {text}: wrong").lines()
        assert is_harmless(line), text
        assert len(line) <= 2000
        found = InputWarnings()
        found.add(text, text)
        assert all(is_harmless(line) for line in found.lines())
