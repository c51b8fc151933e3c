rule profile_layers:
    input:
        files=files("profile_layers"),
        program=program,
    output:
        "<profile>/layers/{family}.jsonl",
    log:
        "<logs>/profile/layers/{family}.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        testbed=1,
    params:
        code=stage_code("profile_layers"),
        spec=spec("profile_layers"),
    shell:
        "python -m workflow.hyperkv.profile.profile_layers --spec {params.spec:q} --code {params.code:q} --out {output:q} 2> {log:q}"


rule write_layers:
    input:
        rungs=collect("<profile>/layers/{family}.jsonl", family=STAGES.layered),
    output:
        table="<tables>/layers.csv",
        text="<tables>/layers.txt",
    log:
        "<logs>/tables/layers.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.layers"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.tables.layers --asked {params.asked:q}"
        " --rungs {input.rungs:q} --table {output.table:q}"
        " --text {output.text:q} 2> {log:q}"


rule layers:
    input:
        rules.write_layers.output,
        collect("<figures>/layers.{suffix}", suffix=["svg", "png"]),
