"""Tables made up for the figures, and what a drawn figure shows."""

import io
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from workflow.hyperkv.tables.methods.dictionary import columns_dictionary
from workflow.hyperkv.tables.scenarios import SUMMARISED

WAYS = {
    "none": ("none", "", ""),
    "dram": ("dram", "dram", "inprocess"),
    "files": ("ssd", "files", "inprocess"),
    "valkey_resp": ("dram", "valkey", "resp"),
    "rocksdb_resp": ("ssd", "rocksdb", "resp"),
    "rocksdb_redis": ("ssd", "rocksdb", "redis"),
    "kvrocks": ("ssd", "kvrocks", "resp"),
    "kvrocks_tuned": ("ssd", "kvrocks", "resp"),
}
FAMILIES = tuple(WAYS)[:6]
MIB = 1 << 20


def way(family: str) -> dict[str, str]:
    return dict(zip(("tier", "store", "connector"), WAYS[family], strict=True))


def around(name: str, value: float | None, width: float = 0.1, interval: bool = True) -> dict:
    """A median's three columns."""
    ends = (value - width, value + width) if interval and value is not None else (None, None)
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}


def scenario_row(family: str, chunk: int, load: int, scenario: str | None = None) -> dict:
    """What a row of scenarios.csv says beside its figures."""
    caching = family != "none"
    return {
        "engine": "replay",
        "model": "llama-3.2-1b",
        "gpu": "H100",
        "gpu_scaled_from": "llama-3.1-8b",
        "scenario": scenario or (f"{family}-{chunk}" if caching else family),
        **way(family),
        "chunk_tokens": chunk,
        "connections": 2,
        "dram_pool_bytes": None,
        "save_decode_cache": True if caching else None,
        "kv_dtype": "bfloat16",
        "gpus": 1,
        "pair": None,
        "versions": None,
        "chunk_bytes": chunk << 15,
        "comparable_digest": "abc",
        "load": load,
        "repeats": 3,
        "valid_repeats": 3,
        "valid": True,
        "served_from": "ram",
        "reasons": "",
    }


def scenario_rows(families=FAMILIES, chunks=(16, 64), loads=(1, 4), interval=True) -> pd.DataFrame:
    """Rows of scenarios.csv; every value differs from row to row."""
    rows = []
    for family in families:
        for chunk, load in product(chunks if family != "none" else (64,), loads):
            row, value = scenario_row(family, chunk, load), 0.5 + len(rows) / 100
            for name in SUMMARISED:
                row |= around(name, value, interval=interval)
            rows.append(row)
    return pd.DataFrame(rows)


def store_rows(scenarios=("dram", "files", "rocksdb_resp"), cold=True, connections=(2,)) -> pd.DataFrame:
    """Rows of stores.csv; every value differs from row to row."""
    rows = []
    operations = ("set", "get_warm", "get_cold")
    for scenario, count, operation, size in product(scenarios, connections, operations, (MIB >> 2, MIB)):
        if WAYS[scenario][0] == "dram" and operation == "get_cold":
            continue
        row = {"scenario": scenario, **way(scenario), "connections": count, "value_bytes": size, "repeats": 3}
        row |= {"operation": operation, "cold": cold and operation == "get_cold"}
        rows.append(row | around("gbps", 1 + len(rows) / 10))
    return pd.DataFrame(rows) if rows else store_rows().head(0)


def limit_rows(connections=(2,)) -> pd.DataFrame:
    """Rows of limits.csv: 10 and more GB/s in memory, 20 and more of SET, 30 and more of GET on the socket; 1, 2 on the device."""
    gbps = {"memcpy": 10, "loopback_set": 20, "loopback_get": 30, "device_set": 1, "device_get": 2}
    return pd.DataFrame(
        {"limit": limit, "connections": count, "value_bytes": size, "gbps": value + count}
        for (limit, value), count, size in product(gbps.items(), connections, (MIB >> 2, MIB))
    )


def latency_rows(**changes) -> pd.DataFrame:
    """Rows of latency.csv: recompute, Valkey, and Kvrocks on a tmpfs that does not prove itself."""
    rows = []
    for tokens in (1024, 8192):
        row = {"engine": "vllm", "model": "m", "gpu": "NVIDIA H100", "chunk_tokens": 256, "kv_dtype": "auto"}
        row |= {"prompts": 2, "valid": True, "prompt_tokens": tokens, "cached_tokens": 0, "reasons": ""}
        row |= around("ttft_s", tokens / 40_000, tokens / 400_000) | changes
        rows.append({**row, "scenario": "none", "tier": "none", "store": "", "pass": "computed"})
        for name, valid in (("valkey", True), ("kvrocks", False)):
            own = {"scenario": name, "tier": "dram", "store": name, "connector": "resp", "valid": valid}
            rows += [{**row, **own, "pass": kind} for kind in ("saved", "loaded")]
    return pd.DataFrame(rows, columns=list(columns_dictionary()["latency"]))


TIERS = {
    "hbm": (256, None, None),
    "dram": (256, 256, None),
    "dram_large": (256, 512, None),
    "ssd": (256, None, float("inf")),
}


def hit_rate_rows(tiers=TIERS, cases=("reference", "experiment"), chunks=(16, 64, 256)) -> pd.DataFrame:
    """Rows of hit_rates.csv; tiers: MiB of HBM, DRAM and SSD by name. Case experiment is what the sweep measures."""
    rows = []
    for case, saved, (name, sizes), chunk in product(cases, (True, False), tiers.items(), chunks):
        measured = case == "experiment"
        row = {"case": case, "active_conversations": 3, "clients": 1, "requests": 30, "seeds": 2}
        row |= {"model": "m", "workload": "multi_turn", "kv_dtype": "bfloat16", "block_tokens": 16}
        row |= {"counted": "window" if measured else "all", "lookup": "rest" if measured else "prompt"}
        row |= {"save_decode_cache": saved, "tiers": name, "chunk_tokens": chunk, "ceiling_hit_rate": 0.9}
        for tier, size in zip(("hbm", "dram", "ssd"), sizes, strict=True):
            row[f"{tier}_bytes"] = None if size is None else size * MIB
        rows.append(row | around("hit_rate", 0.2 + len(rows) / 100, 0.01))
    return pd.DataFrame(rows)


def cell_rows() -> pd.DataFrame:
    """Two repeats of a store at two loads and two chunk sizes, its last cell invalid, and of HBM alone."""
    rows = [
        {
            "scenario": f"files-{chunk}",
            "store": "files",
            "chunk_tokens": chunk,
            "load": load,
            "repeat": repeat,
        }
        for chunk, load, repeat in product((16, 64), (1, 4), (1, 2))
    ]
    rows += [{"scenario": "none", "store": "", "chunk_tokens": 64, "load": 4, "repeat": 1}]
    table = pd.DataFrame(rows).assign(save_decode_cache=True, dram_pool_bytes=None, valid=True)
    table["hit_rate"] = 0.1 * table["load"] + 0.1 * table["repeat"]
    table.loc[7, "valid"] = False
    return table


def break_even_rows(gpus=("NVIDIA L4 (derived)", "NVIDIA H100"), **changes) -> pd.DataFrame:
    """Rows of break_even.csv for GPUs, of which the derived ones have no step times."""
    row = {
        "model": "m",
        "kv_dtype": "bfloat16",
        "copy_s": 0.002,
        "step_s": 0.009,
        "hit_s": 0.001,
        "gpus_for_weights": 1,
        "scaled_from": None,
    }
    row |= {"required_gbps": 5.812, "required_node_gbps": 23.2}
    return pd.DataFrame(
        {**row, "gpu": gpu, "prompt_tokens": tokens, "prefill_s": tokens / 1e4}
        | {"assumption": "published figures" if gpu.endswith("(derived)") else None}
        | changes
        for gpu, tokens in product(gpus, (1024, 8192))
    )


def placed_rows(rows: pd.DataFrame, scenarios=("dram", "files", "rocksdb_resp")) -> pd.DataFrame:
    """Rows of placed_stores.csv of scenarios on every GPU and prompt of break_even.csv."""
    return pd.DataFrame(
        {
            "model": row["model"],
            "gpu": row["gpu"],
            "kv_dtype": row["kv_dtype"],
            "prompt_tokens": row["prompt_tokens"],
            "scenario": scenario,
        }
        | way(scenario)
        | {"operation": "get_cold", "cold": True, "value_bytes": MIB, "connections": 2, "gbps": 2.0 + number}
        | {"ttft_s": row["prefill_s"] / (2 + number), "machine": "2 x CPU, 4 GiB"}
        for (_, row), (number, scenario) in product(rows.iterrows(), enumerate(scenarios))
    )


def cost_rows(families=("none", "dram", "files"), interval=True) -> pd.DataFrame:
    """Rows of cost.csv: each scenario at the SLO and at two loads."""
    parts = {"gpu": 0.5, "server": 0.2, "dram": 0.1, "ssd": 0.1, "power": 0.1}
    rows = []
    for family, at, load in product(families, ("slo", "load"), (1, 2)):
        if at == "slo" and load == 2:
            continue
        row = scenario_row(family, 64, None if at == "slo" else load, family) | {"at": at}
        row |= around("usd_per_million_tokens", 0.1 + len(rows) / 100, 0.01, interval)
        row |= {f"{part}_share": share for part, share in parts.items()}
        row |= {"users_per_gpu": 2.0, "users_at_least": family == "none", "endurance_years": None}
        row |= {"slo_tps_per_user": 50.0 if at == "slo" else None, "slo_ttft_p95_ms": None}
        rows.append(row | {"endurance_years": 2.1 if family == "files" else None})
    return pd.DataFrame(rows)


def sensitivity_rows(families=("none", "dram", "files")) -> pd.DataFrame:
    """Rows of cost_sensitivity.csv: one price that matters and one that does not."""
    prices = {"gpu_usd_per_hour": (1, 4, 2, 0.5), "ssd_usd_per_gb": (0.1, 0.2, 0.15, 0.001)}
    return pd.DataFrame(
        {"scenario": family, "price": price, "low": low, "high": high, "value": value}
        | {"usd_per_million_tokens": 1.0, "usd_at_low": 1 - share, "usd_at_high": 1 + share}
        for family, (price, (low, high, value, share)) in product(families, prices.items())
    )


STEPS = {"reference": ("dram", "bfloat16"), "more": ("dram_more", "bfloat16"), "fp8": ("dram_fp8", "fp8")}


def ladder_rows(loads=(1, 2)) -> pd.DataFrame:
    """Rows of ladder.csv: three steps of which each is twice as good as the one before, and recompute beside them."""
    rows = []
    for (number, (step, (scenario, dtype))), load in product(enumerate(STEPS.items()), loads):
        row = scenario_row("dram", 64, load, scenario) | {"step": step, "number": number, "kv_dtype": dtype}
        row |= around("ttft_p50_ms", 40.0 / 2**number, 1) | around("rps_per_gpu", 1.0 * load * 2**number)
        row |= around("tps_per_user", 50.0 - load) | {"hit_rate": 0.5}
        for gain in ("ttft_gain", "rps_gain"):
            row |= around(f"{gain}_over_previous", 2.0 if number else None)
            row |= {f"{gain}_over_first": 2.0**number if number else None}
        rows.append(row)
    beside = [scenario_row("none", 64, load) | {"step": "", "number": None} for load in loads]
    for row in beside:
        row |= (
            around("ttft_p50_ms", 30.0)
            | around("rps_per_gpu", 1.0)
            | around("tps_per_user", 40.0 - row["load"])
        )
    return pd.DataFrame([*rows, *beside])


def array_rows(loads=(1, 4), latencies=(None, 80)) -> pd.DataFrame:
    """Rows of array.csv: a store behind devices of 1, 2 and 4 GB/s, as it is, and what is beside it."""
    rows = []
    for load in loads:
        for latency, gbps in product(latencies, (1.0, 2.0, 4.0)):
            name = f"valkey-{gbps:g}gbps" + (f"-{latency}us" if latency else "")
            value = 100 / gbps + (latency or 0) / 10
            row = scenario_row("valkey_resp", 64, load, name) | {"role": "shaped", "base": "valkey"}
            row |= {
                "read_gbps": gbps,
                "latency_us": latency,
                "valid": gbps < 4,
                "reasons": "",
                "valid_repeats": 3,
            }
            row |= {"break_even_ttft_gbps": 2.5, "break_even_rps_gbps": 1.5, "predicted_gbps": 2.25}
            rows.append(row | _array_values(value))
        for role, family, value in (
            ("store", "valkey_resp", 20),
            ("disk", "files", 60),
            ("dram", "dram", 10),
            ("recompute", "none", 50),
        ):
            row = scenario_row(family, 64, load, family) | {"role": role, "valid_repeats": 3}
            row |= {"store_read_gbps": {"store": 6.0, "disk": 1.5}.get(role)}
            rows.append(row | _array_values(value))
    return pd.DataFrame(rows)


def sharing_rows(loads=(2, 4)) -> pd.DataFrame:
    """Rows of sharing.csv: recompute, a pool for each engine, and a store for each and for all, with both routings."""
    rows = []
    for load in loads:
        for routing, (family, shared) in product(
            ("request", "conversation"), (("none", True), ("dram", True), ("files", False), ("files", True))
        ):
            name = f"{family}_{routing}" + ("" if shared else "_apart")
            others = 0.2 if routing == "request" and shared else 0.0
            store = (0.2 + others) if family == "files" else 0.0
            row = scenario_row(family, 64, load, name) | {
                "engines": 2,
                "gpus": 2,
                "routing": routing,
                "shared": shared,
            }
            row |= around("held_share", 0.1) | around("store_share", store)
            row |= around("own_share", store - others if store else 0.0) | around("other_share", others)
            row |= around("rps_per_gpu", 1.0 + store) | around("ttft_p50_ms", 100 - 100 * store, 2)
            paired = family == "files" and shared
            row |= around("rps_gain", 1.25 if paired else None) | around("ttft_gain", 1.5 if paired else None)
            rows.append(row | {"valid": True, "reasons": "", "repeats": 3, "valid_repeats": 3})
    return pd.DataFrame(rows)


def _array_values(ttft: float) -> dict:
    return {
        **around("ttft_p50_ms", ttft, 1),
        **around("rps_per_gpu", 10 / ttft),
        **around("usd_per_million_tokens", 0.5 + ttft / 100, 0.01),
        **around("ttft_gain", 50 / ttft),
        **around("rps_gain", 50 / ttft),
        "verdict": "pays",
    }


def svg_of(figure: Figure) -> bytes:
    """A figure as SVG, without what changes from run to run."""
    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "test"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def all_text(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


def points(axes: Axes, hollow: bool) -> set[tuple[float, float]]:
    """Points drawn with hollow or with filled markers, the line of markers only or not."""
    return {
        (float(x), float(y))
        for line in axes.lines
        if line.get_marker() not in ("None", "none", "", None)
        if (to_hex(line.get_markerfacecolor()) == "#ffffff") == hollow
        for x, y in line.get_xydata()
    }


def legend_of(owner: Axes | Figure) -> list[str]:
    """The texts of an axes' legend, or of a figure's own."""
    legend = owner.legends[0] if isinstance(owner, Figure) else owner.get_legend()
    return [text.get_text() for text in legend.get_texts()]


def line_called(axes: Axes, label: str) -> Line2D:
    """The one line with that label."""
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return line


def bits_rows() -> pd.DataFrame:
    """Two formats and two controls before SSDs of two speeds; the seconds of one format are not known."""
    shared = {
        "model": "llama-3.1-8b",
        "gpu": "H100 80GB",
        "gpus": 1,
        "measured_model": "small",
        "prompt_tokens": 8192,
    }
    losses = {"bf16": (1.0, 0.0), "fp8": (0.5, 0.01), "cachegen": (0.3, 0.05), "rounded_2bit": (0.13, 0.8)}
    rows = []
    for name, (share, lost) in losses.items():
        own = {
            "format": name,
            "share": share,
            "agreement": 1 - lost,
            "perplexity_ratio": 1 + lost if lost < 0.1 else 2.8,
        }
        for gbps in (None, 1.0, 8.0) if name != "rounded_2bit" else (None,):
            took_s = 0.2 if gbps is None else share / gbps + 0.02
            speed = {"stated_gbps": gbps, "ttft_s": took_s, "predicted_rps_per_gpu": 1 / took_s}
            rows.append(
                shared | own | {"at_best": name == "cachegen"} | (speed if name != "rounded_2bit" else {})
            )
    return pd.DataFrame(rows, columns=list(columns_dictionary()["bits"]))
