rule measure_bits:
    input:
        files=files("measure_bits"),
    output:
        "<bits>/bits.jsonl",
    log:
        "<logs>/bits/bits.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        testbed=1,
        gpu=int(CONFIG["vllm"]["device"] == "cuda"),
    params:
        code=stage_code("measure_bits"),
        spec=spec("measure_bits"),
        python=python_of(CONFIG, PAIRS[0]),
    shell:
        "PYTHONPATH=. command {params.python:q} -m workflow.hyperkv.bits.measure_bits"
        " --spec {params.spec:q} --code {params.code:q} --out {output:q} 2> {log:q}"


rule predict_formats:
    input:
        bits=rules.measure_bits.output,
        model=CONFIG["bits"]["model"],
        gpu=CONFIG["bits"]["gpu"],
        speed=CONFIG["bits"]["speed"] or [],
    output:
        "<predict>/formats.csv",
    log:
        "<logs>/predict/formats.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("predict.predict_formats"),
        spec=spec("predict_formats"),
        asked=asked,
        speed=lambda wildcards, input: ["--speed", input.speed] if input.speed else [],
    shell:
        "python -m workflow.hyperkv.predict.predict_formats --spec {params.spec:q} --asked {params.asked:q}"
        " --bits {input.bits:q} {params.speed:q} --out {output:q} 2> {log:q}"


rule write_bits:
    input:
        bits=rules.measure_bits.output,
        predicted=rules.predict_formats.output,
    output:
        "<tables>/bits.csv",
    log:
        "<logs>/tables/bits.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.bits"),
        spec=spec("write_cost"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.bits --spec {params.spec:q} --asked {params.asked:q} --bits {input.bits:q}"
        " --predicted {input.predicted:q} --out {output:q} 2> {log:q}"


rule bits:
    input:
        rules.write_bits.output,
        collect("<figures>/bits.{suffix}", suffix=["svg", "png"]),
