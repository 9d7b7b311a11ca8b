"""Families: complete runs from bases and differences, lists derived from the runs, one-line errors."""

from pathlib import Path

import pytest
from run_entries import ROOT, sections, write_run

from kmax import paths
from kmax.errors import InputError
from kmax.parameter_files import read_yaml
from kmax.runs import families

SMOKE = paths.family_file("smoke")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the families `shapes` (the default), `smoke` and `coco`, which a test may change."""
    monkeypatch.chdir(tmp_path)
    paths.RUNS.mkdir(parents=True)
    for family in ("shapes", "smoke", "coco"):
        paths.family_file(family).write_text((ROOT / paths.family_file(family)).read_text())
    return tmp_path


def edit(old: str, new: str) -> None:
    text = SMOKE.read_text()
    assert text.count(old) == 1
    SMOKE.write_text(text.replace(old, new))


def refused(read, *arguments) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(*arguments)
    return caught.value.lines()


def test_a_run_is_the_base_with_its_differences():
    base = read_yaml(paths.family_file("coco"))["base"]
    run = families.load_run("coco-max_s")
    assert run.run == "coco-max_s"
    assert run.train.steps == base["train"]["steps"] == 150_000
    assert (run.train.weights, run.model.name) == ("imagenet-max_s-tf", "kmax_max_s")


def test_datasets_weights_and_kinds_of_runs_follow_from_the_runs():
    family = families.families()["coco"]
    assert family.datasets == ["coco"]
    assert family.weights[:2] == ["imagenet-resnet50-tf", "imagenet-max_s-tf"]
    assert family.trained == list(family.runs)
    assert family.ported == []


def test_the_default_family_is_the_first():
    assert next(iter(families.families())) == families.default_family() == "shapes"


def test_nothing_named_selects_the_default_family():
    assert families.select() == ["shapes-tiny"]


def test_families_and_runs_are_selected_together_each_run_once():
    assert families.select(["smoke", "shapes-tiny", "shapes-smoke"]) == ["shapes-smoke", "shapes-tiny"]


def test_an_unknown_name_gets_the_nearest():
    for name in ("shapes-smok", "SHAPES-Smoke"):
        [line] = refused(families.select, [name])
        assert "did you mean 'shapes-smoke'" in line


def test_a_run_is_found_beside_files_that_are_wrong():
    paths.family_file("coco").write_text("runs: [")
    assert families.load_run("shapes-smoke").run == "shapes-smoke"
    assert "params/runs/coco.yaml: not valid YAML" in refused(families.load_run, "coco-max_s")[0]
    assert "params/runs/coco.yaml: not valid YAML" in refused(families.families)[0]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "num_clusters: 16",
            "num_cluster: 16",
            "base.model: unknown key 'num_cluster'; allowed: back",
        ),
        (
            "  predict: &predict",
            "  predictt: &predict",
            "base.predictt: unknown key; allowed: data",
        ),
        ("    train: *train\n", "    trian: *train\n", "runs.shapes-smoke.trian: unknown key; allowed: data"),
        (
            "steps: 30",
            "steps: many",
            "runs.shapes-smoke.train.steps: expected a number",
        ),
        ("    description: A few", "    run: a\n    description: A", "runs: shapes-smoke: unknown key 'run'"),
        ("  shapes-smoke:", "  shapes.smoke:", "runs.shapes.smoke: a run's name must not contain '.'"),
        ("family: smoke", "family: fire", "family: 'fire' does not match the file's name"),
        (
            "family: smoke",
            "family: smoke\nruns_: {}",
            "runs_: unknown key; allowed: base, default",
        ),
        ("\nruns:\n", "\nrans:\n", "runs: not a mapping of names to runs"),
    ],
)
def test_faults_name_file_and_key(old: str, new: str, line: str):
    edit(old, new)
    assert any(fault.startswith(f"{SMOKE}: {line}") for fault in refused(families.families))


def test_a_fault_of_the_base_is_reported_once_not_for_every_run():
    path = paths.family_file("coco")
    path.write_text(path.read_text().replace("    steps: 150000", "    stebs: 150000"))
    [line] = refused(families.families)
    assert line.startswith(f"{path}: base.train: unknown key 'stebs'; allowed: adam_betas")


def test_a_run_of_two_families_is_refused_with_both_files():
    write_run(Path(), "shapes-smoke", sections("shapes-smoke"), family="again")
    line = "params/runs/smoke.yaml: runs.shapes-smoke: duplicate run name, also in params/runs/again.yaml"
    assert refused(families.load_run, "shapes-smoke") == [line]
    assert refused(families.families) == [line]
    assert families.load_run("shapes-tiny").run == "shapes-tiny"


def test_exactly_one_family_is_the_default():
    edit("family: smoke", "family: smoke\ndefault: true")
    [line] = refused(families.default_family)
    assert line.startswith("params/runs/shapes.yaml, params/runs/smoke.yaml: default: true in several")
    for path in paths.RUNS.iterdir():
        path.write_text(path.read_text().replace("default: true\n", ""))
    [line] = refused(families.families)
    assert line.startswith("params/runs: no family has 'default: true'")
    assert families.load_run("shapes-tiny").run == "shapes-tiny"


def test_the_layout_of_earlier_versions_is_refused_with_the_remedy():
    old = {"run": "mine"} | sections("shapes-smoke")
    path = write_run(Path(), "mine", old)
    path.write_text("run: mine\nmodel: {}\n")
    [line] = refused(families.load_run, "mine")
    assert line.startswith(f"{path}: run: earlier versions used one file per run; see docs/add-a-run.md")
    path.unlink()
    paths.OLD_RUNS_FILE.write_text("default: shapes\n")
    [line] = refused(families.load_run, "shapes-tiny")
    assert line.startswith("params/runs.yaml: earlier versions used")


def test_messages_say_where_a_run_is_written():
    assert families.location("coco-max_s") == "params/runs/coco.yaml: runs.coco-max_s"
    assert families.location("nobody") == "run 'nobody'"


def test_the_variants_of_cross_attention_differ_in_nothing_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    tiny = families.load_run("shapes-tiny")
    for run in families.families()["cross_attention"].runs.values():
        same = {"run": tiny.run, "description": tiny.description}
        model = run.model.model_copy(update={"cross_attention": "kmeans"})
        assert run.model_copy(update=same | {"model": model}) == tiny
