"""A stand-in for vLLM's server: the pages that HyperKV uses, and a prefix cache "outside" that forgets nothing.

FAKE_VLLM: `die` ends at start with a known cause, `unloaded` counts hits that no log line or store confirms, `wrong`
answers with another token from the cache, `slow` never answers a completion, `perish` dies of an engine's exception when
a prompt comes again, `wounded` writes one and lives, `left` says that lookups left chunks, `prompts` saves no answers. What
FAKE_TOLD has goes over what /server_info says of the cache and the GPUs. Where LMCache's configuration has connector
striped, whole chunks of FAKE_KV_BYTES a token and rank are saved and loaded through it.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

MODE = os.environ.get("FAKE_VLLM", "")
BLOCK = 16
CONFIG = yaml.safe_load(Path(os.environ.get("LMCACHE_CONFIG_FILE", os.devnull)).read_text()) or {}
counts = {"local_compute": 0, "local_cache_hit": 0, "external_kv_transfer": 0}
seen: dict[tuple, int] = {}
lock = threading.Lock()
MODEL = sys.argv[sys.argv.index("--model") + 1] if "--model" in sys.argv else ""
RANKS = 1
if "--tensor-parallel-size" in sys.argv:
    RANKS = int(sys.argv[sys.argv.index("--tensor-parallel-size") + 1])


class Striped:
    """What LMCache does with the plugin: chunk i of a prompt under a key of the prompt's first i + 1 chunks for each rank."""

    def __init__(self, config: dict):
        import numpy as np

        from workflow.plugin.lmcache_striped.cache import StripedCache
        from workflow.plugin.lmcache_striped.cache_settings import settings_from

        settings = settings_from(config["extra_config"], "remote_storage_plugin.striped")
        self._cache = StripedCache(
            settings,
            lambda line: print(f"LMCache ERROR: striped: {line}", flush=True),
            note=lambda line: print(f"LMCache INFO: striped: {line}", flush=True),
        )
        self._chunk = config["chunk_size"]
        self._value = np.ones(self._chunk * int(os.environ["FAKE_KV_BYTES"]), np.uint8)
        self._empty = np.empty_like

    def _keys(self, prompt: tuple) -> list[bytes]:
        return [
            f"{MODEL}@{hash(prompt[: end + self._chunk])}@{rank}".encode()
            for end in range(0, len(prompt) - self._chunk + 1, self._chunk)
            for rank in range(RANKS)
        ]

    def save(self, prompt: tuple, held: int = 0) -> int:
        keys = self._keys(prompt)[held // self._chunk * RANKS :]
        for key, value in self._cache.worth_saving([(key, self._value) for key in keys]):
            self._cache.offer([key], [value], lambda _: None)
        self._cache.wait_saved(10)
        return len(self._keys(prompt)) // RANKS * self._chunk

    def load(self, prompt: tuple) -> int:
        keys = self._keys(prompt)
        keys = keys[: self._cache.count_present(keys)]
        found = self._cache.load(keys, [self._empty(self._value) for _ in keys])
        return found.count(True) // RANKS * self._chunk


striped = Striped(CONFIG) if CONFIG.get("remote_storage_plugins") else None


def server_info() -> dict:
    """/server_info?config_format=json, as far as it is read."""

    def value(option: str, otherwise: str) -> str:
        return sys.argv[sys.argv.index(option) + 1] if option in sys.argv else otherwise

    told = {
        "cache_dtype": value("--kv-cache-dtype", "auto"),
        "block_size": int(value("--block-size", "16")),
        "enable_prefix_caching": "--enable-prefix-caching" in sys.argv,
        "num_gpu_blocks": 100,
        "tensor_parallel_size": int(value("--tensor-parallel-size", "1")),
    } | json.loads(os.environ.get("FAKE_TOLD", "{}"))
    return {"vllm_config": {"cache_config": told, "parallel_config": told}}


def say(line: str) -> None:
    """A line of LMCache, once per rank, each in a process of its own where there are several."""
    for rank in range(RANKS):
        print(f"(Worker_TP{rank} pid={50 + rank}) {line}" if RANKS > 1 else line, flush=True)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, body: str, kind: str = "text/plain") -> None:
        data = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/metrics":
            lines = [
                f'vllm:prompt_tokens_by_source_total{{source="{key}"}} {value}'
                for key, value in counts.items()
            ]
            self.reply("# TYPE vllm:prompt_tokens_by_source counter\n" + "\n".join(lines) + "\n")
        elif self.path.startswith("/server_info"):
            self.reply(json.dumps(server_info()), "application/json")
        else:
            self.reply("ok")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.path == "/tokenize":
            words = " ".join(message["content"] for message in body["messages"]).split()
            return self.reply(
                json.dumps({"tokens": [sum(word.encode()) for word in words]}), "application/json"
            )
        if self.path != "/v1/completions":
            return self.reply("ok")
        if MODE == "slow":
            threading.Event().wait(60)
        prompt = tuple(body["prompt"])
        if MODE == "left":
            print(
                "LMCache INFO: striped: gate found 1 of 3 chunks, load 0.0100 s, first token 0.0200 s",
                flush=True,
            )
        known = prompt[: len(prompt) // BLOCK * BLOCK] in seen
        if MODE == "wounded" or (MODE == "perish" and known):
            print("(EngineCore pid=7) ERROR 11-28 02:26:52 [core.py:1111] Traceback (most recent call last):")
            print(
                "(EngineCore pid=7) ERROR 11-28 02:26:52 [core.py:1111] torch.AcceleratorError: CUDA error: unspecified",
                flush=True,
            )
        if MODE == "perish" and known:
            print(
                "(APIServer pid=6) ERROR 11-28 02:26:53 [utils.py:3] EngineDeadError: EngineCore", flush=True
            )
            os._exit(1)
        offloads = "--kv-transfer-config" in sys.argv
        with lock:
            held = max((n for key, n in seen.items() if prompt[:n] == key), default=0) if offloads else 0
            held = striped.load(prompt) if striped else held
            cached = min(held // BLOCK * BLOCK, len(prompt) - 1)
            whole = striped.save(prompt) if striped and not cached else len(prompt) // BLOCK * BLOCK
            seen[prompt[:whole]] = whole
            answer = [sum(prompt) % 97] * body["max_tokens"] if body.get("return_token_ids") else []
            if answer and MODE != "prompts":
                context = (*prompt, *answer)
                end = striped.save(context, held or whole) if striped else len(context) // BLOCK * BLOCK
                seen[context[:end]] = end
            counts["external_kv_transfer"] += cached
            counts["local_compute"] += len(prompt) - cached
        if offloads and cached and MODE != "unloaded":
            say(
                f"LMCache INFO: [req_id=1] Retrieved {held} out of {held} required tokens (from {held} total tokens). size: 0.1 gb, cost 2.0 ms, throughput: 1 GB/s;"
            )
        if offloads and not cached:
            say(
                f"LMCache INFO: [req_id=1] Stored {whole} out of total {whole} tokens. size: 0.1 GB, cost 4.0 ms, throughput: 1 GB/s"
            )
        token = "w7" if MODE == "wrong" and cached else f"w{sum(prompt) % 97}"
        choice = {
            "index": 0,
            "text": token,
            "token_ids": answer,
            "logprobs": {"tokens": [token], "token_logprobs": [-1.0]},
        }
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        events = [{"choices": [choice]}, {"choices": [], "usage": usage}]
        self.reply(
            "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n",
            "text/event-stream",
        )


if __name__ == "__main__":
    if MODE == "die":
        print("\n".join(f"line {number}" for number in range(50)))
        print(
            "ValueError: Free memory on device (3.0/80.0 GiB) on startup is less than desired GPU memory utilization"
        )
        sys.exit(1)
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
