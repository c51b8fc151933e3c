rule write_cells:
    input:
        cells=rules.sweep.input,
    output:
        csv="<tables>/cells.csv",
        parquet="<tables>/cells.parquet",
    log:
        "<logs>/tables/cells.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.cells"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.cells --asked {params.asked:q} --cells {input.cells:q}"
        " --out {output:q} 2> {log:q}"


rule write_requests:
    input:
        cells=rules.sweep.input,
    output:
        "<tables>/requests.parquet",
    log:
        "<logs>/tables/requests.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.requests"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.requests --asked {params.asked:q} --cells {input.cells:q}"
        " --out {output:q} 2> {log:q}"


rule write_scenarios:
    input:
        cells=rules.write_cells.output.parquet,
    output:
        "<tables>/scenarios.csv",
    log:
        "<logs>/tables/scenarios.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.scenarios"),
    shell:
        "python -m workflow.hyperkv.tables.scenarios --cells {input.cells:q} --out {output:q} 2> {log:q}"


rule write_ratios:
    input:
        cells=rules.write_cells.output.parquet,
    output:
        "<tables>/ratios.csv",
    log:
        "<logs>/tables/ratios.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.ratios"),
        spec=spec("write_ratios"),
    shell:
        "python -m workflow.hyperkv.tables.ratios --spec {params.spec:q} --cells {input.cells:q}"
        " --out {output:q} 2> {log:q}"


rule write_sweep_time:
    input:
        cells=rules.sweep.input,
    output:
        "<tables>/sweep_time.csv",
    log:
        "<logs>/tables/sweep_time.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.sweep_time"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.sweep_time --asked {params.asked:q} --cells {input.cells:q}"
        " --out {output:q} 2> {log:q}"


rule write_sharing:
    input:
        cells=rules.sweep.input,
    output:
        "<tables>/sharing.csv",
    log:
        "<logs>/tables/sharing.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.sharing"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.sharing --asked {params.asked:q} --cells {input.cells:q}"
        " --out {output:q} 2> {log:q}"


rule write_latency:
    input:
        cells=rules.sweep.input,
    output:
        "<tables>/latency.csv",
    log:
        "<logs>/tables/latency.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.latency"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.latency --asked {params.asked:q} --cells {input.cells:q}"
        " --out {output:q} 2> {log:q}"


rule write_predicted:
    input:
        cells=rules.sweep.input,
        stores="<tables>/stores.csv",
        gpus=CONFIG["break_even"]["gpus"],
        files=files("write_predicted"),
    output:
        "<tables>/predicted.csv",
    log:
        "<logs>/tables/predicted.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=stage_code("write_predicted"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.predicted --asked {params.asked:q} --cells {input.cells:q}"
        " --stores {input.stores:q} --gpus {input.gpus:q} --out {output:q} 2> {log:q}"


rule write_columns:
    input:
        dictionary="workflow/schemas/columns.yaml",
    output:
        "<tables>/columns.csv",
    log:
        "<logs>/tables/columns.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.columns"),
    shell:
        "python -m workflow.hyperkv.tables.columns --dictionary {input.dictionary:q} --out {output:q} 2> {log:q}"


rule write_environment:
    input:
        cells=rules.sweep.input,
    output:
        "<tables>/environment.json",
    log:
        "<logs>/tables/environment.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.environment"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.environment --asked {params.asked:q} --cells {input.cells:q}"
        " --out {output:q} 2> {log:q}"


rule write_stores:
    input:
        points=collect("<profile>/{family}.jsonl", family=STAGES.profiled),
    output:
        csv="<tables>/stores.csv",
        parquet="<tables>/stores.parquet",
    log:
        "<logs>/tables/stores.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.stores"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.stores --asked {params.asked:q} --points {input.points:q}"
        " --out {output:q} 2> {log:q}"


rule write_limits:
    input:
        limits=rules.profile_limits.output,
        baseline=files("write_limits"),
    output:
        "<tables>/limits.csv",
    log:
        "<logs>/tables/limits.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.limits"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.limits --asked {params.asked:q} --limits {input.limits:q}"
        " --baseline {input.baseline:q} --out {output:q} 2> {log:q}"


rule write_summary:
    input:
        scenarios=rules.write_scenarios.output,
        sweep_time=rules.write_sweep_time.output,
        stores=rules.write_stores.output.csv,
        layers=rules.write_layers.output.table,
        predicted=rules.write_predicted.output,
        layers_text=rules.write_layers.output.text,
    output:
        report("<tables>/summary.txt", caption="../report/summary.rst", category="Tables"),
    log:
        "<logs>/tables/summary.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.summary"),
        notes=STAGES.notes(),
    shell:
        "python -m workflow.hyperkv.tables.summary --scenarios {input.scenarios:q}"
        " --sweep-time {input.sweep_time:q} --stores {input.stores:q} --layers {input.layers:q}"
        " --predicted {input.predicted:q}"
        " --layers-text {input.layers_text:q} --notes {params.notes:q} --out {output:q} 2> {log:q}"


rule tables:
    input:
        rules.write_cells.output,
        rules.write_requests.output,
        rules.write_scenarios.output,
        rules.write_ratios.output,
        rules.write_sweep_time.output,
        rules.write_latency.output,
        rules.write_predicted.output,
        rules.write_columns.output,
        rules.write_environment.output,
        rules.write_stores.output,
        rules.write_limits.output,
        rules.write_layers.output,
        rules.write_summary.output,
