if VLLM:

    rule fetch_engine:
        input:
            requirements=requirements_of(CONFIG, "vllm"),
        output:
            "<build>/engine/wheels.tar",
        log:
            "<logs>/fetch_engine.log",
        cache: output_cache_is_set()
        localrule: True
        conda:
            "../../envs/harness.yaml"
        params:
            index=["--index", CONFIG["vllm"]["index"]] if CONFIG["vllm"]["index"] else [],
        shell:
            "python -m workflow.hyperkv.build.fetch_wheels --requirements {input.requirements:q} {params.index:q}"
            " --out {output:q} 2> {log:q}"

    rule build_engine:
        input:
            wheels=wheels_of("vllm"),
        output:
            "<build>/engine/engine.json",
        log:
            "<logs>/build_engine.log",
        conda:
            "../../envs/harness.yaml"
        resources:
            gpu=gpus,
        params:
            code=code("build.build_environment", "build.preflight"),
            options=environment_options("vllm"),
            device=CONFIG["vllm"]["device"],
            needs=engine_needs,
        shell:
            "python -m workflow.hyperkv.build.build_environment --kind engine {params.options:q}"
            " --device {params.device:q} --needs {params.needs:q} --out {output:q} 2> {log:q}"

    rule fetch_loadgen:
        input:
            requirements=requirements_of(CONFIG, "loadgen"),
        output:
            "<build>/loadgen/wheels.tar",
        log:
            "<logs>/fetch_loadgen.log",
        cache: output_cache_is_set()
        localrule: True
        conda:
            "../../envs/harness.yaml"
        shell:
            "python -m workflow.hyperkv.build.fetch_wheels --requirements {input.requirements:q} --out {output:q} 2> {log:q}"

    rule build_loadgen:
        input:
            wheels=wheels_of("loadgen"),
        output:
            "<build>/loadgen/loadgen.json",
        log:
            "<logs>/build_loadgen.log",
        conda:
            "../../envs/harness.yaml"
        params:
            code=code("build.build_environment", "build.preflight"),
            options=environment_options("loadgen"),
        shell:
            "python -m workflow.hyperkv.build.build_environment --kind loadgen {params.options:q} --out {output:q} 2> {log:q}"

    rule make_model:
        input:
            model=CONFIG["model"],
            engine=rules.build_engine.output,
        output:
            f"{made_model_dir(CONFIG)}/config.json",
        log:
            "<logs>/make_model.log",
        conda:
            "../../envs/harness.yaml"
        params:
            code=code("build.make_model"),
            python=python_of(CONFIG, "vllm"),
            weights=["--random-weights"] if CONFIG["vllm"]["weights"] == "random" else [],
            folder=subpath(output[0], parent=True),
        shell:
            "PYTHONPATH=. command {params.python:q} -m workflow.hyperkv.build.make_model --model {input.model:q}"
            " --out {params.folder:q} {params.weights:q} 2> {log:q}"
