PAGE_FIGURES = [*(name for name in FIGURES if name not in ("stores", "layers", "hit_rate", "array")), "cost"]


rule make_page:
    input:
        template="workflow/report/page.html.j2",
        captions=collect("workflow/report/figures/{figure}.rst", figure=PAGE_FIGURES),
        tables=[
            rules.write_cells.output.csv,
            *rules.write_scenarios.output,
            *rules.write_ratios.output,
            *rules.write_environment.output,
            *rules.write_latency.output,
            *rules.write_predicted.output,
            rules.write_layers.output.table,
            rules.write_claims.output.table,
            rules.write_cost.output.cost,
            rules.write_pays.output.table,
        ],
        records=[*rules.sweep.input, *rules.write_stores.input],
        recommended=[rules.choose_scenario.output.recommendation, rules.check_recommended.output[0]],
        figures=collect("<figures>/{figure}.svg", figure=PAGE_FIGURES),
    output:
        "<report>/index.html",
    log:
        "<logs>/page.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("report.make_page"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.report.make_page --template {input.template:q} --captions {input.captions:q}"
        " --tables {input.tables:q} --recommended {input.recommended:q} --figures {input.figures:q}"
        " --asked {params.asked:q} --records {input.records:q} --out {output:q} 2> {log:q}"


rule make_summary:
    input:
        tables=[
            rules.write_cells.output.csv,
            *rules.write_scenarios.output,
            *rules.write_ratios.output,
            *rules.write_environment.output,
            rules.write_pays.output.table,
        ],
        recommendation=rules.choose_scenario.output.recommendation,
    output:
        summary="results/summary.json",
        text="results/answer.txt",
    log:
        "<logs>/summary.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("report.make_summary"),
        notes=STAGES.notes(),
    shell:
        "python -m workflow.hyperkv.report.make_summary --tables {input.tables:q}"
        " --recommendation {input.recommendation:q} --notes {params.notes:q} --out {output.summary:q}"
        " --text {output.text:q} 2> {log:q}"
