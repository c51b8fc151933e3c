"""What the tests of the gate share: a gate by a clock of its own, and one that has seen loads."""

from workflow.plugin.lmcache_striped.gate import Gate

TOKENS, CHUNK = 100, 1_000_000
S_PER_TOKEN = 1e-4  # a chunk is computed in 10 ms
CURVE = [[tokens, tokens * S_PER_TOKEN] for tokens in (100, 1_000, 10_000)]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def keys_of(name: str, count: int) -> list[str]:
    return [f"{name}-{number}" for number in range(count)]


def gated(objective: str = "ttft", points=CURVE, **options) -> tuple[Gate, Clock]:
    clock = Clock()
    return Gate(objective, TOKENS, clock, points, CHUNK, **options), clock


def load(gate: Gate, clock: Clock, keys, bytes_per_s: float) -> None:
    """A load from its wait to its end."""
    one = gate.load_waits(keys, len(keys) * CHUNK)
    gate.load_begins(one)
    clock.now += len(keys) * CHUNK / bytes_per_s
    gate.load_ends(one)


def knowing(bytes_per_s: float, objective: str = "ttft", **options) -> tuple[Gate, Clock]:
    """A gate that has seen loads of several sizes."""
    gate, clock = gated(objective, **options)
    for round_, count in enumerate((1, 20, 5, 10)):
        load(gate, clock, keys_of(f"seen{round_}", count), bytes_per_s)
    clock.now += 100.0
    return gate, clock
