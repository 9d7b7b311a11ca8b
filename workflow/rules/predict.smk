rule predict:
    input:
        model="results/{run}/model.safetensors",
        prepared=prepared,
    output:
        predictions=directory("results/{run}/predictions"),
    log:
        "logs/predict/{run}.log",
    benchmark:
        "logs/timings/predict/{run}.tsv"
    threads: 16
    resources:
        runtime=480,
    params:
        data=section("data"),
        model=section("model"),
        predict=section("predict"),
    shell:
        "kmax predict {wildcards.run} 2>&1 | tee -i {log}"
