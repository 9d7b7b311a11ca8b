# It measures time, so it reserves all cores of the machine: nothing else may run at the same time.
rule benchmark:
    input:
        model="results/{run}/model.safetensors",
    output:
        speed=report(
            "reports/metrics/{run}/speed.json",
            caption="../report/speed.rst",
            category="Scores",
            labels={"run": "{run}", "file": "speed.json"},
        ),
    log:
        "logs/benchmark/{run}.log",
    benchmark:
        "logs/timings/benchmark/{run}.tsv"
    threads: 1024
    resources:
        runtime=60,
    params:
        model=section("model"),
    shell:
        "kmax benchmark {wildcards.run} 2>&1 | tee -i {log}"
