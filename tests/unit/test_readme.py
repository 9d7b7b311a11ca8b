"""Every command in README and docs parses, and its verbs, options, targets and runs exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from kmax.cli.main import app
from kmax.runs.families import families, run_names

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
PLACEHOLDERS = {"my-run", "shapes-mine", "my-nuclei", "my-nuclei-tiny"}


def commands(tool: str) -> list[tuple[str, str]]:
    """(page, command) of each line in a bash block that calls a tool, without `NAME=value` before it."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            for words in block:
                while words and ASSIGNMENT.fullmatch(words[0]):
                    words = words[1:]
                if words and words[0] == tool:
                    found.append((page.name, shlex.join(words[1:])))
    return found


def blocks(page: Path) -> list[list[list[str]]]:
    """The bash blocks of a page, as lines of words."""
    found = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    return [[shlex.split(line) for line in block.replace("\\\n", " ").splitlines()] for block in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_variable_is_not_set_for_one_of_several_commands_alone(page: Path) -> None:
    for block in blocks(page):
        calls = [words for words in block if words and words[0] != "export"]
        assert len(calls) < 2 or not any(ASSIGNMENT.fullmatch(words[0]) for words in calls), block


def test_dvc_has_a_remote_before_it_pushes() -> None:
    words = [line.split()[:2] for _, line in commands("dvc")]
    assert words.index(["remote", "add"]) < words.index(["push"])


def cases(tool: str) -> pytest.MarkDecorator:
    found = commands(tool)
    return pytest.mark.parametrize(
        "line", [line for _, line in found], ids=[f"{page}: {line}" for page, line in found]
    )


@cases("kmax")
def test_kmax_commands_parse_and_name_what_exists(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command, words = typer.main.get_command(app), shlex.split(line)
    path = ["kmax"]
    while hasattr(command, "commands"):
        assert words, f"{' '.join(path)}: a verb is missing"
        assert words[0] in command.commands, f"{' '.join(path)} has no verb '{words[0]}'"
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    values = command.make_context(" ".join(path), words).params  # parses only
    for kind, known in {"run": set(run_names()), "other": set(run_names()), "dataset": datasets()}.items():
        if values.get(kind) is not None:
            assert values[kind] in known | PLACEHOLDERS


def datasets() -> set[str]:
    return {path.stem for path in (ROOT / "params/datasets").glob("*.yaml")}


@cases("make")
def test_make_targets_exist(line: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in shlex.split(line) if not ASSIGNMENT.fullmatch(word)} <= targets


@cases("snakemake")
def test_snakemake_commands_parse(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snakemake_cli = pytest.importorskip("snakemake.cli")
    monkeypatch.chdir(ROOT)
    _, arguments = snakemake_cli.parse_args(shlex.split(line))
    assert set(arguments.targets) <= {"all", *families()}


@cases("dvc")
def test_dvc_commands_parse(line: str) -> None:
    pytest.importorskip("dvc")
    from dvc.cli.parser import get_main_parser

    get_main_parser().parse_args(shlex.split(line))


def test_the_library_example_runs_and_gives_the_shapes_that_it_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    expected = re.findall(r"print\(.*#\s*(\[[\d, ]+\])", code)
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    printed = [line.removeprefix("torch.Size(").removesuffix(")") for line in answer.stdout.splitlines()]
    assert printed == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
