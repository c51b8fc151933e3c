FIGURES = ["pays", "tier_tradeoff", "chunk", "stores", "transport_medium", "layers", "hit_rate", "break_even"]
FIGURES += ["latency"] if STAGES.vllm and CONFIG["latency"]["prompt_tokens"] else []
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
    for name in {*FIGURES, "latency", "cost", "ladder", "before_after", "tune"}
}
LOOKS = json.dumps(looks())
DRAWING = {name: {"figure": name, "code": code(f"figures.{name}"), "stores": LOOKS} for name in PICTURES}


rule draw_tier_tradeoff:
    input:
        tables=rules.write_scenarios.output[0],
    output:
        **PICTURES["tier_tradeoff"],
    log:
        "<logs>/figures/tier_tradeoff.log",
    conda:
        "../../envs/harness.yaml"
    params:
        **DRAWING["tier_tradeoff"],
        spec=spec("compared"),
    shell:
        "python -m workflow.hyperkv.figures.{params.figure:q} --tables {input.tables:q} --spec {params.spec:q}"
        " --stores {params.stores:q} --svg {output.svg:q} --png {output.png:q} 2> {log:q}"


use rule draw_tier_tradeoff as draw_transport_medium with:
    output:
        **PICTURES["transport_medium"],
    log:
        "<logs>/figures/transport_medium.log",
    params:
        **DRAWING["transport_medium"],
        spec=spec("compared"),


use rule draw_tier_tradeoff as draw_cost with:
    input:
        tables=[rules.write_cost.output.cost, rules.write_cost.output.sensitivity],
    output:
        **PICTURES["cost"],
    log:
        "<logs>/figures/cost.log",
    params:
        **DRAWING["cost"],
        spec=spec("compared"),


rule draw_chunk:
    input:
        tables=rules.write_scenarios.output[0],
    output:
        **PICTURES["chunk"],
    log:
        "<logs>/figures/chunk.log",
    conda:
        "../../envs/harness.yaml"
    params:
        **DRAWING["chunk"],
    shell:
        "python -m workflow.hyperkv.figures.{params.figure:q} --tables {input.tables:q}"
        " --stores {params.stores:q} --svg {output.svg:q} --png {output.png:q} 2> {log:q}"


use rule draw_chunk as draw_stores with:
    input:
        tables=[rules.write_stores.output.csv, *rules.write_limits.output],
    output:
        **PICTURES["stores"],
    log:
        "<logs>/figures/stores.log",
    params:
        **DRAWING["stores"],


use rule draw_chunk as draw_layers with:
    input:
        tables=rules.write_layers.output.table,
    output:
        **PICTURES["layers"],
    log:
        "<logs>/figures/layers.log",
    params:
        **DRAWING["layers"],


use rule draw_chunk as draw_latency with:
    input:
        tables=rules.write_latency.output[0],
    output:
        **PICTURES["latency"],
    log:
        "<logs>/figures/latency.log",
    params:
        **DRAWING["latency"],


use rule draw_chunk as draw_hit_rate with:
    input:
        tables=[rules.predict_hit_rates.output[0], rules.write_cells.output.csv],
    output:
        **PICTURES["hit_rate"],
    log:
        "<logs>/figures/hit_rate.log",
    params:
        **DRAWING["hit_rate"],


use rule draw_chunk as draw_pays with:
    input:
        tables=rules.write_pays.output.table,
    output:
        **PICTURES["pays"],
    log:
        "<logs>/figures/pays.log",
    params:
        **DRAWING["pays"],


use rule draw_chunk as draw_break_even with:
    input:
        tables=[rules.predict_break_even.output.table, rules.place_stores.output[0]],
    output:
        **PICTURES["break_even"],
    log:
        "<logs>/figures/break_even.log",
    params:
        **DRAWING["break_even"],


use rule draw_chunk as draw_ladder with:
    input:
        tables=rules.write_ladder.output[0],
    output:
        **PICTURES["ladder"],
    log:
        "<logs>/figures/ladder.log",
    params:
        **DRAWING["ladder"],


use rule draw_chunk as draw_before_after with:
    input:
        tables=rules.write_ladder.output[0],
    output:
        **PICTURES["before_after"],
    log:
        "<logs>/figures/before_after.log",
    params:
        **DRAWING["before_after"],


rule draw_tune:
    input:
        table=rules.write_tune.output[0],
        evidence=expand("<tune>/{scenario}/evidence.json", scenario=STAGES.tuned),
    output:
        **PICTURES["tune"],
    log:
        "<logs>/figures/tune.log",
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
