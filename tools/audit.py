"""`make audit`: the pinned packages against known advisories and newer releases.

Runs in the environment of requirements-audit.lock. Exit codes: 0 no known advisory; 1 advisories; 3 not
checked, because no advisory service can be reached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SERVICES = {"pypi": "pypi.org", "osv": "api.osv.dev"}
TIMEOUT_SECONDS = 15
EXIT_ADVISORIES, EXIT_UNREACHABLE = 1, 3
MAX_NAMED = 5


class UnreachableError(Exception):
    """No advisory service answers."""


def main() -> int:
    """Audit the lock files, and list newer releases of what the environment has installed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("locks", nargs="+", type=Path, help="files of pinned requirements")
    parser.add_argument("--python", type=Path, required=True, help="Python of the locked environment")
    arguments = parser.parse_args()
    found: list[str] = []
    try:
        for lock in arguments.locks:
            report = audit(lock)
            print(f"{lock}: {summary(report)}")
            found += [f"{lock}: {line}" for line in advisories(report)]
    except UnreachableError as error:
        print(f"audit: not checked, no advisory service can be reached: {error}", file=sys.stderr)
        return EXIT_UNREACHABLE
    print(*found, outdated(arguments.python), sep="\n")
    return EXIT_ADVISORIES if found else 0


def audit(lock: Path) -> dict[str, Any]:
    """The report of the first service that knows any of the packages.

    Raises:
        UnreachableError: none does.
    """
    reasons = []
    for service, host in SERVICES.items():
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            str(lock),
            "--no-deps",
            "--disable-pip",
        ]
        command += ["--vulnerability-service", service, "--format", "json", "--progress-spinner", "off"]
        command += ["--timeout", str(TIMEOUT_SECONDS)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            report = json.loads(answer.stdout)
        except ValueError:
            lines = answer.stderr.strip().splitlines() or [f"pip-audit ended with {answer.returncode}"]
            reasons.append(f"{host}: {lines[-1].partition(':')[0]}")
            continue
        if len(unchecked(report)) < len(report["dependencies"]):
            return dict(report)
        reasons.append(f"{host}: knows none of the {len(report['dependencies'])} packages of {lock}")
    raise UnreachableError("; ".join(reasons))


def unchecked(report: dict[str, Any]) -> list[str]:
    """Names of the packages that the service does not know."""
    return [one["name"] for one in report["dependencies"] if "skip_reason" in one]


def summary(report: dict[str, Any]) -> str:
    """How many packages were checked, and which were not."""
    names, count = unchecked(report), len(report["dependencies"])
    left = f"; not checked: {named(names)}" if names else ""
    return f"{count - len(names)} of {count} packages checked{left}"


def advisories(report: dict[str, Any]) -> list[str]:
    """One line per advisory, with the releases that fix it."""
    return [
        f"{one['name']} {one['version']}: {advisory['id']}, "
        + (
            f"fixed in {', '.join(advisory['fix_versions'])}"
            if advisory["fix_versions"]
            else "no fixed release"
        )
        for one in report["dependencies"]
        for advisory in one.get("vulns", ())
    ]


def outdated(python: Path) -> str:
    """The installed packages with newer releases, in one line."""
    if not python.exists():
        return f"newer releases: not checked, {python} does not exist (make setup)"
    command = [str(python), "-m", "pip", "list", "--outdated", "--format", "json", "--retries", "1"]
    command += ["--timeout", str(TIMEOUT_SECONDS), "--disable-pip-version-check"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode or "Retrying" in answer.stderr:
        reason = (answer.stderr.strip().splitlines() or ["no output"])[-1][:160]
        return f"newer releases: not checked, the package index cannot be reached: {reason}"
    newer = [
        f"{one['name']} {one['version']} -> {one['latest_version']}" for one in json.loads(answer.stdout)
    ]
    return f"newer releases: {named(newer, len(newer)) or 'none'}"


def named(names: Iterable[str], most: int = MAX_NAMED) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


if __name__ == "__main__":
    sys.exit(main())
