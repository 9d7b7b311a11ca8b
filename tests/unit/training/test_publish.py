"""A finished training is published again only if it is missing: the engines compare file times."""

from pathlib import Path

import pytest
from safetensors import safe_open

from kmax import paths
from kmax.model.io import load_model, save_model

RUN = "little"


@pytest.fixture
def trained(project):
    """The small project after its training."""
    project.train()
    return project


def times() -> list[int]:
    return [path.stat().st_mtime_ns for path in (paths.model(RUN), paths.history(RUN))]


def commit_of(path: Path) -> str:
    with safe_open(path, framework="pt") as stream:
        return stream.metadata()["kmax"].split('"commit": "')[1].split('"')[0]


def test_existing_files_stay_untouched_whatever_the_commit(trained, monkeypatch):
    before, commit = times(), commit_of(paths.model(RUN))
    monkeypatch.setattr("kmax.runs.identity.commit", lambda: "f" * 40)
    trained.train()
    assert times() == before
    assert commit_of(paths.model(RUN)) == commit


@pytest.mark.parametrize("damage", ["other weights", "truncated", "absent"])
def test_an_existing_file_with_other_content_is_replaced(trained, damage: str):
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


def test_a_model_gets_the_current_thresholds(trained):
    trained.change("predict", overlap_threshold=0.5)
    trained.train()
    assert load_model(paths.model(RUN))[1].extra["predict"]["overlap_threshold"] == 0.5


def test_a_fresh_training_does_not_report_changed_parameters(trained, capfd):
    trained.change("train", seed=1)
    trained.train()
    assert "have changed" in capfd.readouterr().err
    trained.train(fresh=True)
    said = capfd.readouterr().err
    assert "have changed" not in said
    assert "state for the previous parameters, data or weights is kept in" in said
