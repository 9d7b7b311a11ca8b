rule prepare:
    input:
        dataset="params/datasets/{dataset}.yaml",
        raw="data/raw/{dataset}/manifest.json",
    output:
        prepared=directory("data/prepared/{dataset}"),
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/timings/prepare/{dataset}.tsv"
    threads: 8
    resources:
        runtime=240,
    shell:
        "kmax data prepare {wildcards.dataset} 2>&1 | tee -i {log}"
