# One target per family of params/runs: `snakemake --cores all <family>`.
for family in FAMILIES:
    folder = "reports" if family == DEFAULT_FAMILY else f"reports/families/{family}"

    rule:
        name:
            family
        input:
            expand("{folder}/{part}", folder=folder, part=["tables", "figures", "site"]),
            measured(family),
        localrule: True
