rule write_pays:
    input:
        break_even=rules.predict_break_even.output.table,
        placed_stores=rules.place_stores.output,
    output:
        table="<tables>/pays.csv",
        text=report("<tables>/pays.txt", caption="../report/pays.rst", category="Tables"),
    log:
        "<logs>/tables/pays.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.pays"),
    shell:
        "python -m workflow.hyperkv.tables.pays --break-even {input.break_even:q}"
        " --placed-stores {input.placed_stores:q} --out {output.table:q} --text {output.text:q} 2> {log:q}"


rule write_cost:
    input:
        cells=rules.sweep.input,
    output:
        cost="<tables>/cost.csv",
        repeats="<tables>/cost_repeats.csv",
        sensitivity="<tables>/cost_sensitivity.csv",
    log:
        "<logs>/tables/cost.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.cost"),
        asked=asked,
        spec=spec("write_cost"),
        folder=subpath(output.cost, parent=True),
    shell:
        "python -m workflow.hyperkv.tables.cost --asked {params.asked:q}"
        " --spec {params.spec:q} --cells {input.cells:q}"
        " --out {params.folder:q} 2> {log:q}"


rule write_claims:
    input:
        columns="workflow/schemas/columns.yaml",
        claims=CONFIG["claims"],
        tables=STAGES.claimed()[0],
        records=STAGES.claimed()[1],
    output:
        table="<tables>/claims.csv",
        text=report("<tables>/claims.txt", caption="../report/claims.rst", category="Tables"),
    log:
        "<logs>/claims.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.claims"),
        asked=asked,
        spec=spec("compared"),
    shell:
        "python -m workflow.hyperkv.tables.claims --asked {params.asked:q}"
        " --claims {input.claims:q} --spec {params.spec:q}"
        " --tables {input.tables:q} --records {input.records:q} --table {output.table:q}"
        " --text {output.text:q} 2> {log:q}"


rule decide:
    input:
        rules.write_pays.output,
        rules.predict.input,
        rules.write_cost.output,
        rules.write_claims.output,
        collect("<figures>/cost.{suffix}", suffix=["svg", "png"]),
