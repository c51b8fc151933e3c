rule measure_scenario:
    input:
        files=files("measure_scenario"),
        program=program,
    output:
        "<sweep>/{scenario}/{repeat}.jsonl",
    log:
        "<logs>/sweep/{scenario}-{repeat}.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        gpu=RESOURCES.gpus,
        gres=RESOURCES.gres,
        nodes=RESOURCES.nodes,
        tasks=RESOURCES.tasks,
        testbed=1,
    params:
        code=stage_code("measure_scenario"),
        spec=spec("measure_scenario"),
    shell:
        "python -m workflow.hyperkv.sweep.measure_scenario --spec {params.spec:q} --code {params.code:q} --repeat {wildcards.repeat:q}"
        " --out {output:q} 2> {log:q}"


rule sweep:
    input:
        STAGES.sweep_files(),
