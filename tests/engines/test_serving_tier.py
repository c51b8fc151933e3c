"""The plugin behind the pool of vLLM's own offloading: two vLLMs that serve a real small model, and one Valkey below both.

It runs in what `make test-engine` made.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import yaml

from tests.helpers import eventually
from tests.stores.conftest import store_config
from tests.workflow_helpers import merged
from workflow.hyperkv.base.surroundings import import_path
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.environments import made_model_dir
from workflow.hyperkv.config.plan import measured_workload, sweep_spec
from workflow.hyperkv.connectors.vllm_own import variables as own_variables
from workflow.hyperkv.engines.vllm import lmcache
from workflow.hyperkv.engines.vllm.command import command, settings_of, variables
from workflow.hyperkv.engines.vllm.server import EngineServers, ServerCommand
from workflow.hyperkv.engines.vllm.single import Answer, send
from workflow.hyperkv.machine.processes import free_port
from workflow.hyperkv.models.geometry import load_geometry
from workflow.hyperkv.stores.base import Store
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.registry import make_store

pytestmark = pytest.mark.engine
FILES = ("config/scenarios.yaml", "config/config.yaml", "config/engine-cpu.yaml", "tests/engines/run.yaml")
CHUNK_TOKENS, CHUNKS, TOKEN_BYTES = 64, 8, 23_040
CHUNK_BYTES, STRIPE_BYTES, POOL_CHUNKS = CHUNK_TOKENS * TOKEN_BYTES, 360 << 10, 20
STRIPES = 1 + CHUNK_BYTES // STRIPE_BYTES  # the first has no part of the chunk
HIT = CHUNKS * CHUNK_TOKENS
PROMPTS = 5
TIER = {
    "tier": "dram",
    "store": "valkey",
    "connector": "striped_tier",
    "stripe_bytes": STRIPE_BYTES,
    "vllm": {"staging_bytes": POOL_CHUNKS * CHUNK_BYTES},
}


class Serving:
    """A vLLM that serves, with what it counts."""

    def __init__(self, servers: EngineServers, prompts: list[list[int]]):
        self.servers, self.prompts = servers, prompts

    def ask(self, number: int) -> Answer:
        return send(self.servers.url, self.prompts[number], 8, 60)

    def counted(self, name: str) -> int:
        return self.servers.counters()[name] or 0

    def forget(self) -> None:
        self.servers.reset_hbm(pool=True)


class Values:
    """The stripes in the store, by the prompt that they are of."""

    def __init__(self, store: Store):
        self._store, self.of = store, {}

    def arrived(self, number: int) -> None:
        """A prompt's were saved."""
        known = {key for keys in self.of.values() for key in keys}
        self.of[number] = eventually(
            lambda: new if len(new := self._keys() - known) == CHUNKS * STRIPES else None
        )

    def _keys(self) -> set[bytes]:
        with self._store.client() as client:
            return {*client.keys()}

    def change(self, number: int, damage: Callable[[dict[bytes, bytes]], dict[bytes, bytes | None]]) -> None:
        with self._store.client() as client:
            keys = sorted(self.of[number])
            values = dict(zip(keys, client.mget(keys), strict=True))
            for key, value in damage(values).items():
                client.delete(key) if value is None else client.set(key, value)


def flipped(value: bytes) -> bytes:
    return value[:-9] + bytes([value[-9] ^ 1]) + value[-8:]


# What happens to a prompt's stripes, by its number.
DAMAGE: tuple[Callable[[dict[bytes, bytes]], dict[bytes, bytes | None]], ...] = (
    lambda values: {key: flipped(values[key]) for key in [*values][:1]},
    lambda values: {key: value[: len(value) // 2] for key, value in values.items()},
    lambda values: dict.fromkeys([*values][-1:], b""),
    lambda values: dict(zip(values, [*values.values()][::-1], strict=True)),
    lambda values: dict.fromkeys([*values][30:31]),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    with make_store("valkey", store_config(tmp_path_factory.mktemp("valkey"), "valkey")) as one:
        yield one


@pytest.fixture(scope="module")
def config() -> dict:
    full = merged(*(yaml.safe_load(Path(name).read_text()) for name in FILES))
    return checked(merged(full, {"experiment": {"scenarios": ["none", "own"]}, "scenarios": {"own": TIER}}))


@pytest.fixture(scope="module")
def prompts(config) -> list[list[int]]:
    """Words of the run's conversations, each from another place on."""
    lines = Path(measured_workload(config)["tokens"]).read_text().splitlines()
    words = [token for line in lines for token in json.loads(line)["tokens"]]
    return [[*words[start:], *words[:start]][: HIT + 8] for start in range(0, 200 * PROMPTS, 200)]


@pytest.fixture(scope="module")
def serving(store, config, prompts, tmp_path_factory) -> Iterator[tuple[Serving, Serving]]:
    """Two of them, started side by side by threads that outlive them, since the kernel ends a process with the thread that started it."""
    folder = tmp_path_factory.mktemp("serving")
    with ThreadPoolExecutor(2) as threads, ExitStack() as stack:
        begun = [threads.submit(stack.enter_context, _servers(folder / name, store, config)) for name in "ab"]
        first, other = (Serving(each.result(), prompts) for each in begun)
        yield first, other


def _servers(folder: Path, store: Store, config: dict) -> EngineServers:
    folder.mkdir()
    spec = json.loads(sweep_spec(config, "own"))
    settings, scenario = settings_of(spec), spec["scenario"]
    held = Held(folder)
    told = lmcache.offload(
        scenario, settings["staging_bytes"], held, store.endpoints, 0, 0, device=settings["device"]
    )
    python = json.loads(Path("results/build/current/current.json").read_text())["python"]
    port, geometry = free_port(), load_geometry(Path(spec["model"]), "auto")
    model = Path(made_model_dir(config))
    argv = command(python, model, settings, geometry, "auto", HIT + 64, port, told.transfer)
    environment = variables(settings, None, folder) | own_variables(scenario, "cpu", import_path())
    own = ServerCommand("vllm", argv, port, "/health", folder / "vllm.log", settings["ready_timeout_s"])
    return EngineServers([own], environment)


@pytest.fixture(scope="module")
def values(store) -> Values:
    return Values(store)


@pytest.fixture(scope="module")
def computed(serving, values) -> list[Answer]:
    """Every prompt's answer, computed and saved by the first vLLM."""
    found = []
    for number in range(PROMPTS):
        found.append(serving[0].ask(number))
        values.arrived(number)
    return found


def test_every_process_of_a_vllm_can_be_known_by_its_environment(serving):
    """After kill -9 of a stage its guard finds them so; their titles (setproctitle) would be written over it."""
    own = psutil.Process().children(recursive=True)
    titled = [each for each in own if "".join(each.cmdline()).startswith("VLLM::")]
    assert len(titled) == len(serving)
    assert all("HYPERKV_OWNED" in each.environ() for each in titled)


def test_what_the_pool_is_too_small_for_comes_back_from_the_store(serving, computed):
    first = serving[0]
    before = first.counted("disk_hit_tokens"), first.counted("tier_read_bytes")
    assert [answer.cached_tokens for answer in computed] == [0] * PROMPTS
    again = first.ask(0)
    assert (again.tokens, again.cached_tokens) == (computed[0].tokens, HIT)
    assert first.counted("disk_hit_tokens") == before[0] + HIT
    assert first.counted("tier_read_bytes") == before[1] + HIT * TOKEN_BYTES
    assert first.counted("tier_written_bytes") == PROMPTS * HIT * TOKEN_BYTES


def test_another_server_finds_what_it_never_computed(serving, computed, store):
    other, served = serving[1], store.counters().served_bytes
    for number, wanted in enumerate(computed):
        again = other.ask(number)
        assert (again.tokens, again.cached_tokens) == (wanted.tokens, HIT)
    total = PROMPTS * HIT
    assert (other.counted("disk_hit_tokens"), other.counted("host_hit_tokens")) == (total, 0)
    assert other.counted("tier_read_bytes") == total * TOKEN_BYTES <= store.counters().served_bytes - served
    assert (other.counted("tier_load_failures"), other.counted("tier_written_bytes")) == (0, 0)


@pytest.mark.parametrize("number", range(len(DAMAGE)))
def test_a_damaged_value_is_computed_again_and_mended(serving, computed, values, number):
    other, wanted = serving[1], computed[number].tokens
    values.change(number, DAMAGE[number])
    other.forget()
    damaged = other.ask(number)
    assert damaged.tokens == wanted
    assert damaged.cached_tokens < HIT
    other.forget()
    mended = eventually(
        lambda: answer if (answer := asked_again(other, number)).cached_tokens == HIT else None
    )
    assert mended.tokens == wanted


def asked_again(server: Serving, number: int) -> Answer:
    server.forget()
    return server.ask(number)


def test_a_store_that_is_gone_costs_hits_alone(serving, computed, store):
    store.stop()
    for server in serving:
        server.forget()
        answer = server.ask(0)
        assert (answer.tokens, answer.cached_tokens) == (computed[0].tokens, 0)
