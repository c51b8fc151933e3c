rule choose_scenario:
    input:
        files=files("choose_scenario"),
        table=rules.write_cells.output.csv,
        cells=rules.sweep.input,
    output:
        recommendation="<recommended>/recommendation.json",
        readme="<recommended>/README.txt",
        files=directory("<recommended>/files"),
    log:
        "<logs>/choose_scenario.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=stage_code("choose_scenario"),
        asked=asked,
        spec=spec("choose_scenario"),
    shell:
        "python -m workflow.hyperkv.recommend.choose_scenario --asked {params.asked:q}"
        " --spec {params.spec:q} --table {input.table:q}"
        " --cells {input.cells:q} --out {output.recommendation:q} --readme {output.readme:q}"
        " --files {output.files:q} 2> {log:q}"


rule check_recommended:
    input:
        recommendation=rules.choose_scenario.output.recommendation,
        files=ancient(rules.choose_scenario.output.files),
        engine=files("check_recommended"),
    output:
        "<recommended>/check.json",
    log:
        "<logs>/check_recommended.log",
    conda:
        "../../envs/harness.yaml"
    threads: whole_machine
    resources:
        testbed=1,
    params:
        code=code(*check_modules()),
        pythons=json.dumps({pair: python_of(CONFIG, pair) for pair in PAIRS}),
    shell:
        "python -m workflow.hyperkv.recommend.check_recommended --recommendation {input.recommendation:q}"
        " --files {input.files:q} --pythons {params.pythons:q} --out {output:q} 2> {log:q}"


rule recommend:
    input:
        rules.choose_scenario.output,
        rules.check_recommended.output,
        "<report>/index.html",
