rule fetch_trace:
    output:
        "results/traces/mooncake_conversation.jsonl",
    log:
        "<logs>/fetch_trace.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("workloads.fetch_trace"),
        url="https://raw.githubusercontent.com/kvcache-ai/Mooncake/main/FAST25-release/traces/conversation_trace.jsonl",
        sha256="b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
    shell:
        "python -m workflow.hyperkv.workloads.fetch_trace --url {params.url:q} --sha256 {params.sha256:q} --out {output:q} 2> {log:q}"


rule tokenize_texts:
    input:
        files=lambda wildcards: STAGES.texts_files(wildcards.texts),
    output:
        "results/texts/{texts}.jsonl",
    log:
        "<logs>/tokenize_texts/{texts}.log",
    localrule: True
    conda:
        "../../envs/harness.yaml"
    params:
        code=code("workloads.text.tokenize_texts"),
        python=python_of(CONFIG, LOADGEN_ENVIRONMENT),
        options=lambda wildcards: options(STAGES.texts()[wildcards.texts]),
    shell:
        "PYTHONPATH=. command {params.python:q} -m workflow.hyperkv.workloads.text.tokenize_texts {params.options:q}"
        " --out {output:q} 2> {log:q}"
