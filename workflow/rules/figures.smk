# What every run draws, and what it draws it of.
FIGURES = {
    "pays": rules.write_pays.output.table,
    "tier_tradeoff": rules.write_scenarios.output[0],
    "chunk": rules.write_scenarios.output[0],
    "stores": [rules.write_stores.output.csv, *rules.write_limits.output],
    "transport_medium": rules.write_scenarios.output[0],
    "layers": rules.write_layers.output.table,
    "hit_rate": [rules.predict_hit_rates.output[0], rules.write_cells.output.csv],
    "break_even": [rules.predict_break_even.output.table, rules.place_stores.output[0]],
}
DRAWN = {
    **FIGURES,
    "latency": rules.write_latency.output[0],
    "cost": [rules.write_cost.output.cost, rules.write_cost.output.sensitivity],
    "ladder": rules.write_ladder.output[0],
    "array": rules.write_array.output.table,
    "sharing": rules.write_sharing.output[0],
    "before_after": rules.write_ladder.output[0],
    "bits": rules.write_bits.output,
}
if STAGES.vllm and CONFIG["latency"]["prompt_tokens"]:
    FIGURES["latency"] = DRAWN["latency"]
if CONFIG["experiment"]["array"]["scenarios"]:
    FIGURES["array"] = DRAWN["array"]
if CONFIG["experiment"]["engines"] > 1:
    FIGURES["sharing"] = DRAWN["sharing"]
PICTURES = {
    name: {
        "svg": report(
            f"<figures>/{name}.svg",
            caption=f"../report/figures/{name}.rst",
            category="Figures",
            labels={"figure": name},
        ),
        "png": f"<figures>/{name}.png",
    }
    for name in [*DRAWN, "tune"]
}
LOOKS = json.dumps(looks())


for figure, tables in DRAWN.items():

    rule:
        name:
            f"draw_{figure}"
        input:
            tables=tables,
        output:
            **PICTURES[figure],
        log:
            f"<logs>/figures/{figure}.log",
        localrule: True
        conda:
            "../../envs/harness.yaml"
        params:
            figure=figure,
            code=code(f"figures.{figure}"),
            stores=LOOKS,
            compared=compared if figure in ("tier_tradeoff", "transport_medium", "cost", "sharing") else [],
        shell:
            "python -m workflow.hyperkv.figures.{params.figure:q} --tables {input.tables:q} {params.compared:q}"
            " --stores {params.stores:q} --svg {output.svg:q} --png {output.png:q} 2> {log:q}"


rule draw_tune:
    input:
        table=rules.write_tune.output[0],
        evidence=expand("<tune>/{scenario}/evidence.json", scenario=STAGES.tuned),
    output:
        **PICTURES["tune"],
    log:
        "<logs>/figures/tune.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("figures.tune"),
        asked=asked,
    shell:
        "python -m workflow.hyperkv.figures.tune --asked {params.asked:q}"
        " --table {input.table:q} --evidence {input.evidence:q}"
        " --svg {output.svg:q} --png {output.png:q} 2> {log:q}"


rule figures:
    input:
        collect("<figures>/{figure}.{suffix}", figure=FIGURES, suffix=["svg", "png"]),


rule capacity:
    input:
        collect("<figures>/chunk.{suffix}", suffix=["svg", "png"]),
