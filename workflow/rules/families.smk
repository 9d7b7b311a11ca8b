# One target per family of params/runs: `snakemake --cores all <family>`.
for family in filter(workflow.is_rule, FAMILIES):
    sys.exit(f"{paths.family_file(family)}: family: '{family}' is the name of a stage; choose another")
for family in FAMILIES:
    folder = "reports" if family == DEFAULT_FAMILY else f"reports/families/{family}"

    rule:
        name:
            family
        input:
            expand("{folder}/{part}", folder=folder, part=["tables", "figures", "site"]),
            measured(family),
        localrule: True
