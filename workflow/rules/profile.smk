rule profile_store:
    input:
        files=files("profile_store"),
        program=program,
    output:
        "<profile>/{family}.jsonl",
    log:
        "<logs>/profile/{family}.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        testbed=1,
    params:
        code=stage_code("profile_store"),
        spec=spec("profile_store"),
    shell:
        "python -m workflow.hyperkv.profile.profile_store --spec {params.spec:q} --code {params.code:q} --out {output:q} 2> {log:q}"


rule profile_limits:
    output:
        "<profile>/limits/limits.jsonl",
    log:
        "<logs>/profile/limits/limits.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        testbed=1,
    params:
        code=stage_code("profile_limits"),
        spec=spec("profile_limits"),
    shell:
        "python -m workflow.hyperkv.profile.profile_limits --spec {params.spec:q} --code {params.code:q} --out {output:q} 2> {log:q}"


rule profile:
    input:
        collect("<profile>/{family}.jsonl", family=STAGES.profiled),
        rules.profile_limits.output,


rule stores:
    input:
        "<tables>/stores.csv",
        collect("<figures>/stores.{suffix}", suffix=["svg", "png"]),
