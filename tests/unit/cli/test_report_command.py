"""`kmax report` through the command line, and the comparison with a published set."""

import shutil
from pathlib import Path

import pytest
import yaml
from commandline import ROOT, run_kmax

from kmax import reporting, stages


@pytest.fixture
def with_tables(copy: Path) -> Path:
    """The finished project with one table that has a row for its run."""
    content = yaml.safe_load((ROOT / "params/tables.yaml").read_text())
    (shapes,) = [table for table in content["tables"] if table["table"] == "shapes"]
    row = next(row for row in shapes["rows"] if row.get("trained") == "shapes-smoke")
    shapes["rows"] = [row | {"trained": "shapes-mini"}]
    (copy / "params/tables.yaml").write_text(yaml.safe_dump(content | {"tables": [shapes]}))
    shutil.copy(ROOT / "params/reference.csv", copy / "params/reference.csv")
    return copy


def test_report_and_its_comparison_with_a_published_set(with_tables: Path) -> None:
    answer = run_kmax(with_tables, "report")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "reports/site/index.html\n"
    assert {path.suffix for path in (with_tables / "reports/tables").iterdir()} == {
        ".md",
        ".csv",
        ".tex",
        ".html",
    }

    shutil.copytree(with_tables / "reports", with_tables / "published")
    assert run_kmax(with_tables, "report", "mini", "--check", "published").returncode == 0

    table = with_tables / "published/tables/shapes.csv"
    table.write_text(table.read_text().replace(",measured,shapes-mini", ",reproduced,shapes-mini"))
    answer = run_kmax(with_tables, "report", "shapes-mini", "--check", "published")
    assert answer.returncode == 2
    assert "ours measured, published reproduced" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_other_runs_than_the_default_family_have_a_report_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    reported: list[Path] = []
    monkeypatch.setattr(reporting, "report", lambda runs, out, measured: reported.append(out))
    for names in ([], ["shapes"], ["shapes-tiny"], ["smoke"], ["shapes", "smoke", "smoke"]):
        stages.report(names)
    stages.report(["smoke"], out=Path("elsewhere"))
    assert reported == [
        *[Path("reports")] * 3,
        Path("reports/families/smoke"),
        Path("reports/families/shapes+smoke"),
        Path("elsewhere"),
    ]


def test_unknown_names_are_refused_before_anything_is_written(with_tables: Path) -> None:
    answer = run_kmax(with_tables, "report", "shapes-mimi")
    assert answer.returncode == 2
    assert "did you mean 'shapes-mini'?" in answer.stderr
    assert not (with_tables / "reports/site").exists()
