"""Words of vLLM and LMCache that the workflow sets or counts with: a pass-through must not say them as well.

A pass-through is `vllm.flags`, `vllm.environment` and a scenario's `lmcache` and `vllm`. The tables beside this module have
the engine's own words and what sets each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...base.documents import own_data, shown
from ...base.errors import UserError
from .lmcache import SERVED

_IN_LMCACHE = "one of LMCache's own keys: write it in the scenario's lmcache, as"
_KEY = re.compile(r"[a-z][a-z0-9._-]*")
_INNER_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9_.+-]*(=(?P<value>.*))?", re.DOTALL)

# Options of one dash that are whole where an owned one would begin so.
_SHORT = ("dc",)
_DATA = own_data(__file__)


def _table(name: str) -> dict[str, str]:
    """What sets a word, by the word."""
    return {word: why for why, words in _DATA[name].items() for word in words}


VLLM_FLAGS = _table("vllm_flags")
LMCACHE_KEYS = _table("lmcache_keys")
LMCACHE_EXTRA_KEYS = _table("lmcache_extra_keys")
LMCACHE_OPTIONS = _table("lmcache_options")
CONNECTOR_KEYS = _table("connector_keys")
VARIABLES = _table("variables")
FREE_LMCACHE_VARIABLES: list[str] = _DATA["free_lmcache_variables"]


def refuse_owned_words(where: str, settings: Mapping[str, Any], scenario: Mapping[str, Any] | None) -> None:
    """Refuse words of the pass-throughs that the workflow sets.

    where: how the message begins, such as `config: scenarios.NAME`. settings: `vllm`, the section or the scenario's own
    keys. scenario: whose `lmcache` is looked at as well; None for the section. Raises UserError naming word and key.
    """
    flags = f"{where}.vllm.flags" if scenario else f"{where}.flags"
    _refuse(flags, flag_faults(settings.get("flags", ())))
    _check_words(flags, settings.get("flags", ()))
    variables = f"{where}.vllm.environment" if scenario else f"{where}.environment"
    _refuse(variables, variable_faults(settings.get("environment", {})))
    if scenario is not None:
        served = scenario.get("connector") in SERVED
        _check_lmcache_keys(f"{where}.lmcache", scenario.get("lmcache", {}), served)
        _refuse(f"{where}.lmcache", lmcache_faults(scenario.get("lmcache", {}), served))


def flag_faults(flags: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """(word, what sets it) of every word of vLLM's command line that is not the user's.

    Words are taken as vLLM's parser takes them: with _ for -, with =VALUE, with .KEY of a mapping, abbreviated, and one letter
    with its value attached.
    """
    for word in (str(flag).strip() for flag in flags):
        if not re.match(r"--?[A-Za-z]", word):
            continue
        name = re.split(r"[=. ]", word, maxsplit=1)[0]
        bare = name.lstrip("-").replace("_", "-")
        if name.startswith("--"):
            why = _owner(bare.lower(), VLLM_FLAGS, "-", abbreviated=True)
        else:
            short = {key: why for key, why in VLLM_FLAGS.items() if _is_short(key)}
            why = short.get(bare[0]) or _owner(bare, short, "-", abbreviated=bare not in _SHORT)
        if why:
            yield name, why


def _check_words(where: str, flags: Sequence[Any]) -> None:
    """That each word is an option, with or without =VALUE, or the value of one before it. Raises UserError naming the word."""
    takes_values = False
    for word in map(str, flags):
        option = _OPTION.fullmatch(word)
        value = word if option is None else option["value"]
        if value is not None and (fault := _value_fault(value)):
            raise UserError(f"{where}: {shown(word)} is wrong: {fault}")
        if option is None and not takes_values:
            raise UserError(
                f"{where}: {shown(word)} is a value without an option; write the option before it, as --name"
            )
        takes_values = option is None or option["value"] is None


def _value_fault(value: str) -> str | None:
    """What makes an option's value one that a parser would take for something else, and the mend; None when nothing does."""
    if not value.strip():
        return "it is empty; write the value, or leave the word out"
    if value != value.strip():
        return "there are blanks around it; write it without"
    if value.startswith("@"):
        return "it names a file of options, which nothing checks; write them here, one word each"
    if re.match(r"-+([^\d.]|$)", value):
        return "it begins as an option does, where a value is meant; write option and value as two words, --name value"
    return None


def variable_faults(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, what sets it) of every variable that is not the user's: LMCache reads its keys from LMCACHE_KEY, too."""
    for name in environment:
        upper = name.upper()
        why = _owner(upper, VARIABLES, "_")
        if upper.startswith("LMCACHE_") and not why:
            key = upper.removeprefix("LMCACHE_").lower()
            why = _owner(key, LMCACHE_KEYS, "_") or _owner(key, LMCACHE_OPTIONS, "_")
            if not why and upper not in FREE_LMCACHE_VARIABLES:
                why = f"{_IN_LMCACHE} {key}"
        if why:
            yield name, why


def lmcache_faults(keys: Mapping[str, Any], served: bool) -> Iterator[tuple[str, str]]:
    """(key, what sets it) of every LMCache key that is not the user's. served: they go to `lmcache server`."""
    for key, value in keys.items():
        plain = key.lstrip("-").replace("-", "_").lower()
        if served:
            why = _owner(plain, LMCACHE_OPTIONS, "_", abbreviated=True) or _owner(plain, CONNECTOR_KEYS, ".")
        else:
            why = _owner(plain, LMCACHE_KEYS, "_")
        if why:
            yield key, why
        if plain == "extra_config" and isinstance(value, Mapping):
            for inner in value:
                word = str(inner).lower()
                if why := _owner(word, LMCACHE_EXTRA_KEYS, ".") or _owner(word, LMCACHE_KEYS, "_"):
                    yield f"extra_config.{inner}", why


def _check_lmcache_keys(where: str, keys: Mapping[str, Any], served: bool) -> None:
    """That keys are written as LMCache's are, one each, and extra_config is a mapping. served: they become words of a command
    line, where a value must not read as an option. Raises UserError.
    """
    extra = keys.get("extra_config")
    if extra is not None and not isinstance(extra, Mapping):
        raise UserError(
            f"{where}.extra_config: {shown(extra)} is wrong; write a mapping, such as {{lookup_backoff_time: 0.001}}"
        )
    for key, value in keys.items():
        if served and isinstance(value, str) and (fault := _value_fault(value)):
            raise UserError(f"{where}.{key}: {shown(value)} is wrong: {fault}")
        if not _KEY.fullmatch(key):
            raise UserError(
                f"{where}: {key!r} is not a key; LMCache's are lower-case letters, digits and . _ -, with the value after a colon"
            )
    for key in extra or {}:
        if not _INNER_KEY.fullmatch(str(key)):
            raise UserError(
                f"{where}.extra_config: {key!r} is not a key; keys are letters, digits and . _ -, with the value after a colon"
            )


def _is_short(option: str) -> bool:
    """Whether an option of VLLM_FLAGS is one that vLLM takes with one dash."""
    return option.rstrip("*") in ("tp", "pp", "dp", "dcp", "pcp", "n", "r")


def _owner(word: str, owned: Mapping[str, str], joint: str, abbreviated: bool = False) -> str | None:
    """What sets `word`. abbreviated: a parser completes the beginning of an option to the whole."""
    for name, why in owned.items():
        if name.startswith("*") and word.endswith(name[1:]):
            return why
        stem = name.removesuffix("*")
        if word == stem.rstrip(joint) or (name.endswith("*") and word.startswith(stem)):
            return why
    return next((why for name, why in owned.items() if abbreviated and name.startswith(word)), None)


def _refuse(where: str, faults: Iterable[tuple[str, str]]) -> None:
    for word, why in faults:
        raise UserError(f"{where}: {word} is {why}; leave it out here")
