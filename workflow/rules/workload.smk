rule fetch_trace:
    output:
        ensure(
            "results/traces/mooncake_conversation.jsonl",
            sha256="b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        ),
    log:
        "<logs>/fetch_trace.log",
    retries: 2
    params:
        url="https://raw.githubusercontent.com/kvcache-ai/Mooncake/main/FAST25-release/traces/conversation_trace.jsonl",
    shell:
        "curl --fail --location --silent --show-error --output {output:q} {params.url:q} 2> {log:q}"
