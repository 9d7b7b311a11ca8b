"""`kmax doctor`: check this machine for missing requirements, and say how to install them.

The required packages and their versions come from the metadata of the installed distribution, that is from
pyproject.toml. Packages of the extras `engines` and `report` are optional.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kmax import machine, paths
from kmax.runs.source_commit import source_commit
from kmax.urls import without_secrets

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "missing", "absent"]
MIN_FREE_BYTES = 10 * 2**30
MARKS: dict[State, str] = {"ok": "ok      ", "missing": "MISSING ", "absent": "optional"}
EXTRAS = ("engines", "report")
INSTALL = "install it with `make setup` or `pip install .`"
INSTALL_ENGINES = 'pip install ".[engines]" (or `make setup`), and add it to PATH'
COMMANDS = {
    "snakemake": INSTALL_ENGINES,
    "dvc": INSTALL_ENGINES,
}
INSTALL_GIT = "install git with the system's package manager"


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(doctor)


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Treat optional parts as required.")] = False,
) -> None:
    """Check this machine for missing requirements, and say how to install them.

    The exit code is 2 if something required is missing.
    """
    examination = examine()
    for line in examination.lines():
        typer.echo(line)
    raise typer.Exit(0 if examination.complete(strict) else 2)


@dataclass(frozen=True)
class Finding:
    """The result of one check. "missing" is required, "absent" is optional."""

    name: str
    state: State
    found: str
    advice: str = ""

    def line(self) -> str:
        """The finding in one line."""
        advice = f": {self.advice}" if self.advice else ""
        return without_secrets(f"{MARKS[self.state]}  {self.name:<18} {self.found}{advice}")


@dataclass(frozen=True)
class Examination:
    """All findings."""

    findings: list[Finding]

    def lines(self) -> list[str]:
        """One line per finding, and a summary."""
        missing = [finding.name for finding in self.findings if finding.state == "missing"]
        absent = [finding.name for finding in self.findings if finding.state == "absent"]
        summary = f"missing: {', '.join(missing)}" if missing else "all requirements are met"
        if absent:
            summary += f"; optional parts not found: {', '.join(absent)}"
        return [*(finding.line() for finding in self.findings), summary]

    def complete(self, strict: bool = False) -> bool:
        """Whether nothing required (with `strict`: nothing at all) is missing."""
        bad = {"missing", "absent"} if strict else {"missing"}
        return all(finding.state not in bad for finding in self.findings)


def examine() -> Examination:
    """Run all checks; they have no side effects and raise no errors."""
    checks: list[Callable[[], Iterable[Finding]]] = [
        _packages,
        _commands,
        _git,
        _hardware,
        _disk,
        _permissions,
        _data_root,
        _slurm,
    ]
    return Examination([finding for check in checks for finding in check()])


def _packages() -> Iterable[Finding]:
    """Python and the packages that the distribution requires, against their versions in its metadata."""
    distribution = machine.kmax_distribution()
    if distribution is None:
        yield Finding("kmax", "missing", "not installed, so its requirements are unknown", INSTALL)
        return
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        yield Finding("packaging", "missing", "not installed", "pip install packaging")
        return
    python, wanted = platform.python_version(), distribution.metadata["Requires-Python"] or ""
    fits = SpecifierSet(wanted).contains(python, prereleases=True)
    yield Finding("python", "ok" if fits else "missing", python, "" if fits else f"use Python {wanted}")
    for requirement in map(Requirement, distribution.requires or ()):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            yield _package(requirement)
        elif requirement.name not in COMMANDS:  # which are looked up on PATH
            extra = next((extra for extra in EXTRAS if marker.evaluate({"extra": extra})), None)
            if extra is not None:
                yield _package(requirement, extra)
    # A torchvision that was built for another release of torch is installed and cannot be imported.
    if _version("torchvision") and _version("torch") and (fault := _import_fault("torchvision")):
        yield Finding(
            "torchvision", "missing", fault, "install the torchvision of the installed torch release"
        )


def _package(requirement: Requirement, extra: str | None = None) -> Finding:
    """Compare the installed version of a package with the required one; packages of extras are optional."""
    name, specifier, found = requirement.name, requirement.specifier, _version(requirement.name)
    if found is not None and specifier.contains(found, prereleases=True):
        return Finding(name, "ok", found)
    if extra is None:
        advice = f'pip install "{name}{specifier}"'
    else:
        advice = f'pip install ".[{extra}]" (or `make setup`)'
    text = "not installed" if found is None else f"{found}, but {specifier} is required"
    return Finding(name, "missing" if extra is None else "absent", text, advice)


def _commands() -> Iterable[Finding]:
    for name, advice in COMMANDS.items():
        path = shutil.which(name)
        yield Finding(name, "ok" if path else "absent", path or "not on PATH", "" if path else advice)


def _git() -> Iterable[Finding]:
    """Git, and in the project folder whether it states the commit, which results record."""
    path = shutil.which("git")
    if path is None:
        yield Finding("git", "absent", "not on PATH", INSTALL_GIT)
        return
    found = source_commit() if paths.PARAMS.is_dir() else None
    if found is None or not found.reason:
        yield Finding("git", "ok", f"{path}, commit {found.name[:12]}" if found else path)
    else:
        yield Finding("git", "absent", f"{path}, but {found.warning()}")


def _hardware() -> Iterable[Finding]:
    if _version("torch") is None:
        return
    import torch

    count = machine.gpu_count() if torch.cuda.is_available() else 0
    names = ", ".join(sorted({torch.cuda.get_device_name(index) for index in range(count)}))
    yield Finding(
        "gpu", "ok" if count else "absent", f"{count} ({names})" if count else "none found by torch"
    )
    yield Finding(
        "cpu", "ok", f"{machine.available_cpus()} cores, torch uses {torch.get_num_threads()} threads"
    )


def _disk() -> Iterable[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 2**30:.0f} GiB free in {Path.cwd()}"
    if free < MIN_FREE_BYTES:
        yield Finding("disk", "absent", text, "the default family needs about 10 GiB")
    else:
        yield Finding("disk", "ok", text)


def _permissions() -> Iterable[Finding]:
    if not paths.PARAMS.is_dir():
        yield Finding("project", "absent", f"no params/ in {Path.cwd()}", "run kmax in the project folder")
        return
    folders = [Path(name) for name in ("data", "results", "reports", "runs", "logs")]
    closed = [str(folder) for folder in folders if not _writable(folder)]
    if closed:
        yield Finding(
            "project", "missing", f"cannot write {', '.join(closed)}", "change its owner or permissions"
        )
    else:
        yield Finding("project", "ok", f"{Path.cwd()} is writable")


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.absolute().parent
    return os.access(folder, os.W_OK | os.X_OK)


def _data_root() -> Iterable[Finding]:
    root = paths.data_root()
    if root is None:
        yield Finding("data root", "ok", "KMAX_DATA_ROOT is not set; raw data is stored in data/raw")
    elif not root.is_dir():
        yield Finding(
            "data root",
            "missing",
            f"KMAX_DATA_ROOT={root} is not a folder",
            "set it to the folder of the data",
        )
    else:
        inside = sorted(path.name for path in root.iterdir() if path.is_dir())
        yield Finding("data root", "ok", f"{root} ({', '.join(inside[:8]) or 'empty'})")


def _slurm() -> Iterable[Finding]:
    if shutil.which("sbatch") is None:
        yield Finding("slurm", "absent", "no sbatch on PATH", "only for `snakemake --profile slurm`")
        return
    try:
        command = ["sinfo", "-h", "-o", "%P %D %T"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("slurm", "absent", f"sinfo does not answer ({error})", "check the SLURM controller")
        return
    if answer.returncode:
        yield Finding("slurm", "absent", "sinfo does not answer", "check the SLURM controller")
        return
    yield Finding("slurm", "ok", "; ".join(answer.stdout.split("\n")[:4]).strip("; ") or "no partition")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_fault(name: str) -> str | None:
    """Why a package cannot be imported, tried in another process; None if it can."""
    code = f"import {name}"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return answer.stderr.strip().split("\n")[-1][:120] if answer.returncode else None
