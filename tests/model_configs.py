"""config.json of models that people serve, the keys that geometry reads, by their names in data/models.yaml."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).parents[1] / "config" / "models"
_WRITTEN = yaml.safe_load((Path(__file__).parent / "data" / "models.yaml").read_text())
NAMES = [*_WRITTEN]


@cache
def model(name: str) -> dict[str, Any]:
    """A model of data/models.yaml (NAME.text_config is its nested part) or of config/models."""
    name, _, part = (name, "", "") if (SHIPPED / f"{name}.json").exists() else name.partition(".")
    found = (
        _filled(_WRITTEN[name]) if name in _WRITTEN else json.loads((SHIPPED / f"{name}.json").read_text())
    )
    return found[part] if part else found


def _filled(config: dict[str, Any]) -> dict[str, Any]:
    base = model(config["like"]) if "like" in config else {}
    own = {key: _filled(value) if isinstance(value, dict) else value for key, value in config.items()}
    return {key: value for key, value in {**base, **own}.items() if key != "like"}


def __getattr__(name: str) -> dict[str, Any]:
    if name not in _WRITTEN:
        raise AttributeError(name)
    return model(name)
