"""The folders of a report: replaced as a whole, and only if they hold nothing but an earlier report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath

from kmax import paths
from kmax.errors import InputError
from kmax.outputs import begins_with, check_outputs, require_folder_of
from kmax.reporting.figures import KINDS
from kmax.reporting.writers import CSV_COLUMNS

TABLE_SUFFIXES = (".md", ".csv", ".tex", ".html")
SITE_TITLE = b"kMaX-DeepLab, reproduced"  # of templates/index.html
MAX_PAGE_BYTES = 64 * 2**20
# Files that the operating system and Snakemake add to folders.
ADDED = {".DS_Store", "Thumbs.db", "desktop.ini", ".snakemake_timestamp"}


def require_report_folder(runs: Sequence[str], out: Path, check: Path | None, overwrite: bool) -> None:
    """Check that `<out>/{tables,figures,site}` may be written and replaced.

    Args:
        runs: names of the reported runs.
        out: folder of the report.
        check: a published set of tables; it must not be replaced by the tables that it is compared with.
        overwrite: also replace folders with other files than those of a report.

    Raises:
        InputError: one line per folder.
    """
    published = [] if check is None else [check / "tables" if (check / "tables").is_dir() else check]
    kinds = {out / "tables": _is_table, out / "figures": _is_figure, out / "site": _is_page}
    check_outputs(kinds, [*published, *(paths.metrics(run).parent for run in runs)])
    faults = [fault for folder, is_ours in kinds.items() for fault in _faults(folder, is_ours, overwrite)]
    if faults:
        raise InputError(faults)


def _faults(folder: Path, is_ours: Callable[[Path, PurePath], bool], overwrite: bool) -> Iterator[str]:
    require_folder_of(folder)
    if folder.is_symlink() and not overwrite:
        yield f"{folder}: is a symbolic link, which the report would replace; pass --overwrite to allow it"
    elif os.path.lexists(folder) and not folder.is_dir():
        yield f"{folder}: is not a folder; the report needs this name: choose another folder with --out"
    elif not overwrite and (foreign := _first_foreign(folder, is_ours)) is not None:
        yield (
            f"{foreign}: is not a file of a report, and `kmax report` replaces the whole folder {folder}; "
            "choose another folder with --out, or pass --overwrite to remove it"
        )


def _first_foreign(folder: Path, is_ours: Callable[[Path, PurePath], bool]) -> Path | None:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *(one for one in folders if os.path.islink(os.path.join(place, one)))]):
            path = Path(place, name)
            if name not in ADDED and not is_ours(path, path.relative_to(folder)):
                return path
    return None


def _is_table(path: Path, name: PurePath) -> bool:
    if len(name.parts) > 1 or path.suffix not in TABLE_SUFFIXES:
        return False
    rows = path.with_suffix(".csv")
    return rows.is_file() and begins_with(rows, ",".join(CSV_COLUMNS[:3]))


def _is_figure(path: Path, name: PurePath) -> bool:
    return len(name.parts) == 1 and name.name.endswith(tuple(f"-{kind}.svg" for kind in KINDS))


def _is_page(path: Path, name: PurePath) -> bool:
    match name.parts:
        case ("index.html",):
            return path.stat().st_size <= MAX_PAGE_BYTES and SITE_TITLE in path.read_bytes()
        case ("style.css",):
            return (path.parent / "index.html").is_file()
        case ("runs", page):
            return page.endswith(".html")
        case ("runs", _, *_):
            return path.suffix in (".png", ".jpg", ".svg")
    return False
