rule write_ladder:
    input:
        cells=collect("<sweep>/{scenario}/{repeat}.jsonl", scenario=LADDER, repeat=REPEATS),
    output:
        "<tables>/ladder.csv",
    log:
        "<logs>/tables/ladder.log",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.ladder"),
        asked=asked,
        spec=ladder_slice,
    shell:
        "python -m workflow.hyperkv.tables.ladder --asked {params.asked:q}"
        " --spec {params.spec:q} --cells {input.cells:q} --out {output:q} 2> {log:q}"


rule draw_ladder:
    input:
        table=rules.write_ladder.output,
    output:
        svg=report(
            "<figures>/{figure}.svg",
            caption="../report/ladder.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        png="<figures>/{figure}.png",
    log:
        "<logs>/figures/{figure}.log",
    wildcard_constraints:
        figure="ladder|before_after",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("figures.ladder"),
    shell:
        "python -m workflow.hyperkv.figures.ladder --figure {wildcards.figure:q} --table {input.table:q}"
        " --svg {output.svg:q} --png {output.png:q} 2> {log:q}"


rule ladder:
    input:
        a_ladder,
        rules.write_ladder.output,
        collect("<figures>/{figure}.{suffix}", figure=["ladder", "before_after"], suffix=["svg", "png"]),
