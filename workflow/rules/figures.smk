rule draw_figure:
    input:
        code=sources("figures"),
        cells=rules.write_tables.output.cells,
        scenarios=rules.write_tables.output.scenarios,
        values=rules.write_tables.output.values,
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
        spec=tables_spec,
        tables=subpath(input.cells, parent=True),
    shell:
        "python -m workflow.hyperkv.figures --figure {wildcards.figure} --spec {params.spec:q}"
        " --tables {params.tables:q} --svg {output.svg:q} --png {output.png:q} 2> {log:q}"


rule figures:
    input:
        collect("<figures>/{figure}.{suffix}", figure=FIGURES, suffix=["svg", "png"]),
