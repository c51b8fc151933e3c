rule search_settings:
    input:
        files=scenario_inputs,
    output:
        trials="<tune>/{scenario}/trials.jsonl",
        finalists="<tune>/{scenario}/finalists.jsonl",
        evidence="<tune>/{scenario}/evidence.json",
        winner="<tune>/{scenario}/winner.yaml",
    log:
        "<logs>/tune/{scenario}.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        gpu=gpus,
        testbed=1,
    params:
        code=tuning_code,
        spec=tuning_spec,
        folder=subpath(output.trials, parent=True),
    shell:
        "python -m workflow.hyperkv.tune.search_settings --spec {params.spec:q} --code {params.code:q} --out {params.folder:q} 2> {log:q}"


rule write_tune:
    input:
        trials=expand("<tune>/{scenario}/trials.jsonl", scenario=TUNED),
        finalists=expand("<tune>/{scenario}/finalists.jsonl", scenario=TUNED),
    output:
        "<tables>/tune.csv",
    log:
        "<logs>/tables/tune.log",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.tune"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.tune --asked {params.asked:q}"
        " --trials {input.trials:q} --finalists {input.finalists:q}"
        " --out {output:q} 2> {log:q}"


rule tune:
    input:
        a_search,
        rules.write_tune.output,
        collect("<figures>/tune.{suffix}", suffix=["svg", "png"]),
