"""Help is quick, usage errors are one line, every verb says what it wrote."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from commandline import environment, run_kmax, run_python, tree

from kmax.cli.main import app, call

HEAVY = {"torch", "numpy", "timm", "pydantic", "mlflow", "scipy"}


def commands() -> list[list[str]]:
    """All verbs, as words."""

    def below(command: typer.core.TyperCommand, words: list[str]) -> list[list[str]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return [words]
        return [found for name, sub in inner.items() for found in below(sub, [*words, name])]

    return below(typer.main.get_command(app), [])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from kmax.cli.main import call\n"
        f"code = call(['--help']); heavy = sorted({HEAVY!r} & sys.modules.keys())\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    answer = run_python(Path(), code)
    assert answer.returncode == 0, answer.stderr
    assert "predict-images" in answer.stdout


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_verb_has_help_that_says_what_it_does(words: list[str], capsys) -> None:
    assert call([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: kmax {' '.join(words)} ")
    assert len(text.split("\n\n")[1].strip()) > 15


def test_no_arguments_give_help(capsys) -> None:
    assert call([]) == 0
    assert "Exit codes: 0 done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'"),
        (["train"], "Missing argument 'RUN'. (see `kmax train --help`)"),
        (["train", "x", "--fast"], "No such option: --fast"),
        (["track", "ui", "--port", "many"], "Invalid value for '--port'"),
        (["data"], "Missing command. (see `kmax data --help`)"),
        (["port-file", "onnx", "f"], "'onnx' is not one of 'tf', 'torch', 'safetensors'"),
        (["train", "shapes-mini", "--time-budget", "soon"], "time budget 'soon': expected seconds"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    project: Path, monkeypatch, capsys, arguments, expected
) -> None:
    monkeypatch.chdir(project)
    assert call(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("kmax: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def test_a_bug_shows_its_traceback(project: Path) -> None:
    code = (
        "import kmax.runs.parameters as p\n"
        "p.run_as_yaml = lambda run: 1 / 0\n"
        "from kmax.cli.main import main\n"
        "main(['params', 'show', 'shapes-mini'])"
    )
    answer = run_python(project, code)
    assert answer.returncode == 1
    assert "ZeroDivisionError" in answer.stderr


def test_a_reader_that_exits_early_is_not_an_error(project: Path) -> None:
    command = f"{sys.executable} -m kmax.cli.main params schema run | head -1; exit ${{PIPESTATUS[0]}}"
    answer = subprocess.run(
        ["bash", "-c", command], cwd=project, capture_output=True, text=True, env=environment()
    )
    assert answer.returncode == 0
    assert answer.stderr == ""


def test_the_stages_leave_exactly_the_declared_files(finished: Path) -> None:
    made = tree(finished)
    assert {
        "data/raw/shapes_mini/manifest.json",
        "data/prepared/shapes_mini/manifest.json",
        "results/shapes-mini/model.safetensors",
        "results/shapes-mini/predictions/panoptic.json",
        "reports/metrics/shapes-mini/metrics.json",
        "reports/metrics/shapes-mini/per_class.csv",
        "reports/metrics/shapes-mini/per_image.npz",
        "reports/metrics/shapes-mini/history.csv",
        "reports/metrics/shapes-mini/speed.json",
    } <= made
    assert not [name for name in made if name.endswith((".tmp", ".old"))]
    assert {name.split("/")[0] for name in made} == {"params", "data", "results", "reports", "runs"}


def test_metrics_carry_the_identity_of_the_run(finished: Path) -> None:
    metrics = json.loads((finished / "reports/metrics/shapes-mini/metrics.json").read_text())
    provenance = metrics["provenance"]
    assert {"digest", "parameters_digest", "data_digest", "commit", "evaluator"} <= provenance.keys()
    assert (finished / "runs/shapes-mini" / provenance["digest"][:16] / "events.jsonl").exists()


def test_speed_is_measured(finished: Path) -> None:
    speed = json.loads((finished / "reports/metrics/shapes-mini/speed.json").read_text())
    assert speed["parameters"] > 1_000_000
    assert speed["flops"] == 2 * speed["multiply_adds"] > 0
    assert speed["seconds"]["forward"]["median"] > 0
    assert speed["machine"]["threads"] >= 1


def test_predict_images_needs_the_weights_alone(finished: Path, tmp_path: Path) -> None:
    image = next((finished / "data/prepared/shapes_mini/images_val").iterdir())
    weights = finished / "results/shapes-mini/model.safetensors"
    answer = run_kmax(tmp_path, "predict-images", str(image), "--weights", str(weights), "--out", "masks")
    assert answer.returncode == 0, answer.stderr
    assert {f"masks/{image.stem}.png", "masks/panoptic.json"} <= tree(tmp_path)


def test_metrics_of_files_equal_those_of_the_run(finished: Path, tmp_path: Path) -> None:
    truth, predictions = finished / "data/prepared/shapes_mini", finished / "results/shapes-mini/predictions"
    metrics = json.loads((finished / "reports/metrics/shapes-mini/metrics.json").read_text())
    for name, of_run in (("pq", "pq"), ("miou", "miou_panoptic")):
        answer = run_kmax(
            tmp_path,
            *("metrics", name, "--out", f"{name}.json"),
            *("--gt-json", str(truth / "panoptic_val.json"), "--gt-dir", str(truth / "panoptic_val")),
            *("--pred-json", str(predictions / "panoptic.json"), "--pred-dir", str(predictions / "panoptic")),
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.strip().endswith(f"{name}.json")
        figures = json.loads((tmp_path / f"{name}.json").read_text())
        # The run adds its split and protocol.
        wanted = {key: value for key, value in metrics[of_run].items() if key != "provenance"}
        assert {key: figures[key] for key in wanted} == wanted
        for key in ("ground_truth_digest", "predictions_digest"):
            assert figures["provenance"][key] == metrics[of_run]["provenance"][key]
