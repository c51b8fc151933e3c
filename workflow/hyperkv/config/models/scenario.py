"""A scenario of section `scenarios`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WrapValidator

from ....plugin.lmcache_striped.second_use import SAVES
from ...connectors.registry import GATED, STRIPED
from ...engines.vllm.lmcache import SERVED
from ...models.serde import SERDES
from ...stores.base import DIRECT
from ...stores.registry import STORES
from .engines import Vllm
from .faults import fault
from .texts import Address, Folder, MetricsUrl, Name, Path, SettingName, VariableName, Words
from .values import (
    Boolean,
    Connections,
    Count,
    Gbps,
    Load,
    OrNull,
    Positive,
    Section,
    Several,
    Size,
    Typed,
    Whole,
    as_it_is,
    given,
    key,
    optional,
)

if TYPE_CHECKING:
    OwnVllm = Vllm
    StoreName = str
    SerdeName = str
    SaveName = str
else:
    StoreName = Literal[tuple(STORES)]
    SerdeName = Literal[SERDES]
    SaveName = Literal[SAVES]
    OwnVllm = given("OwnVllm", Vllm, ("pairs", "device"))
GateWord = Annotated[
    Literal["off", "ttft", "throughput"], BeforeValidator(lambda word: "off" if word is False else word)
]  # off without quotes is false to YAML
KvDtype = Literal["auto", "bfloat16", "float16", "float32", "fp8"]
Chunk = Count | Annotated[Several[Count], Field(min_length=1)]
Latency = Annotated[float, Field(gt=0, le=1_000_000), WrapValidator(as_it_is)]
WITH_SOCKETS = ("resp", *STRIPED)


@dataclass(frozen=True)
class ReadBy:
    """Which connectors read a key, none for all. told: whether a spec has it at its default as well. others: what the others do
    instead, where it is refused with them.
    """

    connectors: tuple[str, ...] = ()
    others: str = ""
    told: bool = False

    def has(self, connector: str | None) -> bool:
        """Whether a connector reads the key."""
        return not self.connectors or connector in self.connectors


def _named(store: Any) -> Any:
    """A store is a word; what is said of it stands beside it."""
    if isinstance(store, Mapping) and isinstance(store.get("kind"), str):
        keys = ", ".join(name for name in store if name != "kind")
        raise fault(
            f"a store is named by a word; write store: {store['kind']}"
            + (f", and {keys} beside it" if keys else "")
        )
    return store


class Shape(Section):
    """A device that the store is held to be, to learn which one pays before it is bought."""

    read_gbps: OrNull[Gbps] = key(None, unit="10^9 bytes/s")
    """10^9 bytes per second that loads get, all connections together; null for as many as the store has. More than it has makes
    the cell invalid, and the reason says what it has."""
    write_gbps: OrNull[Gbps] = key(None, unit="10^9 bytes/s")
    """The same for saves. The device does one thing at a time: what it writes it does not read meanwhile."""
    latency_us: OrNull[Latency] = key(None, unit="us")
    """What each stripe waits before its bytes move; of a connector without stripes each chunk."""
    queue_depth: OrNull[Count] = key(None, unit="stripes")
    """Stripes that the device has under way at most; null for as many as the connector has."""


class PlaceTls(Section):
    """How the connections to a store at a place are kept from others."""

    ca_file: OrNull[Path] = None
    """Certificates (PEM) of whoever signed the server's; null for those that the system trusts."""
    cert_file: OrNull[Path] = None
    """This client's own certificate (PEM), where the server asks for one; null for none."""
    key_file: OrNull[Path] = None
    """The certificate's key (PEM); null where it is in cert_file."""


class Place(Section):
    """Servers that are there already, at `addresses`: they are not started, stopped or emptied. Or the other node of the job, `node`,
    where the job starts them."""

    node: Literal["other"] | None = None
    """other: the job has two nodes to itself, and the store's server runs on the second one, on the disk that is data_dir there; its
    password is made for the run unless the scenario names one. It needs Slurm. null with addresses."""
    interface: Name | None = None
    """With node. The network interface at which the server listens there, such as ib0; null for the address that Slurm knows."""
    addresses: Annotated[Several[Address], Field(min_length=1, max_length=64)] = optional(unit="address")
    """valkey and kvrocks. Where the store's servers listen that are there already, host:port or [IPv6]:port: none is started or stopped,
    keys begin with a prefix of the run, and are deleted at its end. Several share the stripes, always in this order."""
    cluster: Boolean = False
    """Whether the addresses are nodes of a cluster of Valkey or Kvrocks: a few are enough, since they say the others. Stripes are where
    their hash slots are. With connectors with stripes."""
    user: OrNull[Words] = None
    """Whose password password_file or password_env is, of the server's access control list; null for the default user."""
    tls: PlaceTls | None = None
    """TLS, {} for that of the system; null for connections in the clear."""
    consent: Boolean = False
    """Whether everything in these servers may be deleted: they are emptied before and after each job."""
    metrics_url: OrNull[MetricsUrl] = None
    """Page of the Prometheus node exporter on the servers' host, which proves what was read from `metrics_device`; null for no
    proof, without which cells of tier ssd are not valid."""
    metrics_device: Name | None = None
    """The block device of that host that the store's files are on, as the page names it, such as nvme0n1 or md0."""


class Settings(Section):
    """What a preset may have, and a scenario on top of it."""

    settings: dict[SettingName, str | int | float] = key({}, unit="keys")
    """The store's own keys under its own names: valkey.conf keys for valkey, kvrocks.conf keys for
    kvrocks (on top of its preset; `workers` may be `cores`), the same and direct_io for rocksdb,
    direct_io for files, those of LMCache's adapter for fs_native, raw_block and nixl, and
    of Mooncake's files (KEY is its variable MOONCAKE_OFFLOAD_KEY). Those that the workflow sets or counts on are refused with the key that sets
    them."""
    environment: dict[VariableName, Words] = key({}, unit="text")
    """Environment variables of the store's server, such as MALLOC_CONF."""
    ignored_settings: Several[Name] = key([], unit="names")
    """kvrocks. Keys of `settings` that the server may not know; they are reported. Any other key that it
    does not know, or applies differently, fails the cell."""


class Scenario(Settings):
    """Scenarios by name. One with several chunk sizes becomes one per size, named NAME-SIZE."""

    tier: Literal["none", "dram", "ssd"]
    """Where KV that HBM lost lives; `none` computes it again."""
    store: Annotated[StoreName, BeforeValidator(_named)] = optional()
    """What holds KV. Tier dram takes dram or valkey, tier ssd takes files, rocksdb, kvrocks, or with engine
    vllm LMCache's own fs_native, raw_block and nixl (connector mp) and mooncake; with a `data_dir` on a tmpfs these are of
    tier dram too."""
    connector: Literal[
        "inprocess",
        "redis",
        "resp",
        "striped",
        "direct",
        "mp",
        "striped_mp",
        "direct_mp",
        "offloading",
        "striped_tier",
        "mooncake",
    ] = optional()
    """How the engine reaches the store. `inprocess` for dram and files; `redis`, `resp` or `striped` for
    servers, the last with several values per chunk, its stripes; `direct` the same for servers that say where a stripe
    lies in their files, which are read there. With engine vllm the first five are LMCache inside
    vLLM; `mp` is an LMCache server beside it, `striped_mp` and `direct_mp` the same with stripes, `offloading` vLLM's own
    connector, `striped_tier` the same with stripes behind its pool, `mooncake` vLLM's own to a Mooncake store."""
    pair: OrNull[Literal["current", "reference"]] = None
    """Engine vllm. Which versions of vLLM and LMCache serve it (vllm.pairs); null takes reference for LMCache inside
    vLLM, else current. Every pair that is measured needs a scenario of tier none of its own: ratios are taken
    within a pair."""
    chunk_tokens: Chunk = key(64, unit="tokens")
    """Tokens per cache entry; one number or a list. With engine replay a multiple of 16,
    its block."""
    connections: Whole = key(2, unit="connections", ge=1, le=256)
    """Parallel connections to a server, or threads in process, for fs_native and raw_block threads that load.
    With LMCache inside vLLM each GPU of vllm.tensor_parallel has so many."""
    stripe_bytes: Annotated[Size, ReadBy(STRIPED, told=True)] = key("1 MiB")
    """Connectors with stripes. Bytes of a chunk in one value, the store's value size whatever the chunk;
    at least 4 KiB."""
    stripes_in_flight: Annotated[OrNull[Count], ReadBy(STRIPED, told=True)] = key(4, unit="values")
    """Connectors with stripes. Values asked for or sent and not answered yet, on each connection; null for
    all of a request, which a server then holds in its memory at once."""
    save_connections: Annotated[OrNull[Connections], ReadBy(STRIPED, "saves over its other connections")] = (
        key(None, unit="connections")
    )
    """Connectors with stripes, engine vllm. Connections to each server for saves, beside `connections` for
    loads; null for as many. Fewer leave more of the processor to the engine while it saves."""
    save: Annotated[SaveName, ReadBy(STRIPED, "saves at the first use")] = "first_use"
    """Connectors with stripes. At which use a chunk is written to the store: `first_use`, when it was computed, or
    `second_use`, when it was computed once more, since it was asked for and was not there. The second writes less, and hits a use
    later."""
    gate: Annotated[GateWord, ReadBy(GATED, "has no gate")] = "off"
    """striped, direct, striped_mp and direct_mp. How much of what is there a lookup finds: `off`, everything; `ttft`, what makes the
    first token earliest, by the load that is predicted against computing the same tokens; `throughput`, the
    same with a price on the GPU's time when requests wait. The rest of the prompt is computed."""
    shared: Annotated[Boolean, ReadBy()] = True
    """Several engines (experiment.engines). Whether an engine finds what another saved; false keeps the KV of each apart in the same store,
    which is what sharing is compared with. A DRAM pool is each engine's own in any case."""
    routing: Annotated[Literal["conversation", "request"], ReadBy()] = "conversation"
    """Several engines. Which of them a request goes to: `conversation`, all of a conversation to one, or `request`, each to any
    (engine replay). AIPerf keeps conversations at their engines; those of a trace or of documents have one request each."""
    bound_bytes: Annotated[OrNull[Size], ReadBy((*STRIPED, "inprocess"), "keeps to no bound")] = None
    """Connectors with stripes, and files with engine replay. What the store keeps at most, of all servers together: past it the least
    recently used chunks go, and their space is given back. At least what the longest prompt takes. Of kvrocks the patched
    program does it (patch compaction-by-keys). null for no bound."""
    serde: Annotated[SerdeName | None, ReadBy(SERVED, "has no serde")] = None
    """mp, striped_mp and direct_mp. What LMCache's server shrinks a chunk with on its way to the store: `fp8`, or one of
    TurboQuant's, whose kernels need CUDA; null for nothing. Both lose precision, so that the first token from
    the tier may be another one than computed."""
    shape: Annotated[Shape | None, ReadBy()] = None
    client: Annotated[Literal["python", "native"], ReadBy(STRIPED, "has no client native")] = "python"
    """Connectors with stripes. What receives stripes: `python`, a thread per connection, or `native`,
    compiled code (rule build_striped, which needs a C compiler and xxhash.h), so that Python's lock is
    held once per connection and load."""
    read: Annotated[Literal["cached", "direct", "auto"], ReadBy(DIRECT, "reads no files", told=True)] = "auto"
    """direct and direct_mp. How files are read: `cached`, by the page cache; `direct`, past it where the file system
    allows it; `auto`, past it what is not in it (with client python as `direct`)."""
    processes: Annotated[Whole, ReadBy(STRIPED, "reaches one process")] = key(
        1, unit="processes", ge=1, le=64
    )
    """Connectors with stripes. Server processes that share the stripes by the chunk's hash, each with its
    own folder, and `port` counted up."""
    socket: Annotated[Literal["tcp", "unix"], ReadBy(WITH_SOCKETS, "has no unix sockets")] = "tcp"
    """resp and connectors with stripes. How the server is reached on this machine, over loopback TCP or a
    unix socket."""
    dram_pool_bytes: OrNull[Size] = None
    """Size of the DRAM pool, for all GPUs together; for tier ssd a pool in front of the store, null for
    none. Before a store LMCache's server keeps vllm.staging_bytes of it free, for loads."""
    capacity_bytes: OrNull[Size] = None
    """Bound of a valkey store; null for none."""
    save_decode_cache: Boolean = True
    """Whether the KV of answers is saved. Engine vllm tries it out; a cell whose engine does otherwise is
    invalid (LMCache's server before 0.5.6 always saves it)."""
    password_file: Annotated[Path | None, ReadBy()] = None
    """valkey, kvrocks, rocksdb. File of one line with the password that the server asks for, mode 600; it is read
    where it is used, and nothing that a run writes has it. null for a server without a password."""
    password_env: Annotated[VariableName | None, ReadBy()] = None
    """valkey, kvrocks, rocksdb. The same, with the name of an environment variable instead of a file."""
    place: Annotated[Place | None, ReadBy()] = None
    """Where the store is there already; null for one that the job starts on this machine."""
    preset: Name | None = None
    """kvrocks. Name of a file in config/kvrocks whose settings, environment and ignored_settings are
    taken first; null for none."""
    patched: Annotated[Boolean, ReadBy()] = False
    """kvrocks. Whether the server is a Kvrocks compiled with the patches of `kvrocks.patches`; sources
    release, git and path can be patched."""
    page_cache: Literal["evict", "keep"] = "evict"
    """kvrocks. `evict` takes the store's files out of the page cache before every load, so that the
    device answers, as it would with a working set larger than RAM, and has a prompt of the single
    requests leave the server's write buffers, and a pool before any store, before it is asked for again; `keep` leaves them there. The
    other stores have direct_io for that."""
    port: Whole = key(0, unit="port", ge=0, le=65535)
    """TCP port of the store's server on 127.0.0.1; 0 takes a free one."""
    timeout_s: OrNull[Positive] = key(None, unit="seconds")
    """Longest time that a call to the store may take on a connection, beside a second for every MiB that
    it moves; past it the cell fails. A call that falls behind that rate by so long fails, too. null for 30; with engine vllm for the
    plugin's 3, past which it leaves the store alone for ten seconds and finds nothing."""
    data_dir: Folder | None = None
    """This scenario's own folder for its store's files; null takes data_dir."""
    kv_dtype: OrNull[KvDtype] = None
    """This scenario's own number format of the KV cache; null takes kv_dtype."""
    vllm: OwnVllm = key({}, unit="keys")
    """Engine vllm. Keys of `vllm` that are different for this scenario."""
    lmcache: Typed = key({}, unit="keys")
    """Engine vllm. LMCache's own keys under its own names, beside those that the scenario sets, which are
    refused: of its configuration file, or with connector mp options of `lmcache server` (l1_use_hugepages
    for --l1-use-hugepages). Text that is exactly true, false, yes, no, null or a number stands for that."""
    loads: Several[Load] = optional(unit="clients or 1/s")
    """This scenario's own loads instead of experiment.loads; with engine vllm none ([]) for single
    requests alone."""


class Preset(Settings):
    """A file of config/kvrocks."""

    description: str = key(unit="text")
    """What it is for."""
    settings: dict[SettingName, str | int | float] = key(unit="keys")
    """The server's keys."""


ScenarioName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*(-[a-z0-9_]+)*$", max_length=100)]


READ_BY = {
    name: mark
    for name, field in Scenario.model_fields.items()
    for mark in field.metadata
    if isinstance(mark, ReadBy)
}
OF_SEVERAL = ("shared", "routing")
OF_VLLM = ("save_connections", "serde")
ALONE = (
    *("tier", "store", "connector", "settings", "environment", "ignored_settings", "port", "timeout_s"),
    *(name for name in READ_BY if name not in (*OF_VLLM, *OF_SEVERAL, "bound_bytes", "gate", "save")),
)


def told(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """A scenario less the keys that its connector does not read, and those that say nothing at their defaults."""
    return {name: value for name, value in scenario.items() if name not in READ_BY or _says(scenario, name)}


def _says(scenario: Mapping[str, Any], name: str) -> bool:
    mark, value = READ_BY[name], scenario[name]
    nothing = value is None or (not mark.told and value == Scenario.model_fields[name].default)
    return mark.has(scenario.get("connector")) and not nothing


def unread(scenario: Mapping[str, Any]) -> list[str]:
    """Keys of a scenario that are set and that its connector does not read, of those that it refuses."""
    refused = [name for name, mark in READ_BY.items() if mark.others and not mark.has(scenario["connector"])]
    return [name for name in refused if scenario[name] != Scenario.model_fields[name].default]
