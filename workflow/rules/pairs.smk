rule try_pair:
    input:
        files=files("try_pair"),
    output:
        "<pairs>/{pair}.jsonl",
    log:
        "<logs>/pairs/{pair}.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        testbed=1,
    params:
        code=stage_code("try_pair"),
        spec=spec("try_pair"),
    shell:
        "python -m workflow.hyperkv.pairs.try_pair --spec {params.spec:q} --code {params.code:q} --out {output:q} 2> {log:q}"


rule write_pairs:
    input:
        pairs=collect("<pairs>/{pair}.jsonl", pair=CONFIG["pairs"]["tried"]),
    output:
        "<tables>/pairs.csv",
    log:
        "<logs>/tables/pairs.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.pairs"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.pairs --asked {params.asked:q} --pairs {input.pairs:q}"
        " --out {output:q} 2> {log:q}"


rule pairs:
    input:
        rules.write_pairs.output,
