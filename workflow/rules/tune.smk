rule search_settings:
    input:
        files=files("search_settings"),
        program=program,
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
        gpu=RESOURCES.gpus,
        testbed=1,
    params:
        code=stage_code("search_settings"),
        spec=spec("search_settings"),
        folder=subpath(output.trials, parent=True),
    shell:
        "python -m workflow.hyperkv.tune.search_settings --spec {params.spec:q} --code {params.code:q} --out {params.folder:q} 2> {log:q}"


rule write_tune:
    input:
        trials=expand("<tune>/{scenario}/trials.jsonl", scenario=STAGES.tuned),
        finalists=expand("<tune>/{scenario}/finalists.jsonl", scenario=STAGES.tuned),
    output:
        "<tables>/tune.csv",
    log:
        "<logs>/tables/tune.log",
    localrule: True
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
        rules.write_tune.output,
        collect("<figures>/tune.{suffix}", suffix=["svg", "png"]),
