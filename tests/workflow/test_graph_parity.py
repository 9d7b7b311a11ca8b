"""Both engines have the same graph: verb per output, edges, given files, parameter sections, paths."""

from pathlib import Path

import pytest
from graphs import (
    AmbiguousGraphError,
    Facts,
    Stage,
    dvc_graph,
    facts,
    snakemake_graph,
    snakemake_graphs,
    used,
)
from projects import FINETUNED, PORTED, SMOKE, WEIGHTS, copy_project, edit

from kmax import paths
from kmax.config import WeightsFile
from kmax.evaluator_version import VERSION
from kmax.parameter_files import load
from kmax.runs.families import families, load_run

FAMILIES = families()
RUN = "shapes-smoke"


def pipeline(family: str) -> str:
    return str(paths.pipeline_file(family, FAMILIES[family].default))


def differences(snakemake: list[Stage], dvc: list[Stage]) -> list[str]:
    """Differences of two graphs, by command."""
    try:
        ours, theirs = facts(snakemake), facts(dvc)
    except AmbiguousGraphError as fault:
        return [str(fault)]
    found = [f"only one engine runs: {command}" for command in sorted(set(ours) ^ set(theirs))]
    for command in sorted(set(ours) & set(theirs)):
        for field in ("outputs", "follows", "sources", "parameters"):
            left, right = getattr(ours[command], field), getattr(theirs[command], field)
            if left != right:
                found.append(f"{command}: {field}: snakemake {left}, dvc {right}")
    return found


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Path:
    """A project that the tests leave as it is."""
    return copy_project(tmp_path_factory.mktemp("graphs") / "project")


@pytest.fixture(scope="module")
def graphs_of_snakemake(untouched) -> dict[str, list[Stage]]:
    """Snakemake's graph of every family."""
    return snakemake_graphs(untouched, list(FAMILIES))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_both_engines_have_the_same_graph_of_every_family(untouched, graphs_of_snakemake, family):
    assert differences(graphs_of_snakemake[family], dvc_graph(untouched, pipeline(family))) == []


def test_both_engines_have_the_same_graph_with_weights_and_ported_runs(project_with_weights):
    of_dvc = dvc_graph(project_with_weights, SMOKE)
    assert differences(snakemake_graph(project_with_weights, "smoke"), of_dvc) == []
    commands = {stage.command for stage in of_dvc}
    assert {f"kmax weights fetch {WEIGHTS}", f"kmax train {FINETUNED}", f"kmax port {PORTED}"} <= commands


# A run inherits what it does not write itself, so a change of the base is a change of its section.
CHANGES = {
    "of all that inherit it": (
        "global_batch_size: 8",
        "global_batch_size: 4",
        {f"kmax train {RUN}", f"kmax train {FINETUNED}"},
    ),
    "of all but those that write the key": ("warmup_steps: 5", "warmup_steps: 6", {f"kmax train {RUN}"}),
    "of one run": (
        "source: safetensors}\n    predict: *predict",
        "source: safetensors}\n    predict: {<<: *predict, overlap_threshold: 0.7}",
        {f"kmax predict {PORTED}"},
    ),
    "of no section": ("description: two steps", "description: Two steps", set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_section_changes_the_parameters_of_the_same_stages_in_both_engines(
    project_with_weights, change
):
    old, new, commands = CHANGES[change]

    def graphs():
        return facts(snakemake_graph(project_with_weights, "smoke")), facts(
            dvc_graph(project_with_weights, SMOKE)
        )

    before = graphs()
    edit(project_with_weights / "params/runs/smoke.yaml", old, new)
    for ours, theirs in zip(before, graphs(), strict=True):
        assert {name for name in theirs if theirs[name] != ours[name]} == commands


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kmax predict ${key}", "kmax evaluate ${key}"),
        ("results/${key}/predictions", "results/${key}/predicted"),
        ("- data/prepared/${item.dataset}", "- data/raw/${item.dataset}/manifest.json"),
        ("            - runs.${key}.predict\n", ""),
        ("        - kmax/evaluator_version.py:\n            - VERSION\n", ""),
        ("      - params/tables.yaml\n", ""),
        ("      - reports/metrics/shapes-smoke\n", ""),
    ],
)
def test_a_drift_of_the_dvc_graph_is_found(project, graphs_of_snakemake, old, new):
    edit(project / SMOKE, old, new)
    assert differences(graphs_of_snakemake["smoke"], dvc_graph(project, SMOKE))


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        ("predict", 'predict=section("predict"),', ""),
        ("evaluate", "prepared=prepared,", ""),
        ("train", "kmax train {wildcards.run}", "kmax train {wildcards.run} --fresh"),
        ("prepare", "data/prepared/{dataset}", "data/ready/{dataset}"),
    ],
)
def test_a_drift_of_the_snakemake_graph_is_found(project, rule, old, new):
    edit(project / f"workflow/rules/{rule}.smk", old, new)
    if rule == "prepare":
        edit(project / "workflow/rules/common.smk", "data/prepared/", "data/ready/")
    assert differences(snakemake_graph(project, "smoke"), dvc_graph(project, SMOKE))


def expected(family: str) -> dict[str, Facts]:
    """The graph as the design and kmax/paths.py have it, without what each command follows."""
    listed = FAMILIES[family]
    graph: dict[str, Facts] = {}

    def stage(command, outputs, sources=(), parameters=None):
        names = frozenset(map(str, outputs))
        graph[command] = Facts(names, frozenset(), frozenset(map(str, sources)), parameters or {})

    for dataset in listed.datasets:
        given = [paths.dataset_file(dataset)]
        stage(f"kmax data download {dataset}", [paths.raw_manifest(dataset)], given)
        stage(f"kmax data prepare {dataset}", [paths.prepared(dataset)], given)
    for name in listed.weights:
        entry = load(WeightsFile, paths.WEIGHTS_FILE).weights[name].model_dump(mode="json")
        stage(f"kmax weights fetch {name}", [paths.weights(name)], parameters={"entry": entry})
    for name in listed.runs:
        run = load_run(name).model_dump(mode="json")

        def sections(*names, run=run):
            return {section: run[section] for section in names}

        if name in listed.ported:
            made = [paths.model(name), paths.port_report(name)]
            stage(f"kmax port {name}", made, parameters=sections("data", "model", "port"))
        else:
            made = [paths.model(name), paths.history(name)]
            stage(f"kmax train {name}", made, parameters=sections("data", "model", "train"))
        made = [paths.predictions(name)]
        stage(f"kmax predict {name}", made, parameters=sections("data", "model", "predict"))
        made = [paths.metrics(name), paths.scores(name), paths.per_class(name), paths.per_image(name)]
        made.append(paths.explanation(name))
        stage(f"kmax evaluate {name}", made, parameters=sections("evaluate") | {"evaluator": VERSION})
        stage(f"kmax benchmark {name}", [paths.speed(name)], parameters=sections("model"))
    given = [paths.TABLES_FILE, paths.REFERENCE_FILE]
    if listed.default:
        stage("kmax report", [paths.TABLES, paths.FIGURES, paths.SITE], given)
    else:
        folder = paths.family_report(family)
        made = [folder / path.name for path in (paths.TABLES, paths.FIGURES, paths.SITE)]
        stage(f"kmax report {family} --out {folder}", made, given)
    return graph


@pytest.mark.parametrize("family", list(FAMILIES))
def test_rules_spell_the_paths_of_the_library(graphs_of_snakemake, family):
    found = facts(graphs_of_snakemake[family])
    wanted = expected(family)
    assert set(found) == set(wanted)
    for command, facts_wanted in wanted.items():
        assert found[command].outputs == facts_wanted.outputs, command
        assert found[command].sources == facts_wanted.sources, command
        assert found[command].parameters == used(facts_wanted.parameters), command
