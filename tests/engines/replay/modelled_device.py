"""Engine replay over a modelled device, as several tests need it."""

from dataclasses import dataclass, replace

import numpy as np

from workflow.hyperkv.engines.replay.clients import replay
from workflow.hyperkv.engines.replay.gating import Gating, curve_points
from workflow.hyperkv.engines.replay.modelled import Device, ModelTiers
from workflow.hyperkv.engines.replay.request import KeyedConversation, ReplaySettings, VirtualClock
from workflow.hyperkv.models.gpu import GpuModel
from workflow.hyperkv.workloads import Turn
from workflow.hyperkv.workloads.chunks import chain_keys
from workflow.plugin.lmcache_striped.gate import Gate

CHUNK_BYTES = 1 << 20
GPU = GpuModel("test", prefill_tokens_per_s=2000, host_device_gbps=1e12, decode_base_s=0.01)
SETTINGS = ReplaySettings(16, 10_000, 32, 4096, 64, 1 << 30, "drop", prefix_caching=False)


@dataclass(frozen=True)
class Changing(Device):
    """A device that a test changes."""

    def changed(self, *changes: tuple[float, float]) -> "Changing":
        return replace(self, changes=changes)


QUICK = Changing(
    gbps=2, write_gbps=2, chunk_s=1e-5, call_s=1e-4
)  # a chunk of 1 MiB in 0.5 ms, computed in 16 ms
SLOW = Changing(gbps=0.02, write_gbps=2, chunk_s=1e-5, call_s=1e-4)  # in 52 ms


@dataclass(frozen=True)
class Talk:
    name: str
    ends: tuple[tuple[int, int], ...]

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(Turn(*end) for end in self.ends)

    def keyed(self, number: int) -> KeyedConversation:
        tokens = np.arange(self.ends[-1][1], dtype=np.uint32) + number * 100_000
        return KeyedConversation(self, chain_keys(tokens, SETTINGS.block_tokens))


class Recording(ModelTiers):
    """What was saved, and what was loaded by the side."""

    def __init__(self, *given):
        super().__init__(*given)
        self.saved, self.probed = [], []

    def save(self, keys):
        self.saved += keys
        return super().save(keys)

    def load_last(self, keys):
        self.probed += keys
        return super().load_last(keys)


def served(talks, device, objective="ttft", clients=2):
    """(result, gating, tiers) of talks served. device: None for no tier. objective: None for no gate."""
    clock = VirtualClock()
    tiers = None if device is None else Recording(device, CHUNK_BYTES, clock, 0)
    gating = None
    if tiers is not None and objective is not None:
        gate = Gate(objective, SETTINGS.chunk_tokens, clock, curve_points(GPU, 4096), CHUNK_BYTES)
        gating = Gating(gate, tiers, SETTINGS.chunk_tokens)
    keyed = [talk.keyed(number) for number, talk in enumerate(talks)]
    result = replay(keyed, clients, GPU, SETTINGS, tiers, 2 * clients, gating, clock)
    return result, gating, tiers
