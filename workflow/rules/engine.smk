rule fetch_wheels:
    input:
        requirements=lambda wildcards: requirements_of(CONFIG, wildcards.environment),
    output:
        "<build>/{environment}/wheels.tar",
    log:
        "<logs>/fetch_wheels/{environment}.log",
    cache: output_cache_is_set()
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        interpreter=f"{sys.version_info.major}.{sys.version_info.minor} {sysconfig.get_platform()}",
    shell:
        "python -m workflow.hyperkv.build.fetch_wheels --requirements {input.requirements:q}"
        " --out {output:q} 2> {log:q}"


rule build_environment:
    input:
        wheels=lambda wildcards: STAGES.wheels(wildcards.environment),
    output:
        "<build>/{environment}/{environment}.json",
    log:
        "<logs>/build_environment/{environment}.log",
    conda:
        "../../envs/harness.yaml"
    resources:
        gpu=RESOURCES.gpus,
    params:
        code=code("build.build_environment", "build.preflight"),
        options=lambda wildcards: STAGES.environment_options(wildcards.environment),
    shell:
        "python -m workflow.hyperkv.build.build_environment --kind {wildcards.environment:q} {params.options:q}"
        " --out {output:q} 2> {log:q}"


rule make_model:
    input:
        model=CONFIG["model"],
        engine=f"<build>/{STAGES.model_pair}/{STAGES.model_pair}.json",
        packaged=collect("<build>/{name}/wheels.tar", name=packaged(CONFIG) or []),
    output:
        STAGES.made_model,
    log:
        "<logs>/make_model.log",
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("build.make_model"),
        python=python_of(CONFIG, STAGES.model_pair),
        weights=lambda wildcards, input: weights_options(CONFIG, input.packaged),
        folder=subpath(output[0], parent=True),
    shell:
        "PYTHONPATH=. command {params.python:q} -m workflow.hyperkv.build.make_model --model {input.model:q}"
        " --out {params.folder:q} {params.weights:q} 2> {log:q}"
