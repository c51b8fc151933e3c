"""This workflow as a module of another one: where it runs, and what its configuration goes on top of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from ..base.errors import UserError


def require_own_folder(checkout: str) -> None:
    """That the working directory has this workflow's files, which rules and commands name from there. Raises UserError.

    checkout: the folder of the Snakefile.
    """
    if not all(Path(name).is_dir() for name in ("workflow/hyperkv", "config")):
        raise UserError(
            f"HyperKV runs in its own folder and this is {Path.cwd()}: add `--directory {checkout}`, or as a module "
            f'`workdir: "{checkout}"` before it'
        )


def over_defaults(given: Mapping[str, Any], configfiles: Sequence[str]) -> dict[str, Any]:
    """What a module's `config:` gives on top of configfiles, merged as Snakemake merges a --configfile."""
    merged: dict[str, Any] = {}
    for layer in [*map(load_configfile, configfiles), deepcopy(dict(given))]:
        update_config(merged, layer)
    return merged
