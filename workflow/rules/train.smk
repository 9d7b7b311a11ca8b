# Machine facts reach the trainer through its environment: ranks from the launcher in `mpi` (several nodes) or from
# the available GPUs, the time budget from `time_budget`. Out of time it exits with code 75, and the next attempt
# resumes.
rule train:
    input:
        prepared=prepared,
        weights=initial_weights,
    output:
        model="results/{run}/model.safetensors",
        history=report(
            "reports/metrics/{run}/history.csv",
            caption="../report/history.rst",
            category="Training",
            labels={"run": "{run}"},
        ),
    log:
        "logs/train/{run}.log",
    benchmark:
        "logs/timings/train/{run}.tsv"
    wildcard_constraints:
        run=one_of(TRAINED),
    retries: ATTEMPTS
    threads: 16
    resources:
        mpi="",
        time_budget=os.environ.get("KMAX_TIME_BUDGET", ""),
        runtime=1440,
    params:
        data=section("data"),
        model=section("model"),
        train=section("train"),
    shell:
        "KMAX_TIME_BUDGET={resources.time_budget} {resources.mpi} kmax train {wildcards.run} 2>&1 | tee -i {log}"
