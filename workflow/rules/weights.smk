rule weights:
    output:
        weights="data/weights/{name}.safetensors",
    log:
        "logs/weights/{name}.log",
    benchmark:
        "logs/timings/weights/{name}.tsv"
    localrule: True
    threads: 1
    resources:
        runtime=240,
    params:
        entry=weights_entry,
    shell:
        "kmax weights fetch {wildcards.name} 2>&1 | tee -i {log}"
