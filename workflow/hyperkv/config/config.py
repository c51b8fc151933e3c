"""From config/*.yaml to a checked configuration; every mistake is one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base.documents import check_keys, check_values
from .checks.engine import check_controls, check_engine, check_pass_through, check_served
from .checks.files import (
    check_array,
    check_environments,
    check_files,
    check_kvrocks,
    check_predictions,
    check_workload,
)
from .checks.scenario import (
    check_bound,
    check_chunk,
    check_connector,
    check_engines,
    check_figures,
    check_names,
    check_recommend,
    check_store,
)
from .credentials import refuse_credentials
from .explain import validated
from .models.config import Config
from .scenarios import behind_devices, expanded, selected


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with defaults filled in, sizes in bytes and one scenario per chunk size.

    Raises UserError: one line with the key, what is wrong and what is allowed.
    """
    check_values(config)
    check_keys(config)
    refuse_credentials(config)
    full = validated(Config, config).model_dump()
    full["scenarios"] = behind_devices(expanded(full["scenarios"]), full["experiment"]["array"])
    check_values({"scenarios": full["scenarios"]})
    refuse_credentials({"scenarios": full["scenarios"]})
    check_names(full)
    check_pass_through(full)
    check_files(full)
    measured = selected(full, full["experiment"]["scenarios"])
    for name in measured:
        check_chunk(full["scenarios"][name], full)
        check_store(full["scenarios"][name])
        check_bound(full["scenarios"][name], full)
        check_engines(full["scenarios"][name], full)
    check_served(full, measured)
    check_engine(full, measured)
    check_controls(full, measured)
    check_environments(full, measured)
    without_engine = [name for key in ("profile", "layers", "tune") for name in full[key]["scenarios"]]
    for name in selected(full, without_engine):
        check_store(full["scenarios"][name])
        check_connector(full["scenarios"][name], by_itself=True)
    check_figures(full, [full["scenarios"][name] for name in measured])
    check_recommend(full, measured)
    check_predictions(full)
    check_kvrocks(full["kvrocks"])
    check_array(full)
    check_workload(full, [full["scenarios"][name] for name in measured])
    return full
