"""Section `recommend`."""

from __future__ import annotations

from typing import Literal

from .texts import Path
from .values import Load, OrNull, Section, key


class Recommend(Section):
    """What `results/recommended` is chosen for, and where its servers are to live."""

    objective: OrNull[Literal["goodput", "rps_per_gpu", "ttft"]] = None
    """`goodput`, most answers that keep experiment.slo per second; `rps_per_gpu`, most requests per
    second and GPU; `ttft`, shortest median time to first token; null takes goodput when experiment.slo
    has a bound, else rps_per_gpu, in an open loop ttft."""
    load: OrNull[Load] = key(None, unit="clients or 1/s")
    """The only load that counts; null takes each scenario's best load, for ttft the highest that all
    measured."""
    data_dir: Path | None = None
    """Folder for the recommended store's files; null takes the folder `recommended` on the disk that was
    measured."""
    install_dir: Path = key("/etc/hyperkv", pattern="^/")
    """Folder that the files are copied to, as the systemd units name it."""
