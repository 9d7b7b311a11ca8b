"""`kmax doctor`: what this machine has, what it lacks, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kmax import paths

State = Literal["ok", "missing", "absent"]
MIN_FREE_BYTES = 10 * 2**30
MARKS: dict[State, str] = {"ok": "ok      ", "missing": "MISSING ", "absent": "optional"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. "missing" is needed, "absent" is optional."""

    name: str
    state: State
    found: str
    advice: str = ""

    def line(self) -> str:
        """The finding in words."""
        return f"{MARKS[self.state]}  {self.name:<12} {self.found}" + (
            f": {self.advice}" if self.advice else ""
        )


@dataclass(frozen=True)
class Examination:
    """All findings."""

    findings: list[Finding]

    def lines(self) -> list[str]:
        """One line per finding, and a last line that sums up."""
        missing = [finding.name for finding in self.findings if finding.state == "missing"]
        absent = [finding.name for finding in self.findings if finding.state == "absent"]
        summary = f"missing: {', '.join(missing)}" if missing else "all that is needed is here"
        if absent:
            summary += f"; not here, and needed by some only: {', '.join(absent)}"
        return [*(finding.line() for finding in self.findings), summary]

    def complete(self, strict: bool = False) -> bool:
        """Whether nothing needed (strict: nothing at all) is missing."""
        bad = {"missing", "absent"} if strict else {"missing"}
        return all(finding.state not in bad for finding in self.findings)


def examine() -> Examination:
    """Look at the machine; nothing is changed, and no check can raise."""
    checks: list[Callable[[], Iterable[Finding]]] = [
        _python,
        _torch,
        _packages,
        _tools,
        _gpu,
        _disk,
        _permissions,
        _data_root,
        _slurm,
    ]
    return Examination([finding for check in checks for finding in check()])


def _python() -> Iterable[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    right = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield Finding("python", "ok" if right else "missing", version, "" if right else "use Python 3.11 or 3.12")


def _torch() -> Iterable[Finding]:
    found = _version("torch")
    advice = "pip install 'torch>=2.11,!=2.13.*' torchvision"
    if found is None:
        yield Finding("torch", "missing", "not installed", advice)
        return
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < (2, 11):
        yield Finding("torch", "missing", f"{found} is too old", advice)
    elif numbers == (2, 13):
        yield Finding("torch", "missing", f"{found} has no torchvision that fits it", advice)
    else:
        yield Finding("torch", "ok", found)


def _packages() -> Iterable[Finding]:
    for name in ("torchvision", "timm", "numpy", "scipy", "pillow", "pydantic", "safetensors"):
        found = _version(name)
        yield Finding(name, "ok" if found else "missing", found or "not installed", _pip(name, found))
    # A torchvision built for another torch is installed and yet cannot be imported.
    if _version("torchvision") and _version("torch"):
        fault = _import_fault("torchvision")
        if fault:
            yield Finding("torchvision", "missing", fault, "install the torchvision of this torch's release")
    for name in ("mlflow", "matplotlib", "jinja2", "markupsafe"):
        found = _version(name)
        extra = "engines" if name == "mlflow" else "report"
        advice = "" if found else f"pip install 'kmax[{extra}]' (or `make setup`)"
        yield Finding(name, "ok" if found else "absent", found or "not installed", advice)


def _pip(name: str, found: str | None) -> str:
    return "" if found else f"pip install {name}"


def _tools() -> Iterable[Finding]:
    advice = {
        "snakemake": "pip install 'kmax[engines]' (or `make setup`), and have it on PATH",
        "dvc": "pip install 'kmax[engines]' (or `make setup`), and have it on PATH",
        "git": "install git from the system's packages",
    }
    for name, how in advice.items():
        path = shutil.which(name)
        yield Finding(name, "ok" if path else "absent", path or "not on PATH", "" if path else how)


def _gpu() -> Iterable[Finding]:
    if _version("torch") is None:
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(sorted({torch.cuda.get_device_name(index) for index in range(count)}))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("gpu", "ok" if count else "absent", f"{count} ({names})" if count else "none seen by torch")
    yield Finding("cpu", "ok", f"{cores} cores, torch uses {torch.get_num_threads()} threads")


def _disk() -> Iterable[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 2**30:.0f} GiB free in {Path.cwd()}"
    if free < MIN_FREE_BYTES:
        yield Finding("disk", "absent", text, "the default selection needs about 10 GiB")
    else:
        yield Finding("disk", "ok", text)


def _permissions() -> Iterable[Finding]:
    if not paths.PARAMS.is_dir():
        yield Finding("project", "absent", f"no params/ in {Path.cwd()}", "call kmax in the project's folder")
        return
    folders = [Path(name) for name in ("data", "results", "reports", "runs", "logs")]
    closed = [str(folder) for folder in folders if not _writable(folder)]
    if closed:
        yield Finding(
            "project", "missing", f"cannot write {', '.join(closed)}", "change owner or permissions"
        )
    else:
        yield Finding("project", "ok", f"{Path.cwd()} can be written")


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.absolute().parent
    return os.access(folder, os.W_OK | os.X_OK)


def _data_root() -> Iterable[Finding]:
    root = paths.data_root()
    if root is None:
        yield Finding("data root", "ok", "KMAX_DATA_ROOT is not set: data lies in data/raw")
    elif not root.is_dir():
        yield Finding(
            "data root", "missing", f"KMAX_DATA_ROOT={root} is no folder", "set it to where data lies"
        )
    else:
        inside = sorted(path.name for path in root.iterdir() if path.is_dir())
        yield Finding("data root", "ok", f"{root} ({', '.join(inside[:8]) or 'empty'})")


def _slurm() -> Iterable[Finding]:
    if shutil.which("sbatch") is None:
        yield Finding("slurm", "absent", "no sbatch on PATH", "only for `snakemake --profile slurm`")
        return
    try:
        answer = subprocess.run(["sinfo", "-h", "-o", "%P %D %T"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("slurm", "absent", f"sinfo does not answer ({error})", "is the controller up?")
        return
    if answer.returncode:
        yield Finding("slurm", "absent", "sinfo does not answer", "is the controller up?")
        return
    yield Finding("slurm", "ok", "; ".join(answer.stdout.split("\n")[:4]).strip("; ") or "no partition")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        yield Finding("slurm plugin", "absent", "not installed", "pip install 'kmax[engines]'")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _import_fault(name: str) -> str | None:
    """What stops a package from being imported, tried in another process."""
    code = f"import {name}"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return answer.stderr.strip().split("\n")[-1][:120] if answer.returncode else None
