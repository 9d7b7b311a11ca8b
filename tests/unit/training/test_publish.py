"""A finished training is published again only where it is not there: the engines go by the times of files."""

from pathlib import Path

import pytest
from safetensors import safe_open

from kmax import paths
from kmax.model.io import load_model, save_model

RUN = "little"


@pytest.fixture
def trained(project):
    """The little project after its training."""
    project.train()
    return project


def times() -> list[int]:
    return [path.stat().st_mtime_ns for path in (paths.model(RUN), paths.history(RUN))]


def commit_of(path: Path) -> str:
    with safe_open(path, framework="pt") as stream:
        return stream.metadata()["kmax"].split('"commit": "')[1].split('"')[0]


def test_files_that_are_there_stay_untouched_whatever_commit_calls_again(trained, monkeypatch):
    before, commit = times(), commit_of(paths.model(RUN))
    monkeypatch.setattr("kmax.runs.identity.commit", lambda: "f" * 40)
    trained.train()
    assert times() == before
    assert commit_of(paths.model(RUN)) == commit


@pytest.mark.parametrize("damage", ["other weights", "truncated", "absent"])
def test_what_is_there_and_is_another_file_is_replaced(trained, damage: str):
    path = paths.model(RUN)
    content = path.read_bytes()
    if damage == "absent":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:1000])
    else:
        model, metadata = load_model(path)
        next(iter(model.parameters())).data.add_(1.0)
        save_model(model, path, metadata.categories, **metadata.extra)
    trained.train()
    assert path.read_bytes() == content


def test_a_model_takes_the_thresholds_of_now(trained):
    trained.change("predict", overlap_threshold=0.5)
    trained.train()
    assert load_model(paths.model(RUN))[1].extra["predict"]["overlap_threshold"] == 0.5


def test_training_anew_beside_the_state_of_other_parameters_does_not_say_that_they_have_changed(
    trained, capfd
):
    trained.change("train", seed=1)
    trained.train()
    assert "have changed" in capfd.readouterr().err
    trained.train(fresh=True)
    said = capfd.readouterr().err
    assert "have changed" not in said
    assert "state for the previous parameters, data or weights is kept in" in said
