rule profile_store:
    input:
        code=store_code,
    output:
        "<profile>/{family}.jsonl",
    log:
        "<logs>/profile/{family}.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    params:
        spec=store_spec,
    shell:
        "python -m workflow.hyperkv.profile --spec {params.spec:q} --out {output:q} 2> {log:q}"


rule profile:
    input:
        collect("<profile>/{family}.jsonl", family=PROFILED),
