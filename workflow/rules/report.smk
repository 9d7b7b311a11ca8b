# The report on the default family is in reports/, those on the other families in reports/families/.
rule report:
    input:
        tables="params/tables.yaml",
        reference="params/reference.csv",
        measured=measured(DEFAULT_FAMILY),
    output:
        tables=report(
            directory("reports/tables"),
            patterns=["{table}.html"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        figures=report(
            directory("reports/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        site=directory("reports/site"),
    log:
        "logs/report/default.log",
    benchmark:
        "logs/timings/report/default.tsv"
    localrule: True
    threads: 1
    resources:
        runtime=60,
    shell:
        "kmax report 2>&1 | tee -i {log}"


rule report_family:
    input:
        tables="params/tables.yaml",
        reference="params/reference.csv",
        measured=lambda wildcards: measured(wildcards.family),
    output:
        tables=report(
            directory("reports/families/{family}/tables"),
            patterns=["{table}.html"],
            caption="../report/tables.rst",
            category="Tables",
            labels={"family": "{family}", "table": "{table}"},
        ),
        figures=report(
            directory("reports/families/{family}/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figures.rst",
            category="Figures",
            labels={"family": "{family}", "figure": "{figure}"},
        ),
        site=directory("reports/families/{family}/site"),
    log:
        "logs/report/{family}.log",
    benchmark:
        "logs/timings/report/{family}.tsv"
    localrule: True
    threads: 1
    resources:
        runtime=60,
    shell:
        "kmax report {wildcards.family} --out reports/families/{wildcards.family} 2>&1 | tee -i {log}"
