"""`make audit` reports advisories, and never passes because nothing could be checked."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools/audit.py"
UNKNOWN = {"name": "a", "skip_reason": "not found"}
SOUND = {"name": "b", "version": "1", "vulns": []}
UNSAFE = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run the script with given outputs of pip-audit by service; returns its exit code."""
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setattr(sys, "argv", ["audit.py", "--python", str(python), "some.lock"])

    def run(pip_errors: str = "", **packages: list | str) -> int:
        def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            if "pip_audit" not in command:
                newer = [{"name": "d", "version": "1", "latest_version": "2"}]
                return subprocess.CompletedProcess(command, 0, json.dumps(newer), pip_errors)
            found = packages[command[command.index("--vulnerability-service") + 1]]
            if isinstance(found, str):
                return subprocess.CompletedProcess(command, 1, "", found)
            return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": found}), "")

        monkeypatch.setattr(module.subprocess, "run", answer)
        return module.main()

    return run


def test_advisories_and_newer_releases_are_listed(audit, capsys) -> None:
    assert audit(pypi=[UNKNOWN, SOUND, UNSAFE]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "some.lock: 2 of 3 packages checked; not checked: a",
        "some.lock: c 2: PYSEC-1, fixed in 3",
        "newer releases: d 1 -> 2",
    ]


def test_without_an_advisory_it_passes(audit, capsys) -> None:
    assert audit(pypi=[SOUND]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "some.lock: 1 of 1 packages checked"


@pytest.mark.parametrize("pypi", [[UNKNOWN], "a\nConnectionError: long explanation"])
def test_without_a_network_it_says_so_in_one_line(audit, capsys, pypi) -> None:
    assert audit(pypi=pypi, osv="ConnectionError: long explanation") == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("audit: not checked, no advisory service can be reached: pypi.org: ")
    assert output.err.endswith("api.osv.dev: ConnectionError\n")


def test_the_second_service_is_asked_if_the_first_does_not_answer(audit) -> None:
    assert audit(pypi="ConnectionError", osv=[UNSAFE]) == 1


def test_an_unreachable_index_is_not_an_up_to_date_environment(audit, capsys) -> None:
    assert audit(pypi=[SOUND], pip_errors="WARNING: Retrying (Retry(total=0)): refused") == 0
    assert "newer releases: not checked, the package index cannot be reached" in capsys.readouterr().out
