# What docs show of the runs that are kept in results/reference: made again by `make docs`, committed, and no part of a run.
KEPT = glob_wildcards("results/reference/{machine,[^/-]+}/{date,[^/]+}/run.yaml")


rule make_run_page:
    input:
        about="results/reference/{machine}/{date}/run.yaml",
        run=multiext("results/reference/{machine}/{date}/", "machine.json", "records.jsonl"),
        captions=collect("workflow/report/figures/{figure}.rst", figure=DRAWN),
        gpus=CONFIG["break_even"]["gpus"],
        predicted=[rules.predict_hit_rates.output[0], rules.predict_break_even.output.table],
    output:
        page="docs/results/{machine}-{date}.md",
        figures=directory("docs/results/{machine}-{date}"),
    log:
        "<logs>/docs/{machine}-{date}.log",
    wildcard_constraints:
        machine="[^/-]+",
        date="[^/]+",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("report.make_run_page"),
        run=subpath(input.about, parent=True),
        earlier=lambda page: [
            f"results/reference/{machine}/{date}"
            for date, machine in sorted(zip(KEPT.date, KEPT.machine))
            if date < page.date
        ],
        stores=LOOKS,
        spec=spec("write_cost"),
    shell:
        "python -m workflow.hyperkv.report.make_run_page --run {params.run:q} --earlier {params.earlier:q}"
        " --captions {input.captions:q} --stores {params.stores:q} --spec {params.spec:q}"
        " --predicted {input.predicted:q} --gpus {input.gpus:q} --out {output.page:q} --figures {output.figures:q} 2> {log:q}"


rule docs:
    input:
        expand(rules.make_run_page.output.page, zip, machine=KEPT.machine, date=KEPT.date),
