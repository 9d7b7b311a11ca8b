import json
import subprocess

import pytest

from kmax import paths
from kmax.config import Port, Run
from kmax.errors import InputError
from kmax.runs.identity import identify
from kmax.runs.source_commit import commit
from kmax.runs.weight_digests import Recorded, RecordedFile


def changed(run: Run, section: str, **values: object) -> Run:
    return run.model_copy(update={section: getattr(run, section).model_copy(update=values)})


def test_everything_that_determines_the_weights_changes_the_digest(run, project):
    first = identify(run)
    assert identify(run) == first
    assert first.state == paths.state("shapes-smoke", first.digest)
    assert identify(changed(run, "train", seed=1)).digest != first.digest
    assert identify(changed(run, "model", num_clusters=8)).digest != first.digest
    paths.prepared_manifest("shapes_smoke").write_text(json.dumps({"digest": "6" * 64}))
    assert identify(run).digest != first.digest


@pytest.fixture
def ported(run: Run, project) -> Run:
    """The run, but ported from weights whose publisher states no digest."""
    entry = "description: d, url: 'https://localhost/w', format: torch"
    paths.WEIGHTS_FILE.write_text(f"weights: {{some: {{{entry}}}}}")
    port = Port(weights="some", source="torch")
    return run.model_copy(update={"train": None, "port": port})


def test_ported_weights_without_a_stated_digest_are_known_once_they_are_fetched(ported):
    with pytest.raises(InputError, match="kmax weights fetch some"):
        identify(ported)
    digests = []
    for digit in "12":
        RecordedFile().add("some", Recorded(source="https://localhost/w", sha256=digit * 64))
        assert identify(ported).weights_digest == digit * 64
        digests.append(identify(ported).digest)
    assert digests[0] != digests[1]


def test_a_ported_model_depends_on_its_image_size_and_not_on_prepared_data(ported):
    RecordedFile().add("some", Recorded(source="https://localhost/w", sha256="1" * 64))
    first = identify(ported).digest
    paths.prepared_manifest("shapes_smoke").unlink()
    assert identify(ported).digest == first
    assert identify(changed(ported, "data", image_size=[65, 65])).digest != first


def test_post_processing_changes_the_parameters_digest_alone(run):
    other = identify(changed(run, "predict", overlap_threshold=0.7))
    assert other.digest == identify(run).digest
    assert other.parameters_digest != identify(run).parameters_digest


def test_an_unprepared_dataset_is_reported_with_the_command_that_prepares_it(run, project):
    paths.prepared_manifest("shapes_smoke").unlink()
    with pytest.raises(InputError, match="kmax data prepare shapes_smoke"):
        identify(run)


def test_the_commit_is_marked_if_tracked_files_differ(project):
    assert commit() == "unknown"
    git = ["git", "-c", "user.name=n", "-c", "user.email=e"]
    (project / "file").write_text("a")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert commit() == head
    (project / "file").write_text("b")
    assert commit() == f"{head}-dirty"
