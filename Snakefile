# The whole pipeline, from raw data to tables: `snakemake --cores all`, or on a cluster `snakemake --profile slurm`.
# One family of runs: `snakemake --cores all smoke`. Families and runs are listed in params/runs.yaml.
from snakemake.utils import min_version

min_version("9.27")


configfile: "params/runs.yaml"


report: "workflow/report/workflow.rst"


container: "docker://kmax:0.1.0"


include: "workflow/rules/common.smk"


localrules:
    all,


# What the report reads is asked for too: a report that was made by hand must not stand for runs that are missing.
rule all:
    default_target: True
    input:
        "reports/tables",
        "reports/figures",
        "reports/site",
        measured(RUNS_FILE.default),


include: "workflow/rules/download.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/port.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/families.smk"
