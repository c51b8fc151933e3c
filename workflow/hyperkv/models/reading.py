"""A Hugging Face config.json as transformers reads it: the language model's own keys, whatever they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.config_files import mapping_of
from ..base.documents import own_data
from ..base.errors import UserError, printable

_DATA = own_data(__file__)
_INSTEAD = "name a model's Hugging Face config.json, or a description by hand (config/models/README.md)"
_LARGEST = 10**30  # what transformers writes for no bound
NESTED = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True)
class ModelConfig:
    """The keys of a language model and where they came from, for messages that name both.

    values: of the language model itself. outer: the whole file, the same mapping when nothing is nested in it.
    """

    values: Mapping[str, Any]
    outer: Mapping[str, Any]
    where: str

    @property
    def model_type(self) -> str | None:
        """transformers' name of the architecture."""
        found = self.values.get("model_type")
        return found if isinstance(found, str) else None

    def get(self, key: str) -> Any:
        """A value by its name or one of its other names; None when it is absent or null."""
        return self.values.get(self._name(key))

    def count(self, key: str, least: int = 1) -> int:
        """A whole number. Raises UserError when it is missing or something else."""
        name = self._name(key)
        value = self.values.get(name)
        if value is None:
            raise UserError(
                f"{self.where}: {name} is missing; copy it from the model's Hugging Face config.json"
            )
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{self.where}: {name} is {value!r}; write a whole number of at least {least}")
        return value

    def counts(self, *keys: str) -> list[int]:
        """Several whole numbers of at least 1."""
        return [self.count(key) for key in keys]

    def optional_count(self, key: str, default: int) -> int:
        """The same, `default` when it is absent or null."""
        return default if self.get(key) is None else self.count(key, least=0)

    def flag(self, key: str, default: bool = False) -> bool:
        """true or false, `default` when it is absent or null. Raises UserError for anything else."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: {key} is {value!r}; write true or false")
        return value

    def words(self, key: str) -> list[Any] | None:
        """A list, None when it is absent or null. Raises UserError for anything else."""
        value = self.get(key)
        if value is not None and not isinstance(value, list):
            raise UserError(f"{self.where}: {key} is {value!r}; write a list, one entry per layer")
        return value

    def section(self, key: str, outer: bool = False) -> Mapping[str, Any] | None:
        """A mapping, None when it is absent or null. Raises UserError for anything else."""
        value = (self.outer if outer else self.values).get(key)
        if value is not None and not isinstance(value, Mapping):
            raise UserError(f"{self.where}: {key} is {value!r}; copy it from the model's config.json")
        return value

    def _name(self, key: str) -> str:
        names = _DATA["aliases"].get(key, [key])
        return next((name for name in names if self.values.get(name) is not None), key)


def read_document(source: str | Path) -> tuple[dict[str, Any], str, str]:
    """(content, file, model's name) of a model's description: a JSON or YAML file, or the folder of a config.json.

    The name is name_of's. A hf_quant_config.json beside a
    config.json without quantization_config is taken for it (vLLM, transformers_utils/config.py get_config).
    Raises UserError naming the file.
    """
    path = Path(source)
    file = path / "config.json" if path.is_dir() else path
    content = mapping_of(file, "", _INSTEAD, _LARGEST)
    if file.name != "config.json":
        return content, str(file), name_of(path)
    beside = file.parent / "hf_quant_config.json"
    if content.get("quantization_config") is None and beside.is_file():
        content["quantization_config"] = mapping_of(beside, "", _INSTEAD, _LARGEST)
    return content, str(file), name_of(path)


def name_of(source: str | Path) -> str:
    """A model's name: its file's without .json or .yaml, or its folder's. Dots in the name stay: Qwen2.5-1.5B.

    It is printable: what a link leads to has any name.
    """
    path = Path(source)
    if path.name == "config.json" or path.is_dir():
        return printable((path if path.is_dir() else path.parent).resolve().name)
    return printable(re.sub(r"(?<=.)\.(json|ya?ml)$", "", path.name))


def model_config(document: Mapping[str, Any], where: str) -> ModelConfig:
    """The language model's keys of a config.json, those of the top or those nested in it.

    Nested keys that are left out have the defaults of transformers' class (PreTrainedConfig.to_diff_dict leaves them
    out on saving); keys at the top are saved in full, so that a missing one there is a mistake.
    Raises UserError for a nested part that is no mapping.
    """
    holder = document
    if isinstance(document.get("thinker_config"), Mapping):
        holder = document["thinker_config"]
    name = next((key for key in NESTED if holder.get(key) is not None), None)
    if name is None:
        return ModelConfig(document, document, where)
    nested = holder[name]
    if not isinstance(nested, Mapping):
        raise UserError(f"{where}: {name} is {nested!r}; copy it from the model's config.json")
    outer_type: Any = holder.get("model_type")
    model_type: Any = nested.get("model_type") or _DATA["type_of"].get(outer_type, outer_type)
    values = {**_DATA["defaults"].get(model_type, {}), **nested, "model_type": model_type}
    if nested.get("tie_word_embeddings") is None and holder.get("tie_word_embeddings") is not None:
        values["tie_word_embeddings"] = holder["tie_word_embeddings"]
    return ModelConfig(values, document, where)
