rule evaluate:
    input:
        predictions="results/{run}/predictions",
        prepared=prepared,
    output:
        metrics=report(
            "reports/metrics/{run}/metrics.json",
            caption="../report/metrics.rst",
            category="Scores",
            labels={"run": "{run}", "file": "metrics.json"},
        ),
        scores="reports/metrics/{run}/scores.json",
        per_class=report(
            "reports/metrics/{run}/per_class.csv",
            caption="../report/per_class.rst",
            category="Scores",
            labels={"run": "{run}", "file": "per_class.csv"},
        ),
        per_image="reports/metrics/{run}/per_image.npz",
        explanation=directory("reports/metrics/{run}/explanation"),
    log:
        "logs/evaluate/{run}.log",
    benchmark:
        "logs/timings/evaluate/{run}.tsv"
    threads: 8
    resources:
        runtime=240,
    params:
        evaluate=section("evaluate"),
        evaluator=EVALUATOR_VERSION,
    shell:
        "kmax evaluate {wildcards.run} 2>&1 | tee -i {log}"
