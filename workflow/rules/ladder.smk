rule write_ladder:
    input:
        cells=STAGES.sweep_files(STAGES.ladder),
    output:
        "<tables>/ladder.csv",
    log:
        "<logs>/tables/ladder.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.ladder"),
        asked=asked,
        spec=spec("write_ladder"),
    shell:
        "python -m workflow.hyperkv.tables.ladder --asked {params.asked:q}"
        " --spec {params.spec:q} --cells {input.cells:q} --out {output:q} 2> {log:q}"


rule ladder:
    input:
        rules.write_ladder.output,
        collect("<figures>/{figure}.{suffix}", figure=["ladder", "before_after"], suffix=["svg", "png"]),
