rule download:
    input:
        dataset="params/datasets/{dataset}.yaml",
    output:
        manifest="data/raw/{dataset}/manifest.json",
    log:
        "logs/download/{dataset}.log",
    benchmark:
        "logs/timings/download/{dataset}.tsv"
    localrule: True
    threads: 1
    resources:
        runtime=1440,
    shell:
        "kmax data download {wildcards.dataset} 2>&1 | tee -i {log}"
