"""Errors of users and machines give a one-line message, the right exit code, and no half-written files."""

import ctypes
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from commandline import (
    Command,
    change,
    change_run,
    environment,
    heed_interrupts,
    is_one_line,
    run_kmax,
    run_python,
    tree,
)
from PIL import Image

import kmax

CAPABILITY_VERSION_3 = 0x20080522


def heed_permissions() -> None:
    """Give up root's capabilities, with which it writes where permissions forbid it; others have none."""
    heed_interrupts()
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0


def allow_files_up_to(size: int) -> None:
    """The kernel refuses larger files, as it does on a full disk."""
    heed_interrupts()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def half_written(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.name.endswith((".tmp", ".old"))]


@pytest.fixture
def coco(copy: Path) -> Path:
    """The mini dataset in COCO layout as a user would provide it, named `mine`; its folder."""
    folder = copy / "mine"
    (copy / "data/prepared/shapes_mini").rename(folder)
    (folder / "manifest.json").unlink()
    files = {
        split: {
            "images": f"images_{split}",
            "panoptic_json": f"panoptic_{split}.json",
            "panoptic_dir": f"panoptic_{split}",
        }
        for split in ("train", "val")
    }
    dataset = {
        "dataset": "mine",
        "description": "my own",
        "licence": "none",
        "citation": None,
        "source": {
            "kind": "coco_panoptic",
            "root": str(folder),
            "folder": "mine",
            "files": [],
            "splits": files,
        },
        "categories": None,
    }
    (copy / "params/datasets/mine.yaml").write_text(yaml.safe_dump(dataset))
    return folder


def refused_dataset(project: Path, expected: str) -> None:
    """`check` reports the error, `download` or `prepare` fails, and nothing is prepared."""
    answer = run_kmax(project, "data", "check", "mine")
    assert answer.returncode == 2
    assert expected in answer.stderr
    assert "Traceback" not in answer.stderr
    answer = run_kmax(project, "data", "download", "mine")
    if answer.returncode == 0:
        answer = run_kmax(project, "data", "prepare", "mine")
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert not (project / "data/prepared/mine").exists()
    assert half_written(project) == []


def test_a_users_dataset_is_accepted_as_it_is(copy: Path, coco: Path) -> None:
    assert run_kmax(copy, "data", "check", "mine").returncode == 0
    for verb in ("download", "prepare"):
        answer = run_kmax(copy, "data", verb, "mine")
        assert answer.returncode == 0, answer.stderr


def test_a_truncated_image_is_named(copy: Path, coco: Path) -> None:
    image = sorted((coco / "images_train").iterdir())[1]
    image.write_bytes(image.read_bytes()[:-60])
    refused_dataset(copy, image.name)


def test_a_missing_image_is_named(copy: Path, coco: Path) -> None:
    image = sorted((coco / "images_val").iterdir())[0]
    image.unlink()
    refused_dataset(copy, image.name)


def test_a_png_id_without_json_entry_is_named(copy: Path, coco: Path) -> None:
    path = sorted((coco / "panoptic_val").iterdir())[0]
    pixels = np.array(Image.open(path))
    pixels[:5, :5] = (7, 7, 7)
    Image.fromarray(pixels).save(path)
    refused_dataset(copy, str(7 + 256 * 7 + 65536 * 7))


def test_an_empty_dataset_is_refused(copy: Path, coco: Path) -> None:
    path = coco / "panoptic_train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "images": [], "annotations": []}))
    refused_dataset(copy, "panoptic_train.json")


def test_a_dataset_folder_that_moved_is_named(copy: Path, coco: Path) -> None:
    coco.rename(coco.with_name("elsewhere"))
    refused_dataset(copy, str(coco))


def test_stages_name_the_stage_that_must_run_first(project: Path) -> None:
    for words, advice in {
        ("data", "prepare", "shapes_mini"): "kmax data download shapes_mini",
        ("train", "shapes-mini"): "kmax data prepare shapes_mini",
        ("predict", "shapes-mini"): "kmax data prepare shapes_mini",
    }.items():
        answer = run_kmax(project, *words)
        assert answer.returncode == 2
        assert is_one_line(answer)
        assert advice in answer.stderr
    assert not any((project / folder).exists() for folder in ("results", "reports"))


def test_predict_evaluate_and_benchmark_require_earlier_results(copy: Path) -> None:
    (copy / "results/shapes-mini/model.safetensors").unlink()
    (copy / "results/shapes-mini/predictions/panoptic.json").unlink()
    for verb in ("predict", "evaluate", "benchmark"):
        answer = run_kmax(copy, verb, "shapes-mini")
        assert answer.returncode == 2
        assert is_one_line(answer)


def test_corrupt_weights_are_named(copy: Path) -> None:
    model = copy / "results/shapes-mini/model.safetensors"
    model.write_bytes(model.read_bytes()[:100_000])
    for verb in ("predict", "benchmark"):
        answer = run_kmax(copy, verb, "shapes-mini")
        assert answer.returncode == 2
        assert is_one_line(answer)
        assert "results/shapes-mini/model.safetensors" in answer.stderr


def test_all_invalid_images_are_named(copy: Path) -> None:
    (copy / "note.jpg").write_text("hello")
    answer = run_kmax(
        copy,
        *("predict-images", "note.jpg", "absent.png"),
        *("--weights", "results/shapes-mini/model.safetensors", "--out", "masks"),
    )
    assert answer.returncode == 2
    assert "note.jpg" in answer.stderr
    assert "absent.png" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (copy / "masks").exists()


@pytest.mark.parametrize(
    ("closed", "words"),
    [
        (".", ["data", "download", "shapes_mini"]),
        ("runs/shapes-mini", ["train", "shapes-mini", "--fresh"]),
        ("results/shapes-mini", ["predict", "shapes-mini"]),
        ("reports/metrics/shapes-mini", ["evaluate", "shapes-mini"]),
        ("reports/metrics/shapes-mini", ["benchmark", "shapes-mini"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unwritable_folder_is_named(copy: Path, closed: str, words: list[str]) -> None:
    if words[0] == "data":
        (copy / "data").rename(copy / "away")
    if words[0] == "train":
        (copy / "runs/shapes-mini").rename(copy / "runs/away")
        (copy / "runs/shapes-mini").mkdir()
    if words[0] == "predict":
        change_run(copy, lambda run: run["predict"].update(pictures=0))
    before = tree(copy)
    folder = copy / closed
    folder.chmod(0o555)
    try:
        answer = run_kmax(copy, *words, before=heed_permissions)
    finally:
        folder.chmod(0o755)
    assert answer.returncode == 2, answer.stderr
    assert is_one_line(answer), answer.stderr
    assert "cannot be written" in answer.stderr or "no permission" in answer.stderr
    # The run may still write files other than its declared outputs (events, finished predictions).
    assert {name for name in tree(copy) if not name.startswith("runs/")} == {
        name for name in before if not name.startswith("runs/")
    }


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (1000, ["data", "prepare", "shapes_mini"]),
        (1_000_000, ["train", "shapes-mini", "--fresh"]),
        (100, ["predict", "shapes-mini"]),
        (1000, ["evaluate", "shapes-mini"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_full_disk_gives_one_line_and_keeps_files(copy: Path, limit: int, words: list[str]) -> None:
    for state in (copy / "runs").glob("*/*"):
        (state / "events.jsonl").unlink()
        for predictions in state.glob("predictions-*"):
            predictions.rename(copy / "away")
    before = {name: (copy / name).read_bytes() for name in tree(copy) if not name.startswith("runs/")}
    answer = run_kmax(copy, *words, before=partial(allow_files_up_to, limit))
    assert answer.returncode == 2, answer.stderr
    assert is_one_line(answer), answer.stderr
    assert {name: (copy / name).read_bytes() for name in before} == before
    assert {name for name in tree(copy) if not name.startswith("runs/")} == before.keys()
    assert half_written(copy) == []


@pytest.mark.parametrize(
    ("modules", "words", "expected"),
    [
        (("mlflow",), ["track", "sync"], "mlflow is not installed; install it"),
        (("mlflow",), ["track", "ui"], "mlflow is not installed; install it"),
        (("dvc", "dvc.repo", "dvc.exceptions"), ["restore"], "dvc: not installed; install it"),
        (
            ("jinja2",),
            ["report"],
            'jinja2: not installed; install the report extra: pip install ".[report]"',
        ),
        (("markupsafe", "matplotlib"), ["report"], "markupsafe, matplotlib: not installed; install"),
    ],
)
def test_a_missing_package_is_reported_with_its_installation(copy: Path, modules, words, expected) -> None:
    (copy / "dvc.lock").write_text("schema: '2.0'\nstages: {report: {}}\n")
    absent = f"import sys; sys.modules.update(dict.fromkeys({modules!r}))"
    answer = run_python(copy, f"{absent}\nfrom kmax.cli.main import main; main({words!r})")
    assert answer.returncode == 2, answer.stderr
    assert is_one_line(answer)
    assert expected in answer.stderr
    assert not (copy / "reports/tables").exists()


def test_record_without_snakemake_explains_how_to_install_it(copy: Path) -> None:
    """The interpreter is in a separate folder, with no snakemake beside it or on PATH."""
    (copy / "bin").mkdir()
    (copy / "bin/python").symlink_to(sys.executable)
    path = os.pathsep.join([str(Path(kmax.__file__).parents[1]), *filter(None, sys.path)])
    answer = subprocess.run(
        [str(copy / "bin/python"), "-m", "kmax.cli.main", "record"],
        cwd=copy,
        capture_output=True,
        text=True,
        env=environment(PATH=str(copy / "bin"), PYTHONPATH=path),
    )
    assert answer.returncode == 2, answer.stderr
    assert is_one_line(answer)
    assert "snakemake: not installed; install it with" in answer.stderr


def test_a_tracking_server_that_is_down_loses_nothing(copy: Path) -> None:
    pytest.importorskip("mlflow")
    nowhere = {
        "KMAX_TRACKING": "on",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    answer = run_kmax(copy, "evaluate", "shapes-mini", **nowhere)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "reports/metrics/shapes-mini/metrics.json"
    assert "kmax track sync" in answer.stderr
    assert "Traceback" not in answer.stderr
    answer = run_kmax(copy, "track", "sync", **nowhere)
    assert answer.returncode == 2
    assert is_one_line(answer)
    answer = run_kmax(copy, "track", "sync", MLFLOW_TRACKING_URI=f"sqlite:///{copy}/late.db")
    assert answer.returncode == 0, answer.stderr
    assert "events sent" in answer.stdout


def test_a_second_copy_of_the_same_training_is_refused(copy: Path) -> None:
    (state,) = (copy / "runs/shapes-mini").iterdir()
    with open(state / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = run_kmax(copy, "train", "shapes-mini")
    assert answer.returncode == 2
    assert is_one_line(answer)
    assert "already running" in answer.stderr


def test_ctrl_c_and_the_schedulers_signal_keep_the_training(copy: Path) -> None:
    change_run(copy, lambda run: run["train"].update(steps=100_000))
    saved = checkpoints(copy)
    endings = {signal.SIGINT: (130, "kmax: interrupted"), signal.SIGUSR1: (75, "run again to resume")}
    for number, (code, line) in endings.items():
        command = Command(copy, "train", "shapes-mini")
        command.wait_for(partial(has_more_checkpoints, copy, saved))
        command.send(number)
        answer = command.result()
        assert answer.returncode == code, answer.stderr
        assert answer.stdout == ""
        assert is_one_line(answer), answer.stderr
        assert line in answer.stderr.splitlines()[-1]
        assert ("resuming after step" in answer.stderr) == (number == signal.SIGUSR1)
        assert half_written(copy) == []
        saved = checkpoints(copy)


def checkpoints(copy: Path) -> set[str]:
    return {name for name in tree(copy) if "/checkpoint-" in name and name.endswith(".pt")}


def has_more_checkpoints(copy: Path, saved: set[str]) -> bool:
    return bool(checkpoints(copy) - saved)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_preparation_leaves_its_work_alone(project: Path, number: signal.Signals) -> None:
    """Outputs appear only when complete; partial work is kept in `runs/` for the next call."""
    dataset = project / "params/datasets/shapes_mini.yaml"
    change(dataset, lambda content: content["source"].update(images={"train": 50_000, "val": 2}))
    assert run_kmax(project, "data", "download", "shapes_mini").returncode == 0
    before = {name for name in tree(project) if not name.endswith(".lock")}
    command = Command(project, "data", "prepare", "shapes_mini")
    command.wait_for(lambda: len(tree(project)) > len(before) + 5)
    command.send(number)
    answer = command.result()
    assert answer.returncode == (130 if number == signal.SIGINT else 143), answer.stderr
    assert "Traceback" not in answer.stderr
    after = {name for name in tree(project) if not name.endswith(".lock")}
    assert {name for name in after if not name.startswith("runs/.prepare/shapes_mini/")} == before
    assert any(name.endswith("/train.jsonl") for name in after)
    assert not (project / "data/prepared/shapes_mini").exists()
