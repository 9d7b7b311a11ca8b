"""`kmax doctor` reports what is missing and how to install it."""

import shutil
from pathlib import Path

import pytest

from kmax.cli.main import call
from kmax.stages import doctor


@pytest.fixture
def without_slow_checks(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setattr(doctor, "_import_fault", lambda name: None)
    monkeypatch.chdir(project)


def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine().findings}


def test_a_sound_machine_is_said_to_be_sound(project: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(project)
    assert call(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "all that is needed is here" in lines[-1]
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
