rule build_striped:
    input:
        multiext("workflow/plugin/lmcache_striped/", "files.c", "uring.c", "reader.c", "locate.c", "lookup.c"),
        source="workflow/plugin/lmcache_striped/native.c",
    output:
        "<build>/striped/striped.so",
    log:
        "<logs>/build_striped.log",
    conda:
        "../../envs/kvrocks-build.yaml"
    params:
        code=code("build.build_striped"),
        march=CONFIG["kvrocks"]["march"],
    shell:
        "python -m workflow.hyperkv.build.build_striped --source {input.source:q} --march {params.march:q}"
        " --out {output:q} 2> {log:q}"


# Into an environment that is made here; one that is there already is looked at.
rule install_striped:
    input:
        environment="<build>/{environment}/{environment}.json",
    output:
        "<build>/{environment}/striped.json",
    log:
        "<logs>/install_striped/{environment}.log",
    conda:
        "../../envs/harness.yaml"
    resources:
        gpu=RESOURCES.gpus,
    params:
        code=code("build.install_striped", *plugin_modules()),
        made=lambda wildcards: ["--made"] if STAGES.wheels(wildcards.environment) else [],
    shell:
        "python -m workflow.hyperkv.build.install_striped --environment {input.environment:q} {params.made:q}"
        " --out {output:q} 2> {log:q}"


rule fetch_kvrocks:
    output:
        "<build>/kvrocks-source.tar.gz",
    log:
        "<logs>/fetch_kvrocks.log",
    localrule: True
    conda:
        "../../envs/kvrocks-build.yaml"
    params:
        spec=spec("fetch_kvrocks"),
    shell:
        "python -m workflow.hyperkv.build.fetch_kvrocks --spec {params.spec:q} --out {output:q} 2> {log:q}"


# What compile_kvrocks takes where it is there: for a node without internet, a pack, or kvrocks.deps_dir of another machine.
rule fetch_kvrocks_dependencies:
    input:
        rules.fetch_kvrocks.output,
    output:
        directory("<build>/kvrocks-deps"),
    log:
        "<logs>/fetch_kvrocks_dependencies.log",
    localrule: True
    conda:
        "../../envs/kvrocks-build.yaml"
    shell:
        "python -m workflow.hyperkv.build.fetch_kvrocks_dependencies --source {input:q} --into {output:q} 2> {log:q}"


# No code: editing a message in this package is no reason to compile for half an hour.
rule compile_kvrocks:
    input:
        source=rules.fetch_kvrocks.output,
    output:
        multiext("<build>/compiled/kvrocks", program="", record=".json"),
    log:
        "<logs>/compile_kvrocks.log",
    cache: output_cache_is_set()
    conda:
        "../../envs/kvrocks-build.yaml"
    threads: whole_machine
    params:
        spec=spec("compile_kvrocks"),
    shell:
        "python -m workflow.hyperkv.build.compile_kvrocks --spec {params.spec:q} --source {input.source:q}"
        " --out {output.program:q} --record {output.record:q} --jobs {threads} 2> {log:q}"


rule build_kvrocks:
    input:
        rules.compile_kvrocks.output if STAGES.is_built else [],
    output:
        program="<build>/kvrocks/kvrocks",
        record="<build>/kvrocks/kvrocks.json",
    log:
        "<logs>/build_kvrocks.log",
    conda:
        "../../envs/kvrocks-conda.yaml" if STAGES.kvrocks.source == "conda" else "../../envs/harness.yaml"
    params:
        code=code("build.build_kvrocks"),
        origin=lambda wildcards: STAGES.origin("build_kvrocks"),
    shell:
        "python -m workflow.hyperkv.build.build_kvrocks {params.origin:q}"
        " --out {output.program:q} --record {output.record:q} 2> {log:q}"


# The same source with kvrocks.patches, for the scenarios with `patched: true`.
use rule compile_kvrocks as compile_patched_kvrocks with:
    output:
        multiext("<build>/compiled/kvrocks-patched", program="", record=".json"),
    log:
        "<logs>/compile_patched_kvrocks.log",
    params:
        spec=spec("compile_patched_kvrocks"),


use rule build_kvrocks as build_patched_kvrocks with:
    input:
        rules.compile_patched_kvrocks.output if STAGES.is_built else [],
    output:
        program="<build>/kvrocks-patched/kvrocks",
        record="<build>/kvrocks-patched/kvrocks.json",
    log:
        "<logs>/build_patched_kvrocks.log",
    params:
        code=code("build.build_kvrocks"),
        origin=lambda wildcards: STAGES.origin("build_patched_kvrocks"),


# What a whole run takes from the internet; run.pack carries it.
rule downloads:
    input:
        STAGES.downloads(),
    localrule: True
