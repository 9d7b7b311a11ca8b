import csv
import shutil
from pathlib import Path

import pytest

from kmax import paths
from kmax.errors import InputError
from kmax.reporting.config import read_reference, read_tables
from kmax.reporting.measured import read_measured, seeds_of
from kmax.reporting.tables import FilledRow, fill_tables
from kmax.reporting.writers import figures_csv, html, latex, markdown

ROOT = Path(__file__).resolve().parents[3]


def filled(*runs: str) -> dict[str, dict[str, FilledRow]]:
    tables, reference = read_tables()
    done = fill_tables(tables, reference, read_measured(runs))
    return {table.table.table: {row.label: row for row in table.rows} for table in done}


def test_every_reported_row_is_in_some_table_with_its_source(project):
    tables, reference = read_tables()
    named = {row.reference for table in tables for row in table.rows if row.reference}
    assert named == set(reference)
    assert len(reference) == 41
    assert all(row["source"] for row in reference.values())
    for table in fill_tables(tables, reference, {}):
        if any(row.reference for row in table.table.rows):
            assert "Reported: " in table.evaluator_line


def test_the_reference_equals_the_collected_figures(golden):
    facts = golden.parent / "facts" / "reported_results.csv"
    if not facts.exists():
        pytest.skip(f"{facts} is absent")
    with open(facts, newline="") as stream:
        collected = list(csv.DictReader(stream))
    with open(ROOT / "params/reference.csv", newline="") as stream:
        ours = [{k: v for k, v in row.items() if k != "key"} for row in csv.DictReader(stream)]
    assert ours == collected


def test_rows_without_a_run_show_the_reported_figure_and_not_run(project):
    row = filled()["coco_val"]["ResNet-50"]
    assert row.verdict == "not run"
    assert (row.cells[0].reported, row.cells[0].measured) == (53.0, None)


@pytest.mark.parametrize(
    ("pq", "difference", "verdict"),
    [
        (0.528, -0.2, "reproduced"),
        (0.54, 1.0, "reproduced"),
        (0.525, -0.5, "reproduced"),
        (0.511, -1.9, "short by 1.9"),
    ],
)
def test_a_trained_run_is_judged_by_the_first_figure_that_was_reported(measure, pq, difference, verdict):
    measure("coco-resnet50", pq)
    row = filled("coco-resnet50")["coco_val"]["ResNet-50"]
    assert row.verdict == verdict
    assert row.cells[0].difference == difference
    assert row.cells[0].interval == (round(100 * pq - 1.0, 1), round(100 * pq + 1.2, 1))
    assert row.runs == ["coco-resnet50"]


def test_only_the_selection_counts(measure):
    measure("coco-resnet50", 0.528)
    assert filled()["coco_val"]["ResNet-50"].verdict == "not run"


def test_seeds_are_given_as_mean_and_spread(measure):
    runs = ("coco-resnet50", "coco-resnet50-s1", "coco-resnet50-s2")
    for run, pq in zip(runs, (0.52, 0.53, 0.54), strict=True):
        measure(run, pq)
    cell = filled(*runs)["coco_val"]["ResNet-50"].cells[0]
    assert (cell.measured, cell.spread, cell.seeds, cell.interval) == (53.0, 1.0, 3, None)


def test_only_runs_that_differ_by_seed_join():
    known = ["a-s10", "a-s2", "a", "a-small", "a-s1-tfzoo", "b-s1", "a-s"]
    assert seeds_of("a", known) == ["a", "a-s2", "a-s10"]


def test_published_weights_are_shown_until_the_run_is_trained(measure):
    measure("coco-resnet50-tfzoo", 0.53)
    tables = filled("coco-resnet50-tfzoo")
    assert tables["coco_val"]["ResNet-50"].verdict == "weights only"
    assert tables["coco_val"]["ResNet-50"].cells[0].measured == 53.0
    assert tables["ported_weights"]["COCO: ResNet-50"].verdict == "reproduced"
    measure("coco-resnet50", 0.5)
    row = filled("coco-resnet50", "coco-resnet50-tfzoo")["coco_val"]["ResNet-50"]
    assert (row.verdict, row.runs) == ("short by 3.0", ["coco-resnet50"])


def test_figures_without_a_reported_value_get_no_verdict(measure):
    measure("shapes-tiny", 0.546)
    tables = filled("shapes-tiny")
    assert tables["shapes"]["kMaX tiny"].verdict == "measured"
    assert tables["shapes"]["kMaX tiny"].cells[6].interval == (60.0, 62.0)
    assert [cell.measured for cell in tables["size_and_speed"]["kMaX tiny (shapes)"].cells] == [
        6.5,
        12.3,
        100.0,
        200.0,
        None,
    ]


def test_every_form_of_a_table_names_the_evaluator_and_escapes_its_text(measure):
    measure("coco-resnet50", 0.528)
    tables, reference = read_tables()
    done = {t.table.table: t for t in fill_tables(tables, reference, read_measured(["coco-resnet50"]))}
    table = done["coco_val"]
    evaluator = "kmax panoptic quality (panopticapi rules) (version 1)"
    assert evaluator in markdown(table)
    assert evaluator in figures_csv(table)
    assert evaluator in latex(table)
    assert "| ResNet-50 | 53.0 → **52.8** (−0.2) [51.8–54.0] |" in markdown(table)
    assert r"\shortstack[r]{53.0 \\ \textbf{52.8} ($-$0.2) \\ \scriptsize [51.8--54.0]}" in latex(table)
    assert r"kmax\_deeplab.md" in latex(table)
    assert "w/ unlabeled" not in html(table)
    rows = list(csv.DictReader(figures_csv(table).splitlines()))
    assert len(rows) == len(table.rows) * len(table.table.columns)
    (first, *_) = rows
    assert (first["reported"], first["measured"], first["difference"]) == ("53.0", "52.8", "-0.2")
    odd = table.table.model_copy(update={"title": "<script>&_%"})
    assert "&lt;script&gt;&amp;_%" in html(type(table)(odd, table.rows, table.evaluators))
    assert r"\textless{}script\textgreater{}\&\_\%" in latex(type(table)(odd, table.rows, table.evaluators))


def test_every_row_of_latex_has_the_columns_of_its_table(project):
    tables, reference = read_tables()
    for table in fill_tables(tables, reference, {}):
        body = latex(table).split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert {line.replace(r"\&", "").count("&") for line in body} == {len(table.table.columns) + 1}


def test_faults_of_the_tables_name_file_and_row(project):
    text = paths.TABLES_FILE.read_text()
    paths.TABLES_FILE.write_text(
        text.replace("reference: coco-val-resnet50-tf,", "reference: coco-val-rasnet,")
    )
    with pytest.raises(
        InputError, match=r"tables\.yaml: table 'coco_val', row 'ResNet-50': .*coco-val-rasnet"
    ):
        read_tables()
    paths.TABLES_FILE.write_text(text.replace("tolerance: 0.1", "tolerence: 0.1"))
    with pytest.raises(InputError, match=r"unknown key; allowed: .*tolerance"):
        read_tables()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (",53.0,", ",5x.0,", "line 2: pq: not a number: '5x.0'"),
        (
            "coco-test_dev-resnet50-tf",
            "coco-val-resnet50-tf",
            "line 3: duplicate key 'coco-val-resnet50-tf'",
        ),
        ("key,", "kee,", "columns missing: key"),
    ],
)
def test_faults_of_the_reference_name_line_and_column(project, old, new, fault):
    text = paths.REFERENCE_FILE.read_text()
    paths.REFERENCE_FILE.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=fault):
        read_reference()


def test_a_missing_reference_gives_a_one_line_error(project):
    shutil.move(paths.REFERENCE_FILE, "elsewhere.csv")
    with pytest.raises(InputError, match=r"reference\.csv: reported figures cannot be read"):
        read_reference()
