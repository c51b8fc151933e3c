rule draw_figure:
    input:
        tables=figure_tables,
    output:
        svg=report(
            "<figures>/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        png="<figures>/{figure}.png",
    log:
        "<logs>/figures/{figure}.log",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("figures.figures"),
        spec=figure_spec,
    shell:
        "python -m workflow.hyperkv.figures.figures --figure {wildcards.figure:q} --spec {params.spec:q}"
        " --tables {input.tables:q} --svg {output.svg:q} --png {output.png:q} 2> {log:q}"


rule figures:
    input:
        collect("<figures>/{figure}.{suffix}", figure=[*FIGURES, *PREDICTIONS], suffix=["svg", "png"]),


rule capacity:
    input:
        collect("<figures>/chunk.{suffix}", suffix=["svg", "png"]),
