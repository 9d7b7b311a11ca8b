# The report on the default family lies in reports/, those on the other families in reports/families/.
rule report:
    input:
        tables="params/tables.yaml",
        reference="params/reference.csv",
        measured=measured(RUNS_FILE.default),
    output:
        tables=directory("reports/tables"),
        figures=directory("reports/figures"),
        site=report(
            directory("reports/site"),
            htmlindex="index.html",
            caption="../report/site.rst",
            category="Report",
        ),
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
        tables=directory("reports/families/{family}/tables"),
        figures=directory("reports/families/{family}/figures"),
        site=report(
            directory("reports/families/{family}/site"),
            htmlindex="index.html",
            caption="../report/site.rst",
            category="Report",
            labels={"family": "{family}"},
        ),
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
