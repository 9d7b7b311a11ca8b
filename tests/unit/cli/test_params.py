"""Parameter files are shown, compared and checked; every fault names file and key."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from commandline import FAMILY, ROOT, change, change_run

from kmax.cli.main import call
from kmax.config import Run
from kmax.parameter_files import parse


@pytest.fixture(autouse=True)
def _in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def test_the_output_of_show_can_be_parsed(capsys) -> None:
    assert call(["params", "show", "shapes-mini"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert parse(Run, shown, Path("shown")).run == "shapes-mini"


def test_diff_names_each_parameter_that_differs(capsys) -> None:
    def with_another_seed(content) -> None:
        run = content["runs"]["shapes-mini"]
        content["runs"]["shapes-other"] = run | {"train": run["train"] | {"seed": 7}}

    change(Path(FAMILY), with_another_seed)
    assert call(["params", "diff", "shapes-mini", "shapes-other"]) == 0
    assert capsys.readouterr().out.splitlines() == ["run: shapes-mini -> shapes-other", "train.seed: 0 -> 7"]


def test_check_reads_every_file(capsys) -> None:
    assert call(["params", "check"]) == 0
    assert capsys.readouterr().out == "3 parameter files are valid\n"
    for path in ("params/tables.yaml", "params/reference.csv"):
        shutil.copy(ROOT / path, path)
    assert call(["params", "check"]) == 0
    assert capsys.readouterr().out == "5 parameter files are valid\n"


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda table: table.update(tolerence=1), "tables.0.tolerence: unknown key"),
        (
            lambda table: table["rows"][0].update(reference="nobody"),
            "params/reference.csv has no key 'nobody'",
        ),
    ],
)
def test_check_reads_the_tables_and_the_reported_figures(edit, expected: str, capsys) -> None:
    tables = yaml.safe_load((ROOT / "params/tables.yaml").read_text())
    edit(tables["tables"][0])
    Path("params/tables.yaml").write_text(yaml.safe_dump(tables))
    shutil.copy(ROOT / "params/reference.csv", "params/reference.csv")
    assert call(["params", "check"]) == 2
    assert expected in capsys.readouterr().err


def test_the_files_of_this_repository_are_right(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    assert call(["params", "check"]) == 0
    assert int(capsys.readouterr().out.split()[0]) > 20


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda run: run["train"].update(lr=1.0), "train.lr: unknown key; allowed: "),
        (lambda run: run["train"].pop("steps"), "train.steps: missing key"),
        (
            lambda run: run["train"].update(steps="many"),
            "train.steps: expected a number, not the string 'many'",
        ),
        (lambda run: run["train"].update(learning_rate="1e-3"), "write 1.0e-5, not 1e-5"),
        (lambda run: run["train"].update(steps=0), "train.steps: "),
        (lambda run: run["train"].update(warmup_steps=10**6), "train: warmup_steps: 1000000 is more than"),
        (lambda run: run["train"].update(adam_betas=[0.9, 1.0]), "train.adam_betas.1: "),
        (lambda run: run["data"].update(image_size=[65, 64]), "data.image_size: both sides must be odd"),
        (
            lambda run: run["data"]["augmentation"].update(scale=[1.2, 0.8]),
            "data.augmentation: scale: [1.2, 0.8] must be positive and ascending",
        ),
        (
            lambda run: run["data"].update(dataset="nowhere"),
            "data.dataset: no file params/datasets/nowhere.yaml",
        ),
        (
            lambda run: run["train"].update(weights="none"),
            "train.weights: 'none' is not in params/weights.yaml",
        ),
        (lambda run: run.pop("train"), "either a 'train' or a 'port' section"),
        (lambda run: run.update(run="other"), "unknown key 'run': the name of a run is its key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_keys_name_file_key_and_allowed_values(edit, expected: str, capsys) -> None:
    change_run(Path(), edit)
    assert call(["params", "check"]) == 2
    error = capsys.readouterr().err
    assert f"kmax: {FAMILY}: runs" in error
    assert expected in error
    assert "Traceback" not in error
    before = set(Path().rglob("*"))
    if "no file" not in expected and "is not in" not in expected:
        assert call(["train", "shapes-mini"]) == 2
        assert expected in capsys.readouterr().err
    assert set(Path().rglob("*")) == before


@pytest.mark.parametrize("text", ["run: [", "a: 1\na: 2\n", "\xff", "- 1", ""])
def test_files_that_are_not_such_yaml(text: str, capsys) -> None:
    Path(FAMILY).write_bytes(text.encode("latin-1"))
    assert call(["params", "show", "shapes-mini"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"kmax: {FAMILY}: ")


def test_at_most_20_faults_are_listed_and_the_rest_counted(capsys) -> None:
    change_run(Path(), lambda run: run["train"].update({f"wrong_{number}": 1 for number in range(30)}))
    assert call(["params", "check"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert "more" in lines[-1]


@pytest.mark.parametrize("kind", ["family", "run", "dataset", "weights"])
def test_schemas_are_json_and_can_be_written(kind: str, capsys) -> None:
    assert call(["params", "schema", kind]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert call(["params", "schema", kind, "--out", "schema.json"]) == 0
    assert capsys.readouterr().out == "schema.json\n"
    assert json.loads(Path("schema.json").read_text()) == shown


def test_the_schema_of_a_family_has_runs_without_their_name(capsys) -> None:
    assert call(["params", "schema", "family"]) == 0
    run = json.loads(capsys.readouterr().out)["$defs"]["Run"]
    assert "run" not in {*run["properties"], *run["required"]}
    assert call(["params", "schema", "run"]) == 0
    assert "run" in json.loads(capsys.readouterr().out)["required"]


def test_unknown_runs_suggest_the_nearest(capsys) -> None:
    for words in (["params", "show"], ["train"], ["predict"], ["evaluate"], ["benchmark"], ["port"]):
        assert call([*words, "shapes-mimi"]) == 2
        assert (
            capsys.readouterr().err
            == "kmax: params/runs: unknown run 'shapes-mimi'; did you mean 'shapes-mini'?\n"
        )
    for verb in ("download", "prepare", "check"):
        assert call(["data", verb, "shape_mini"]) == 2
        assert "did you mean 'shapes_mini'?" in capsys.readouterr().err


def test_a_folder_that_is_not_a_project_gives_an_error(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert call(["train", "shapes-mini"]) == 2
    assert "unknown run 'shapes-mini'; known: none" in capsys.readouterr().err
