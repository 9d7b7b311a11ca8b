# The whole pipeline, from raw data to tables: `snakemake --cores all`, or on a cluster `snakemake --profile slurm`.
# One family of runs: `snakemake --cores all smoke`. A family is a file in params/runs.
from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


container: "docker://kmax-deeplab:0.1.0"


include: "workflow/rules/common.smk"


localrules:
    all,


# The inputs of the report are targets too: a report that was made by hand must not hide missing runs.
rule all:
    default_target: True
    input:
        "reports/tables",
        "reports/figures",
        "reports/site",
        measured(DEFAULT_FAMILY),


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
