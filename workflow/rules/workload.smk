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
