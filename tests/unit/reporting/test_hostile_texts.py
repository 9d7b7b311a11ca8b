"""Texts of users in pictures, figures and tables: every text is shown as it is, never as markup."""

import re
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hostile_texts import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from kmax import paths
from kmax.config import Category
from kmax.csv_files import csv_text
from kmax.display import category_labels
from kmax.evaluation.panoptic.explanation import CONFUSION_COLUMNS
from kmax.files import write_text
from kmax.reporting.figures import class_bars, confusions
from kmax.reporting.writers import md, tex
from kmax.tracking.events import metric_name
from kmax.visualization.overlays import overlay

VOLUMES = [12, pytest.param(500, marks=pytest.mark.long)]
CHEAP_VOLUMES = [100, pytest.param(20_000, marks=pytest.mark.long)]
NAMES = st.lists(texts(), min_size=2, max_size=2)


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("volume", VOLUMES)
def test_names_are_drawn_in_overlays(volume: int) -> None:
    ids = np.array([[1] * 32 + [2] * 32] * 48, np.int32)

    @examples(volume)
    @given(NAMES)
    def check(names: list[str]) -> None:
        categories = [
            Category(id=i, name=name, isthing=i == 1, color=[200 * i, 0, 0]) for i, name in enumerate(names)
        ]
        drawn = overlay(np.zeros((48, 64, 3), np.uint8), ids, {1: 0, 2: 1}, categories)
        assert drawn.dtype == np.uint8
        assert drawn.any()

    check()


def _nodes(drawing: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawing).iter())  # noqa: S314 - written by this project


@pytest.mark.parametrize("volume", VOLUMES)
def test_names_are_drawn_in_figures(volume: int, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    @examples(volume)
    @given(NAMES)
    def check(names: list[str]) -> None:
        scores = [(i, name, i, 0.5, 0.5) for i, name in enumerate(names)]
        columns = ("category_id", "name", "isthing", "pq", "semantic_iou")
        write_text(paths.per_class("r"), csv_text(columns, scores))
        pairs = [(0, names[0], 1, names[1], 3), (1, names[1], 1, names[1], 2), (0, names[0], "", "", 1)]
        write_text(paths.explanation("r") / "confusion.csv", csv_text(CONFUSION_COLUMNS, pairs))
        for drawing in (class_bars("r"), confusions("r")):
            assert drawing is not None
            tags = {str(node.tag).rpartition("}")[2] for node in _nodes(drawing)}
            assert "path" in tags
            assert "script" not in tags

    check()


@pytest.mark.parametrize("volume", CHEAP_VOLUMES)
def test_texts_are_one_cell_of_a_markdown_table_without_markup(volume: int) -> None:
    @examples(volume)
    @given(texts())
    def check(text: str) -> None:
        cell = md(text)
        plain = re.sub(r"\\.", "", cell)
        assert not set(plain) & set("|<*`[]$\n\r"), cell

    check()


@pytest.mark.parametrize("volume", CHEAP_VOLUMES)
def test_texts_have_no_special_characters_in_latex(volume: int) -> None:
    commands = re.compile(r"\\[a-zA-Z]+\{\}|\\[&%$#_{}]|\\\^\{\}|\\~\{\}|\{[^{}\\]\}")

    @examples(volume)
    @given(texts())
    def check(text: str) -> None:
        assert not set(commands.sub("", tex(text))) & set("\\&%$#_{}^~\n\r"), tex(text)

    check()


@pytest.mark.parametrize("volume", CHEAP_VOLUMES)
def test_names_of_metrics_are_accepted_by_mlflow(volume: int) -> None:
    @examples(volume)
    @given(NAMES)
    def check(names: list[str]) -> None:
        for label in category_labels(list(enumerate(names))):
            assert re.fullmatch(r"[\w.\-/: ]+", metric_name(f"class/{label}"), re.ASCII)

    check()
