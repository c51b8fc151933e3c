rule write_tables:
    input:
        columns="workflow/schemas/columns.yaml",
        cells=rules.sweep.input,
    output:
        cells="<tables>/cells.csv",
        cells_parquet="<tables>/cells.parquet",
        requests="<tables>/requests.parquet",
        scenarios="<tables>/scenarios.csv",
        ratios="<tables>/ratios.csv",
        time="<tables>/sweep_time.csv",
        latency="<tables>/latency.csv",
        columns="<tables>/columns.csv",
        environment="<tables>/environment.json",
    log:
        "<logs>/tables.log",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.tables"),
        asked=asked,
        spec=tables_spec,
        folder=subpath(output.cells, parent=True),
    shell:
        "python -m workflow.hyperkv.tables.tables --asked {params.asked:q}"
        " --spec {params.spec:q} --cells {input.cells:q}"
        " --out {params.folder:q} 2> {log:q}"


rule write_stores:
    input:
        points=collect("<profile>/{family}.jsonl", family=PROFILED),
        limits=rules.profile_limits.output,
        baseline=baseline_files,
    output:
        stores="<tables>/stores.csv",
        stores_parquet="<tables>/stores.parquet",
        limits="<tables>/limits.csv",
    log:
        "<logs>/stores_table.log",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.stores"),
        asked=asked,
        folder=subpath(output.stores, parent=True),
    shell:
        "python -m workflow.hyperkv.tables.stores --asked {params.asked:q}"
        " --points {input.points:q} --limits {input.limits:q}"
        " --baseline {input.baseline:q} --out {params.folder:q} 2> {log:q}"


rule write_summary:
    input:
        scenarios=rules.write_tables.output.scenarios,
        time=rules.write_tables.output.time,
        stores=rules.write_stores.output.stores,
        layers=rules.write_layers.output.text,
        layers_table=rules.write_layers.output.table,
    output:
        report("<tables>/summary.txt", caption="../report/summary.rst", category="Tables"),
    log:
        "<logs>/summary.log",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.summary"),
        tables=subpath(input.scenarios, parent=True),
        notes=summary_notes,
    shell:
        "python -m workflow.hyperkv.tables.summary --tables {params.tables:q} --notes {params.notes:q}"
        " --layers {input.layers:q} --layers-table {input.layers_table:q} --out {output:q} 2> {log:q}"


rule tables:
    input:
        rules.write_tables.output,
        rules.write_stores.output,
        rules.write_layers.output,
        rules.write_summary.output,
