"""config/README.md from the config's JSON Schema.

python -m workflow.hyperkv.config.docs > config/README.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from .config import schema
from .schema_errors import allowed

_HEAD = """\
<!-- Written by `make docs` from workflow/schemas/config.schema.yaml; edit that. -->
# Configuration

| file | what it is for |
|---|---|
| `config.yaml` | the default run: any machine, no GPU, minutes on 2 cores |
| `smoke.yaml` | on top of it: every stage and store, in about two minutes |
| `layers.yaml` | on top of it: where the time goes, layer by layer, in full; hours |
| `ladder.yaml` | on top of it: from the reference configuration to the fastest, a named step at a time |
| `capacity.yaml` | on top of it: chunk size against hit rate and throughput, every connector |
| `tune.yaml` | on top of it: a short search of a store's settings |
| `scenarios.yaml` | the scenarios that the other files choose from |
| `kvrocks/` | presets of Kvrocks, and [how to build it without internet, carry it and ask it](kvrocks/README.md) |
| `models/` | models' Hugging Face `config.json`, for `model`; its README.md says what is read of it, and how to describe a model by hand |
| `gpus/` | what was measured of a GPU, or derived from one that was (`assumption`), for `gpu`; its README.md says how to describe yours |
| `published_gpus.yaml` | published figures that GPUs are derived with |
| `prices.yaml` | prices with their ranges and sources, for `cost` |
| `claims.yaml` | claims and what decides them, for `claims` |

Files are read in this order, later ones on top: `scenarios.yaml`, `config.yaml`, then your own with
`make run CONFIG=FILE` (plain snakemake: `--configfile config/scenarios.yaml config/config.yaml FILE`). Mappings
merge key by key; a list or a value replaces the one before it. `--config 'experiment={"loads": [3]}'` comes on top of all.

Sizes (keys that end in `_bytes`) are integers in bytes or text such as `512 MiB`, with KiB, MiB or GiB. A wrong
key, type or unit stops the run before anything is measured. YAML reads `yes`, `no`, `on` and `off` as true and false: a
store's own key takes them in quotes, `"yes"`. Only what depends on a changed key runs again.

Text is one line of printable characters, and nothing in it is run or expanded: not `$(…)`, not backticks. By its unit a
path has no `{ } < >` (a folder may have `${TMPDIR}`) and begins with `./` rather than `-`; a name is letters, digits and
`_ . @ + -`; a URL has no blanks; names of environment variables are letters, digits and `_`."""


def main() -> None:
    """Print config/README.md."""
    sys.stdout.write(render(schema()))


def render(rules: Mapping[str, Any]) -> str:
    """The config's JSON Schema as Markdown: a section per top-level key, a row per key of it."""
    defs = rules["$defs"]
    required = rules.get("required", ())
    parts = [_HEAD]
    for name, value in rules["properties"].items():
        parts.append(f"\n## {name}\n")
        if _children(value):
            parts.append(f"{value['description']}\n")
        parts.append("| key | allowed | default | unit | meaning |\n|---|---|---|---|---|")
        parts.extend(
            _row(path, leaf, needed, defs) for path, leaf, needed in _leaves(name, value, name in required)
        )
    return "\n".join(parts) + "\n"


def _children(rules: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], bool]]:
    """An object's keys: name, rules, whether required. A mapping by free names has the one key `<name>`."""
    free = rules.get("additionalProperties")
    if isinstance(free, Mapping) and free.get("type") == "object":
        return [("<name>", free, True)]
    required = rules.get("required", ())
    return [(name, value, name in required) for name, value in rules.get("properties", {}).items()]


def _leaves(
    path: str, rules: Mapping[str, Any], needed: bool
) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    children = _children(rules)
    if not children:
        yield path, rules, needed
    for name, value, wanted in children:
        yield from _leaves(f"{path}.{name}", value, wanted)


def _row(path: str, rules: Mapping[str, Any], needed: bool, defs: Mapping[str, Any]) -> str:
    without = "required" if needed else ""
    default = f"`{_yaml(rules['default'])}`" if "default" in rules else without
    cells = [f"`{path}`", allowed(rules, defs), default, rules["unit"], rules["description"]]
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _yaml(value: Any) -> str:
    """A default as it is written in YAML, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    main()
