"""Section `recommend`."""

from __future__ import annotations

from typing import Literal

from .texts import Path, text
from .values import Count, OrNull, Positive, Section, key


class Recommend(Section):
    """What `results/recommended` is chosen for, and where its servers are to live."""

    objective: OrNull[Literal["goodput", "rps_per_gpu", "ttft"]] = key(
        "word",
        "`goodput`, most answers that keep experiment.slo per second; `rps_per_gpu`, most requests per second and GPU; `ttft`, "
        "shortest median time to first token; null takes goodput when experiment.slo has a bound, else rps_per_gpu.",
        None,
    )
    tps_per_user_min: OrNull[Positive] = key(
        "tokens/s", "TPS/user that a load must keep to count; null for no floor.", None
    )
    load: OrNull[Count] = key(
        "clients",
        "The only load that counts; null takes each scenario's best load, for ttft the highest that all measured.",
        None,
    )
    data_dir: Path | None = key(
        None,
        "Folder for the recommended store's files; null takes the folder `recommended` on the disk that was measured.",
        None,
    )
    install_dir: text("path", "^/") = key(
        None,
        "Folder that the files are copied to, as the systemd units name it.",
        "/etc/hyperkv",
    )
