import json
from pathlib import Path

import pytest

from kmax import create_model, files, paths
from kmax.config import Category, Run
from kmax.errors import InputError
from kmax.model.io import save_model
from kmax.model.kmax import KMaX
from kmax.runs.families import load_run
from kmax.runs.identity import identify
from kmax.runs.provenance import (
    model_identity,
    model_provenance,
    require_model,
    require_predictions,
    stage_digest,
    stale_results,
)

NAME = "shapes-smoke"
MODEL, PREDICTIONS = paths.model(NAME), paths.predictions(NAME)
METRICS, SPEED = paths.metrics(NAME), paths.speed(NAME)


@pytest.fixture(scope="module")
def network() -> KMaX:
    return create_model("kmax_tiny", num_classes=1, image_size=(33, 33), num_clusters=2)


@pytest.fixture
def made(run: Run, network: KMaX) -> Run:
    """The run, with results that record the provenance the stages record."""
    write_model(run, network)
    model = model_provenance(run) | {"model_sha256": files.sha256(MODEL)}
    predicted = model | {
        "data_digest": identify(run).data_digest,
        "stage_digest": stage_digest(run, "predict"),
    }
    evaluated = predicted | {"stage_digest": stage_digest(run, "evaluate")}
    files.write_json(paths.predictions_provenance(NAME), predicted)
    files.write_json(METRICS, {"provenance": evaluated})
    files.write_json(SPEED, {"provenance": model})
    return run


def write_model(run: Run, network: KMaX, **more: str) -> None:
    identity = identify(run)
    provenance = {"digest": identity.digest, "data_digest": identity.data_digest, "commit": "c" * 40}
    save_model(
        network, MODEL, [Category(id=1, name="a", isthing=True, color=[0, 0, 0])], **provenance, **more
    )


def change(old: str, new: str) -> Run:
    """Edit the family's file."""
    path = paths.family_file("smoke")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return load_run(NAME)


OTHER_SEED = ("seed: 0\n    weights", "seed: 1\n    weights")
OTHER_THRESHOLD = ("overlap_threshold: 0.8", "overlap_threshold: 0.7")


def test_results_of_the_current_run_file_are_accepted(made):
    assert require_model(made, identify(made))["model_commit"] == "c" * 40
    assert require_predictions(made, identify(made))["model_sha256"] == files.sha256(MODEL)
    assert stale_results(made) == []


def test_a_model_of_other_parameters_is_refused_with_the_verb_that_makes_it_again(made):
    other = change(*OTHER_SEED)
    with pytest.raises(InputError, match=f"kmax train {NAME}"):
        require_model(other, identify(other))
    with pytest.raises(InputError, match=f"kmax train {NAME}"):
        model_identity(other)
    with pytest.raises(InputError, match=f"kmax predict {NAME}"):
        require_predictions(other, identify(other))


def test_a_model_of_other_data_is_refused_where_data_is_read(made):
    paths.prepared_manifest(made.data.dataset).write_text(json.dumps({"digest": "6" * 64}))
    with pytest.raises(InputError, match=f"kmax train {NAME}"):
        require_model(made, identify(made))


def test_a_model_is_identified_without_its_data(made):
    whole = identify(made)
    paths.prepared_manifest(made.data.dataset).unlink()
    assert model_identity(made) == whole
    assert stale_results(made) == []


def test_a_model_without_provenance_is_refused(made, network):
    save_model(network, MODEL, [Category(id=1, name="a", isthing=True, color=[0, 0, 0])])
    with pytest.raises(InputError, match=f"kmax train {NAME}"):
        require_model(made, identify(made))


def test_a_missing_model_is_reported_with_the_verb_that_makes_it(run):
    with pytest.raises(InputError, match=f"not found; run: kmax train {NAME}"):
        model_identity(run)


def test_predictions_with_other_thresholds_are_refused(made):
    other = change(*OTHER_THRESHOLD)
    require_model(other, identify(other))
    with pytest.raises(InputError, match=f"kmax predict {NAME}"):
        require_predictions(other, identify(other))


def test_predictions_of_unknown_origin_are_refused(made):
    paths.predictions_provenance(NAME).unlink()
    with pytest.raises(InputError, match=f"kmax predict {NAME}"):
        require_predictions(made, identify(made))
    (fault,) = stale_results(made)
    assert fault.startswith(f"{PREDICTIONS}: ")


@pytest.mark.parametrize(
    ("change_of", "stale"),
    [
        (("description: A few", "description: Few"), []),
        (("bootstrap_seed: 0", "bootstrap_seed: 1"), [METRICS]),
        (OTHER_THRESHOLD, [PREDICTIONS, METRICS]),
        (OTHER_SEED, [MODEL, PREDICTIONS, METRICS, SPEED]),
    ],
    ids=["description", "bootstrap", "threshold", "seed"],
)
@pytest.mark.parametrize("prepared", [True, False])
def test_a_changed_section_makes_dependent_results_stale(
    made, change_of: tuple[str, str], stale: list[Path], prepared: bool
):
    if not prepared:
        paths.prepared_manifest(made.data.dataset).unlink()
    assert [Path(fault.split(":")[0]) for fault in stale_results(change(*change_of))] == stale


def test_a_new_evaluator_makes_scores_stale(made, monkeypatch):
    monkeypatch.setattr("kmax.runs.identity.VERSION", "another")
    (fault,) = stale_results(made)
    assert fault.startswith(f"{METRICS}: ")


def test_a_retrained_model_makes_results_of_the_old_one_stale(made, network):
    write_model(made, network, note="other bytes")
    faults = stale_results(made)
    assert [Path(fault.split(":")[0]) for fault in faults] == [PREDICTIONS, METRICS, SPEED]
    assert all("another results" in fault for fault in faults)


def test_missing_results_are_skipped(run):
    assert stale_results(run) == []
