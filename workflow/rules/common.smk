# Shared by the rules: the families of params/runs and the parameters of their runs.
import sys
from contextlib import ExitStack
from functools import cache

from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.settings import ExecMode

from kmax import parameter_files, paths
from kmax.config import WeightsFile
from kmax.evaluator_version import VERSION as EVALUATOR_VERSION
from kmax.errors import InputError
from kmax.files import exclusive_lock
from kmax.runs.families import families
from kmax.urls import without_credentials


def checked(function, *arguments):
    """Call `function`; input errors end the workflow with their messages, not with a traceback."""
    try:
        return function(*arguments)
    except InputError as fault:
        raise WorkflowError(str(fault)) from None


def read(function, *arguments):
    """As `checked`, while the rules are parsed, where Snakemake would add positions in these files."""
    try:
        return function(*arguments)
    except InputError as fault:
        sys.exit(str(fault))


# All runs are validated here, because Snakemake shows errors of input functions with a traceback.
FAMILIES = read(families)
DEFAULT_FAMILY = next(iter(FAMILIES))
RUNS = {name: run for family in FAMILIES.values() for name, run in family.runs.items()}
TRAINED = [run for family in FAMILIES.values() for run in family.trained]
PORTED = [run for family in FAMILIES.values() for run in family.ported]

# A job that runs out of time exits with code 75; the scheduling Snakemake starts it again, and it resumes. The
# Snakemake inside a cluster job must not restart it, because its time has run out.
ATTEMPTS = 5 if workflow.exec_mode == ExecMode.DEFAULT else 0

# The profile `default` disables Snakemake's own lock, which outlives a killed Snakemake; this one does not.
LOCK = ExitStack()


onstart:
    held = "another snakemake is running in this folder (.snakemake/kmax.lock); wait for it to finish"
    checked(LOCK.enter_context, exclusive_lock(Path(".snakemake/kmax.lock"), held))


@cache
def run_sections(run):
    """The parameters of a run as plain values, by section."""
    return RUNS[run].model_dump(mode="json")


def section(name):
    """For `params:` a rule reruns when this section of the run changes, inherited or not, and only then."""
    return lambda wildcards: run_sections(wildcards.run)[name]


def weights_entry(wildcards):
    """For `params:` the entry of params/weights.yaml; Snakemake stores it, so the URL is without credentials."""
    entries = checked(parameter_files.load, WeightsFile, paths.WEIGHTS_FILE).weights
    if wildcards.name not in entries:
        raise WorkflowError(f"{paths.WEIGHTS_FILE}: no entry '{wildcards.name}'")
    entry = entries[wildcards.name].model_dump(mode="json")
    return entry | {"url": entry["url"] and without_credentials(entry["url"])}


def prepared(wildcards):
    """The prepared dataset that a run reads."""
    return f"data/prepared/{RUNS[wildcards.run].data.dataset}"


def initial_weights(wildcards):
    """The weight file that a run is trained or ported from, unless it is trained from scratch."""
    name = RUNS[wildcards.run].initial_weights
    return f"data/weights/{name}.safetensors" if name else []


def measured(family):
    """Everything that a report on a family reads."""
    runs = FAMILIES[family].runs
    names = ["metrics.json", "per_class.csv", "per_image.npz", "explanation", "speed.json"]
    files = [f"reports/metrics/{run}/{name}" for run in runs for name in names]
    files += [f"reports/metrics/{run}/history.csv" for run in FAMILIES[family].trained]
    files += [f"results/{run}/port.json" for run in FAMILIES[family].ported]
    return files + [f"results/{run}/predictions" for run in runs]


def one_of(names):
    """A pattern for a wildcard that matches these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    dataset=r"[a-z0-9][a-z0-9_.-]*",
    name=r"[a-z0-9][a-z0-9_.-]*",
    run=one_of([*TRAINED, *PORTED]),
    family=one_of([name for name in FAMILIES if name != DEFAULT_FAMILY]),
