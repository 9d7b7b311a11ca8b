rule port:
    input:
        weights=initial_weights,
    output:
        model="results/{run}/model.safetensors",
        account=report(
            "results/{run}/port.json",
            caption="../report/port.rst",
            category="Ported weights",
            labels={"run": "{run}"},
        ),
    log:
        "logs/port/{run}.log",
    benchmark:
        "logs/timings/port/{run}.tsv"
    wildcard_constraints:
        run=one_of(PORTED),
    threads: 1
    resources:
        runtime=60,
    params:
        data=section("data"),
        model=section("model"),
        port=section("port"),
    shell:
        "kmax port {wildcards.run} 2>&1 | tee -i {log}"
