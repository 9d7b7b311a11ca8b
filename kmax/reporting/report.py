"""The report on a selection of runs (tables, figures, site), and its comparison with a published one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmax import files, paths
from kmax.csv_files import read_csv
from kmax.errors import InputError
from kmax.outputs import check_outputs
from kmax.reporting import writers
from kmax.reporting.config import read_tables
from kmax.reporting.figures import write_figures
from kmax.reporting.measured import Measured, read_measured
from kmax.reporting.site import write_site
from kmax.reporting.tables import FilledTable, fill_tables


def report(
    runs: Sequence[str], *, out: Path = paths.REPORTS, measured: Mapping[str, Measured] | None = None
) -> Path:
    """Write `<out>/{tables,figures,site}` of the selected runs; unmeasured runs are shown as not run.

    Args:
        runs: names of runs.
        out: folder of the report.
        measured: measured figures; None: read them from the files of the runs.

    Returns:
        The path of the site's first page.

    Raises:
        InputError: tables.yaml, reference.csv or a measured file is corrupt, or the file system does not
            distinguish the names of two tables or runs.
    """
    if measured is None:
        measured = read_measured(runs)
    tables, reference = read_tables()
    filled = fill_tables(tables, reference, measured)
    pages = [out / "site" / "runs" / f"{run}.html" for run in runs]
    check_outputs([*(out / "tables" / f"{table.table}.csv" for table in tables), *pages], [])
    with files.atomic_folder(out / "tables") as folder:
        write_tables(folder, filled)
    with files.atomic_folder(out / "figures") as folder:
        figures = write_figures(list(measured), folder)
    with files.atomic_folder(out / "site") as folder:
        write_site(folder, filled, measured, figures, out / "figures")
    return out / "site" / "index.html"


def write_tables(folder: Path, filled: Iterable[FilledTable]) -> None:
    """Write every table as .md, .csv, .tex and .html."""
    for table in filled:
        name = table.table.table
        files.write_text(folder / f"{name}.md", writers.markdown(table))
        files.write_text(folder / f"{name}.csv", writers.figures_csv(table))
        files.write_text(folder / f"{name}.tex", writers.latex(table))
        files.write_text(folder / f"{name}.html", str(writers.html(table)))


@dataclass(frozen=True)
class Difference:
    """A figure that differs between two sets of tables; None if a set lacks it."""

    table: str
    row: str
    column: str
    field: str
    ours: str | None
    theirs: str | None

    def __str__(self) -> str:
        ours, theirs = ("missing" if side is None else side or "empty" for side in (self.ours, self.theirs))
        return f"{self.table}: {self.row}: {self.column}: {self.field}: ours {ours}, published {theirs}"


def compare_reports(folder: Path, ours: Path = paths.TABLES) -> list[Difference]:
    """The figures of our tables that differ from those in `folder` (a set of tables, or a report with one).

    Figures that depend on the machine are not compared.

    Raises:
        InputError: either set has no tables.
    """
    theirs = folder / "tables" if (folder / "tables").is_dir() else folder
    left, right = _read_figures(ours), _read_figures(theirs)
    differences = []
    for key in [*left, *(key for key in right if key not in left)]:
        one, other = left.get(key), right.get(key)
        if one is None or other is None:
            texts = (None if side is None else side["measured"] or side["reported"] for side in (one, other))
            differences.append(Difference(*key, "figure", *texts))
            continue
        differences += [
            Difference(*key, field, one[field], other[field])
            for field in writers.FIGURE_COLUMNS
            if one[field] != other[field]
        ]
    return differences


def _read_figures(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """The rows of all tables in a folder by table, row and column, without machine-dependent ones."""
    tables = sorted(folder.glob("*.csv"))
    if not tables:
        raise InputError(f"{folder}: no tables (*.csv); run: kmax report")
    figures = {}
    for path in tables:
        for row in read_csv(path, "table", writers.CSV_COLUMNS):
            if not row["machine"]:
                figures[row["table"], row["row"], row["column"]] = row
    return figures
