rule predict_hit_rates:
    input:
        files=files("predict_hit_rates"),
    output:
        "<predict>/hit_rates.csv",
    log:
        "<logs>/predict/hit_rates.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=stage_code("predict_hit_rates"),
        spec=spec("predict_hit_rates"),
    shell:
        "python -m workflow.hyperkv.predict.predict_hit_rates --spec {params.spec:q} --out {output:q} 2> {log:q}"


rule predict_break_even:
    input:
        published="config/published_gpus.yaml",
        models=CONFIG["break_even"]["models"],
        gpus=CONFIG["break_even"]["gpus"],
    output:
        table="<predict>/break_even.csv",
        text=report("<predict>/break_even.txt", caption="../report/break_even.rst", category="Tables"),
    log:
        "<logs>/predict/break_even.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("predict.predict_break_even"),
        spec=spec("predict_break_even"),
    shell:
        "python -m workflow.hyperkv.predict.predict_break_even --spec {params.spec:q} --out {output.table:q}"
        " --text {output.text:q} 2> {log:q}"


rule place_stores:
    input:
        break_even=rules.predict_break_even.output.table,
        stores=rules.write_stores.output.csv,
        limits=rules.profile_limits.output,
    output:
        "<predict>/placed_stores.csv",
    log:
        "<logs>/predict/placed_stores.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("predict.place_stores"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.predict.place_stores --asked {params.asked:q}"
        " --break-even {input.break_even:q} --stores {input.stores:q}"
        " --limits {input.limits:q} --out {output:q} 2> {log:q}"


rule predict:
    input:
        rules.predict_hit_rates.output,
        rules.predict_break_even.output,
