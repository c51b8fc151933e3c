"""What a configuration is merged of, and that it is read in this workflow's own folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from ..base.config_files import read_mapping
from ..base.errors import UserError


def merged(files: Iterable[Path], key: str, instead: str) -> dict[str, Any]:
    """A configuration's files, in order, merged as Snakemake merges a --configfile. Raises UserError as read_mapping."""
    found: dict[str, Any] = {}
    for path in files:
        update_config(found, read_mapping(path, key, instead))
    return found


def over_defaults(given: Mapping[str, Any], configfiles: Iterable[str]) -> dict[str, Any]:
    """What a module's `config:` gives on top of this workflow's configfiles."""
    found = merged(map(Path, configfiles), "configfile", "put it back")
    update_config(found, deepcopy(dict(given)))
    return found


def require_own_folder(checkout: str) -> None:
    """That the working directory has this workflow's files, which rules and commands name from there. Raises UserError.

    checkout: the folder of the Snakefile.
    """
    if not all(Path(name).is_dir() for name in ("workflow/hyperkv", "config")):
        raise UserError(
            f"HyperKV runs in its own folder and this is {Path.cwd()}: add `--directory {checkout}`, or as a module "
            f'`workdir: "{checkout}"` before it'
        )
