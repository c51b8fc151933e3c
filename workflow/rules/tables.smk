rule write_tables:
    input:
        code=sources("tables"),
        columns="workflow/schemas/columns.yaml",
        cells=rules.sweep.input,
        points=rules.profile.input,
    output:
        cells="<tables>/cells.csv",
        cells_parquet="<tables>/cells.parquet",
        requests="<tables>/requests.parquet",
        scenarios="<tables>/scenarios.csv",
        ratios="<tables>/ratios.csv",
        values="<tables>/values.csv",
        values_parquet="<tables>/values.parquet",
        time="<tables>/sweep_time.csv",
        columns="<tables>/columns.csv",
        environment="<tables>/environment.json",
    log:
        "<logs>/tables.log",
    conda:
        "../../envs/harness.yaml"
    params:
        spec=tables_spec,
        folder=subpath(output.cells, parent=True),
    shell:
        "python -m workflow.hyperkv.tables --spec {params.spec:q} --cells {input.cells:q}"
        " --points {input.points:q} --out {params.folder:q} 2> {log:q}"


rule write_summary:
    input:
        code=sources("summary"),
        scenarios=rules.write_tables.output.scenarios,
        time=rules.write_tables.output.time,
    output:
        report("<tables>/summary.txt", caption="../report/summary.rst", category="Tables"),
    log:
        "<logs>/summary.log",
    conda:
        "../../envs/harness.yaml"
    params:
        tables=subpath(input.scenarios, parent=True),
    shell:
        "python -m workflow.hyperkv.summary --tables {params.tables:q} --out {output:q} 2> {log:q}"


rule tables:
    input:
        rules.write_tables.output,
        rules.write_summary.output,
