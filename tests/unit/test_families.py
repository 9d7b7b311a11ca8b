"""params/runs.yaml: the lists that both engines expand agree with themselves and with the run files."""

from pathlib import Path

import pytest
import yaml

from kmax import paths
from kmax.errors import InputError
from kmax.parameter_files import read_yaml
from kmax.runs import families
from kmax.runs.families import load_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A folder with this project's run files, whose params/runs.yaml a test may change."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params").mkdir()
    (tmp_path / paths.RUNS_FILE).write_text((ROOT / paths.RUNS_FILE).read_text())
    (tmp_path / "params/runs").symlink_to(ROOT / "params/runs")
    return tmp_path


def changed(**smoke):
    """Write params/runs.yaml with other lists for the family `smoke`."""
    value = read_yaml(paths.RUNS_FILE)
    value["families"]["smoke"] |= smoke
    paths.RUNS_FILE.write_text(yaml.safe_dump(value))


def test_the_projects_own_lists_agree_with_its_run_files():
    for name, family in families.families().items():
        assert families.select([name]) == list(family.runs)
        for run in family.runs:
            assert families.contradictions(load_run(run)) == []


def test_nothing_named_selects_the_default_family():
    assert families.select() == families.select([families.read().default]) == ["shapes-tiny"]


def test_families_and_runs_are_selected_together_each_run_once():
    assert families.select(["smoke", "shapes-tiny", "shapes-smoke"]) == ["shapes-smoke", "shapes-tiny"]


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match="did you mean 'shapes-smoke'"):
        families.select(["shapes-smok"])
    with pytest.raises(InputError, match="did you mean 'shapes-smoke'"):
        families.select(["SHAPES-Smoke"])


@pytest.mark.parametrize(
    ("smoke", "message"),
    [
        ({"runs": {}}, "'runs' must merge exactly"),
        ({"datasets": []}, "'shapes_smoke', which 'datasets' does not list"),
        ({"ported": {"shapes-smoke": {"dataset": "shapes_smoke", "weights": "w"}}}, "one of 'scratch'"),
        ({"scratch": {"shapes-smoke": {}}}, "dataset: missing key"),
        ({"tables": []}, "unknown key; allowed: "),
    ],
)
def test_lists_that_contradict_each_other_are_refused(smoke, message):
    changed(**smoke)
    with pytest.raises(InputError, match=message):
        families.read()


def test_a_default_that_is_no_family_is_refused():
    value = read_yaml(paths.RUNS_FILE)
    paths.RUNS_FILE.write_text(yaml.safe_dump(value | {"default": "shape"}))
    with pytest.raises(InputError, match="the default family 'shape' is not among"):
        families.read()


def test_a_run_listed_with_another_dataset_than_its_file_says_is_refused():
    listed = {"shapes-smoke": {"dataset": "shapes"}}
    changed(datasets=["shapes"], scratch=listed, runs=listed)
    with pytest.raises(InputError, match="this run stands under 'scratch' with"):
        families.check(load_run("shapes-smoke"))
