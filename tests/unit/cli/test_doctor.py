"""`kmax doctor` reports what is missing and how to install it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from kmax import machine
from kmax.cli import doctor
from kmax.cli.main import call


@pytest.fixture
def without_slow_checks(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setattr(doctor, "_import_fault", lambda name: None)
    monkeypatch.chdir(project)


def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine().findings}


def test_a_complete_machine_is_reported_as_complete(project: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(project)
    assert call(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "all requirements are met" in lines[-1]
    for name in ("python", "torch", "snakemake", "dvc", "mlflow", "git", "disk", "data root", "slurm"):
        assert any(line[10:].startswith(name) for line in lines), name


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ("2.10.0", "missing"),
        ("2.11.0+cpu", "ok"),
        ("2.13.0", "missing"),
        ("2.14.1+cu130", "ok"),
        (None, "missing"),
    ],
)
def test_torch_is_judged_by_its_version(without_slow_checks, monkeypatch, version, state) -> None:
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: version if name == "torch" else known(name))
    finding = findings()["torch"]
    assert finding.state == state
    assert ("pip install" in finding.advice) == (state == "missing")


def test_packages_and_versions_come_from_the_distribution(without_slow_checks, monkeypatch) -> None:
    requires = [
        "timm>=99",
        "numpy>=2",
        'absent-package>=1; sys_platform == "nowhere"',
        'mlflow>=99; extra == "engines"',
        'pytest>=99; extra == "dev"',
    ]
    distribution = SimpleNamespace(requires=requires, metadata={"Requires-Python": ">=3.11,<3.13"})
    monkeypatch.setattr(machine, "kmax_distribution", lambda: distribution)
    found = findings()
    assert (found["timm"].state, found["timm"].advice) == ("missing", 'pip install "timm>=99"')
    assert found["numpy"].state == "ok"
    assert found["mlflow"].state == "absent"
    assert 'pip install ".[engines]"' in found["mlflow"].advice
    assert not {"absent-package", "pytest", "scipy"} & found.keys()


def test_a_checkout_that_is_not_installed_gives_one_line(without_slow_checks, monkeypatch) -> None:
    monkeypatch.setattr(machine, "kmax_distribution", lambda: None)
    found = findings()
    assert found["kmax"].state == "missing"
    assert "requirements are unknown" in found["kmax"].found
    assert "torch" not in found


def test_missing_engines_are_optional_and_come_with_advice(without_slow_checks, monkeypatch, capsys) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = findings()
    assert found["snakemake"].state == found["dvc"].state == found["git"].state == "absent"
    assert "make setup" in found["snakemake"].advice
    assert call(["doctor"]) == 0
    assert call(["doctor", "--strict"]) == 2
    assert "snakemake, dvc, git" in capsys.readouterr().out


def test_a_data_root_that_is_not_there_is_missing(without_slow_checks, monkeypatch, tmp_path: Path) -> None:
    assert findings()["data root"].state == "ok"
    monkeypatch.setenv("KMAX_DATA_ROOT", str(tmp_path / "nowhere"))
    assert findings()["data root"].state == "missing"
    assert call(["doctor"]) == 2
    (tmp_path / "nowhere/coco").mkdir(parents=True)
    assert "coco" in findings()["data root"].found


def test_a_project_that_cannot_be_written_is_missing(without_slow_checks, monkeypatch, project: Path) -> None:
    monkeypatch.setattr(doctor, "_writable", lambda folder: folder.name != "runs")
    assert "cannot write runs" in findings()["project"].found
    assert not doctor.examine().complete()
