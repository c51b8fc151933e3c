"""The data of a module: the YAML file beside it, of its name. It counts as the module's code (sources.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def own_data(module: str) -> dict[str, Any]:
    """What lies beside a module. module: its __file__."""
    return parsed(Path(module).with_suffix(".yaml").read_bytes())


def parsed(text: bytes) -> Any:
    """What such a file says. Raises ValueError."""
    try:
        return yaml.load(text, _LOADER)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
