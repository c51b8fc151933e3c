# None of these has an output: a file does not prove what a machine's disks are, so each looks whenever it is asked
# for, and no other rule asks for it.


rule inspect_array:
    log:
        "<logs>/inspect_array.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("array.inspect_array"),
        spec=spec("array"),
        data_dir=lambda wildcards: CONFIG["data_dir"],
    shell:
        "python -m workflow.hyperkv.array.inspect_array --spec {params.spec:q} --data-dir {params.data_dir:q}"
        " 2> {log:q}"


rule provision_array:
    log:
        "<logs>/provision_array.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    params:
        code=code("array.provision_array"),
        spec=spec("array"),
    shell:
        "python -m workflow.hyperkv.array.provision_array --spec {params.spec:q} 2> {log:q}"


rule teardown_array:
    log:
        "<logs>/teardown_array.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    params:
        code=code("array.teardown_array"),
        spec=spec("array"),
    shell:
        "python -m workflow.hyperkv.array.teardown_array --spec {params.spec:q} 2> {log:q}"


rule baseline_array:
    log:
        "<logs>/baseline_array.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    params:
        code=code("array.baseline_array"),
        spec=spec("baseline_array"),
    shell:
        "python -m workflow.hyperkv.array.baseline_array --spec {params.spec:q} --code {params.code:q} 2> {log:q}"
