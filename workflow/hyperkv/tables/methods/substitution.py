"""Layers by substitution: what a rung costs more than the rung below it, repeat by repeat; and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...records.stats import Interval, median_interval

AGREEMENT = 0.2
WHOLE, UNEXPLAINED = "whole", "unexplained"
WORDS = {
    "wire": "wire",
    "protocol": "protocol",
    "server_memory": "server memory",
    "engine": "storage engine in memory",
    "cold_engine": "cold start of the engine",
    "device": "device",
    "client": "client (redis-py)",
    "copy": "copy in memory",
    "files": "copy out of its files",
    "proof": "questions and proofs",
    UNEXPLAINED: "unexplained",
}
SERIALIZATION = ("wire", "protocol", "client")
SERVER_SIDE = ("server_memory", "engine", "cold_engine")
_CLIENT_OF = {"redis": "client_redis", "striped": "client_striped", "direct": "client_striped"}
# Of the categories that a server's samples are counted in:
NETWORK = ("network", "socket_copy")
COPIES = ("copying", "socket_copy")


@dataclass(frozen=True)
class Layer:
    """One layer: the rung that has it less the rung that does not; below None for the first."""

    name: str
    rung: str
    below: str | None

    @property
    def definition(self) -> str:
        """'null - loopback'."""
        return self.rung if self.below is None else f"{self.rung} - {self.below}"

    def of(self, rungs: Mapping[str, float | None]) -> float | None:
        """What it is of a repeat's rungs; None where one of them is not known."""
        value = rungs.get(self.rung)
        return value if self.below is None else _less(value, rungs.get(self.below))


def layers_of(scenario: Mapping[str, str], operation: str) -> tuple[Layer, ...]:
    """The layers of a scenario's set or get, from the wire up. scenario: tier, store and connector.

    Only a GET can meet a cold engine: every SET is of a warm server.
    """
    if scenario["connector"] == "inprocess":
        return (
            (Layer("device", "device", None),)
            if scenario["tier"] == "ssd"
            else (Layer("copy", "memcpy", None),)
        )
    if scenario["connector"] == "direct" and operation == "get":
        return (
            Layer("files", "files_ram", None),
            Layer("proof", "direct_ram", "files_ram"),
            Layer("device", "files_disk", "files_ram"),
        )
    layers = [
        Layer("wire", "loopback", None),
        Layer("protocol", "null", "loopback"),
        Layer("server_memory", "valkey", "null"),
    ]
    if scenario["tier"] == "ssd":
        in_memory = "store_ram_warm"
        layers.append(Layer("engine", in_memory, "valkey"))
        if operation == "get":
            layers.append(Layer("cold_engine", "store_ram_cold", in_memory))
            in_memory = "store_ram_cold"
        layers.append(Layer("device", "store_disk", in_memory))
    if client := _CLIENT_OF.get(scenario["connector"]):
        layers.append(Layer("client", client, "valkey"))
    return tuple(layers)


def left_out_of(scenario: Mapping[str, str], operation: str) -> tuple[Layer, ...]:
    """What a scenario's get has not, since its bytes cross no wire: what connector striped takes beyond it, from memory and
    from the disk."""
    if scenario["connector"] != "direct" or operation != "get":
        return ()
    return (Layer("wire_ram", "striped_ram", "direct_ram"), Layer("wire_disk", "striped_disk", WHOLE))


def seconds_by_layer(layers: Sequence[Layer], rungs: Mapping[str, float | None]) -> dict[str, float | None]:
    """One repeat's layers from its rungs, then what of the whole they leave: `unexplained`. None: not known."""
    found = {layer.name: layer.of(rungs) for layer in layers}
    return found | {UNEXPLAINED: _less(rungs.get(WHOLE), together(found, list(found)))}


def distinguishable(interval: Interval) -> bool:
    """Whether the interval does not span 0; never of a single repeat."""
    low, high = interval.low, interval.high
    return low is not None and high is not None and (low > 0 or high < 0)


def share_interval(parts: Sequence[float | None], wholes: Sequence[float | None]) -> Interval:
    """Median share of the whole over repeats, paired, with its interval."""
    return median_interval(
        [
            None if part is None or not whole else part / whole
            for part, whole in zip(parts, wholes, strict=True)
        ]
    )


def together(layers: Mapping[str, float | None], names: Sequence[str]) -> float | None:
    """Several layers of one repeat in sum; None where one is not known."""
    known = [value for name in names if (value := layers[name]) is not None]
    return sum(known) if len(known) == len(names) else None


def agree(one: float | None, other: float | None) -> bool | None:
    """Whether two CPU figures lie within 20 % of the larger one; None when either is unknown."""
    if one is None or other is None:
        return None
    return abs(one - other) <= AGREEMENT * max(abs(one), abs(other))


def serialization_verdict(serialization: Interval, device: Interval, server_side: Interval) -> str:
    """Whether "network serialization, not disk I/O" holds, from shares of the whole.

    `confirmed`: serialization (wire, protocol, client) lies above the device and above the server's own work (its memory and
    its engine) with all of its interval; `refuted`: below either; else, or without intervals, `undecided`.
    """
    others = (device, server_side)
    if any(_above(other, serialization) for other in others):
        return "refuted"
    return "confirmed" if all(_above(serialization, other) for other in others) else "undecided"


def _above(one: Interval, other: Interval) -> bool:
    return one.low is not None and other.high is not None and one.low > other.high


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other
