rule measure_scenario:
    input:
        files=scenario_inputs,
    output:
        "<sweep>/{scenario}/{repeat}.jsonl",
    log:
        "<logs>/sweep/{scenario}-{repeat}.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        gpu=gpus,
        testbed=1,
    params:
        code=scenario_code,
        spec=scenario_spec,
    shell:
        "python -m workflow.hyperkv.sweep.measure_scenario --spec {params.spec:q} --code {params.code:q} --repeat {wildcards.repeat:q}"
        " --out {output:q} 2> {log:q}"


rule sweep:
    input:
        collect("<sweep>/{scenario}/{repeat}.jsonl", scenario=SCENARIOS, repeat=REPEATS),
