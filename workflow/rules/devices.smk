rule write_array:
    input:
        cells=rules.sweep.input,
        cost=rules.write_cost.output.cost,
    output:
        table="<tables>/array.csv",
        text="<tables>/array.txt",
    log:
        "<logs>/tables/array.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("tables.array"),
        asked=asked,
        spec=spec("write_array"),
    shell:
        "python -m workflow.hyperkv.tables.array --asked {params.asked:q}"
        " --spec {params.spec:q} --cells {input.cells:q} --cost {input.cost:q}"
        " --out {output.table:q} --text {output.text:q} 2> {log:q}"


rule array:
    input:
        rules.write_array.output,
        collect("<figures>/array.{suffix}", suffix=["svg", "png"]),
