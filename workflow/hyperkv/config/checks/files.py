"""That what a configuration names is there and can be used: models, GPUs, traces, sources, the array; and that workloads fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...array.settings import ArraySettings, mistakes
from ...base.config_files import read_mapping, read_text, there
from ...base.documents import check_keys
from ...base.errors import UserError
from ...build.fetch_kvrocks import tarball_of
from ...build.kvrocks_patches import check_patches
from ...models.geometry import load_geometry
from ...models.gpu import load_gpu
from ...records.identity import FETCHED_TRACE
from ...workloads import NothingLeft, longest_context, repeat_seed
from ...workloads.context_limit import ContextLimit, check_context, let_in
from ...workloads.factory import make_workload
from ...workloads.text.tokens_file import check_texts
from ..environments import (
    LOADGEN_ENVIRONMENT,
    MODELS,
    environment_section,
    key_of,
    made_model_dir,
    pairs_of,
    requirements_of,
)
from ..explain import validated
from ..models.config import Config
from ..models.gpu import Gpu
from ..plan import EXPERIMENT, measured_workload, predicted_case
from .memory import check_memory, context_limit

GPUS = Path("config/gpus")


def check_files(config: Mapping[str, Any]) -> None:
    """That models and GPUs are files that say what they must, before anything is built on them."""
    break_even, cases = config["break_even"], config["predict"]["cases"]
    for key, path in [("gpu", config["gpu"]), *(("break_even.gpus", path) for path in break_even["gpus"])]:
        check_gpu(Path(path), key)
    models = [("model", config["model"]), *(("break_even.models", path) for path in break_even["models"])]
    models += [
        (f"predict.cases.{name}.model", case["model"]) for name, case in cases.items() if case["model"]
    ]
    for key, path in models:
        if not Path(path).exists():
            raise UserError(f"config: {key}: there is no file {path}; {there(MODELS, '.json')}")
        _check_model(key, Path(path), config)


def check_environments(config: Mapping[str, Any], measured: list[str]) -> None:
    """That the pinned packages of each environment that is to be made are a file."""
    if config["engine"] != "vllm":
        return
    for environment in (*pairs_of(config, measured), LOADGEN_ENVIRONMENT):
        if environment_section(config, environment)["python"] is None:
            file = Path(requirements_of(config, environment))
            read_text(file, f"{key_of(environment)}.requirements", there(Path("envs"), ".txt"))


def check_gpu(path: Path, key: str) -> None:
    """That a GPU's file is there and can be what `key` of the config names.

    Raises UserError, one line with key, file, the file's own key, and what it must be.
    """
    where = f"config: {key}: {path}"
    document = read_mapping(
        path, key, f"{there(GPUS, '.yaml')}; {GPUS}/README.md says how to describe another"
    )
    if isinstance(document.get("fit"), dict):
        raise UserError(
            f"{where} is what calibrate wrote; put its fit.coefficients under models.NAME of a file as {GPUS}/README.md says"
        )
    try:
        check_keys(document)
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix('config: ')}") from None
    try:
        validated(Gpu, document, where)
    except UserError as error:
        raise UserError(f"{error}; {GPUS}/README.md has an example") from None


def _check_model(key: str, model: Path, config: Mapping[str, Any]) -> None:
    """That a model that a prediction names can be read, and for break-even that a GPU's time can be scaled to it."""
    try:
        geometry = load_geometry(model, config["kv_dtype"])
        unknown = geometry.active_parameters is None or geometry.attention_width is None
        if key == "break_even.models" and unknown:
            for gpu in config["break_even"]["gpus"]:
                load_gpu(Path(gpu), geometry)
    except UserError as error:
        raise UserError(f"config: {key}: {error}") from None


def check_predictions(config: Mapping[str, Any]) -> None:
    for name, case in config["predict"]["cases"].items():
        if name == EXPERIMENT:
            raise UserError(
                f"config: predict.cases: {EXPERIMENT} is what the sweep measures; rename the case"
            )
        case_of = predicted_case(case, config)
        workload = case_of["workload"]
        if workload.get("trace") == FETCHED_TRACE and not Path(FETCHED_TRACE).exists():
            continue
        geometry = load_geometry(Path(case_of["model"]), config["kv_dtype"])
        limit = ContextLimit.of(geometry)
        try:
            if _texts_to_make(workload, config):
                continue
            check_context(workload, longest_context(make_workload(workload)), limit)
        except NothingLeft as error:
            own = case["workload"] or config["workload"]
            told = let_in(error, own, limit)
            raise UserError(
                f"config: {_in_case(name, told) if case['workload'] else f'predict.cases.{name}: {told}'}"
            ) from None
        except UserError as error:
            if case["workload"] is None:
                raise UserError(f"config: predict.cases.{name}: {error}") from None
            raise UserError(f"config: {_in_case(name, str(error))}") from None


def _in_case(name: str, message: str) -> str:
    """A message about `workload` with its keys as they are called in a predicted case."""
    return re.sub(r"(?<![\w./-])workload(?=[.:])", f"predict.cases.{name}.workload", message)


def _texts_to_make(workload: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether texts are still to be made tokens of. Raises UserError for conversations and a tokenizer that cannot be."""
    if workload["kind"] != "text":
        return False
    folder = workload["tokenizer"]
    made = folder == made_model_dir(config)
    key = "vllm.model_dir" if folder == config["vllm"]["model_dir"] else "workload.tokenizer"
    check_texts(workload["file"], "workload.file", None if made else folder, key)
    return not Path(workload["tokens"]).exists()


def check_kvrocks(section: Mapping[str, Any]) -> None:
    """That the folders and patches that section `kvrocks` names are there, and its release's SHA-256 is known."""
    for key in ("path", "deps_dir"):
        if section.get(key) is not None and not Path(section[key]).is_dir():
            raise UserError(f"config: kvrocks.{key}: there is no folder {section[key]}")
    check_patches(section["patches"])
    if section["source"] in ("auto", "release"):
        tarball_of(section)


def check_array(config: dict[str, Any]) -> None:
    """Check section `array`, and for source raid0 put data_dir on the array."""
    section = config["array"]
    if section["source"] == "path":
        return
    settings = ArraySettings.of(section)
    if wrong := mistakes(settings):
        raise UserError(f"config: {wrong[0]}")
    data_dir = Path(config["data_dir"])
    if config["data_dir"] == Config.model_fields["data_dir"].default:
        config["data_dir"] = settings.data_dir
    elif not data_dir.is_relative_to(settings.data_dir):
        raise UserError(
            f"config: data_dir: {data_dir} is not in {settings.data_dir} on the array; leave it out, or set array.source: path"
        )


def check_workload(config: Mapping[str, Any], scenarios: list[Mapping[str, Any]]) -> None:
    """Build the workload of every repeat: its contexts must fit the model, HBM and the buffers below it.

    A trace that is still to be fetched, and texts of which tokens are still to be made, are checked by the sweep.
    """
    workload, experiment = measured_workload(config), config["experiment"]
    if "trace" in workload and not Path(workload["trace"]).exists():
        if workload["trace"] == FETCHED_TRACE:
            return
        raise UserError(
            f"config: workload.trace: there is no file {workload['trace']}; {FETCHED_TRACE} is downloaded when it is named"
        )
    try:
        if _texts_to_make(workload, config):
            return
        made = [
            make_workload(workload, repeat_seed(experiment["seed"], repeat))
            for repeat in range(1, experiment["repeats"] + 1)
        ]
    except NothingLeft as error:
        told = let_in(error, config["workload"], context_limit(config))
        raise UserError(f"config: {told}") from None
    except UserError as error:
        raise UserError(f"config: {error}") from None
    check_memory({**config, "workload": workload}, scenarios, made)
