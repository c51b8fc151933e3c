"""What every rule gets: of a checked configuration what can run here, and for each stage its spec, its code and its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..array.baseline_file import baseline_of
from ..array.settings import ArraySettings
from ..base.errors import UserError
from ..build.build_kvrocks import link_spec
from ..build.compile_kvrocks import build_spec
from ..build.fetch_kvrocks import fetch_spec, identity
from ..config import code, environments, plan
from ..config.config import checked
from ..config.kvrocks_source import BUILT, KvrocksSource, kvrocks_notes, resolve, runnable, runnable_scenarios
from ..config.models.engines import PAIRS
from ..config.scenarios import selected
from ..config.tune import tune_spec, tuned_scenarios
from ..connectors.registry import LIBRARY, plugin_module
from ..engines.vllm.lmcache import IN_PROCESS, SERVED
from ..stores.registry import store_class
from ..tables.judging.claim import PREDICTED_TABLES, Claim, claimed_records, claimed_tables, read_claims
from ..workloads.factory import read_by
from ..workloads.text.tokens_file import check_texts

SOURCE, DEPENDENCIES = "results/build/kvrocks-source.tar.gz", "results/build/kvrocks-deps"
FROM_SOURCE = {"fetch_kvrocks", "fetch_kvrocks_dependencies", "compile_kvrocks", "compile_patched_kvrocks"}


@dataclass(frozen=True)
class Stages:
    """config: checked. scenarios, profiled, layered, tuned, ladder: names of what the configuration asks for and this
    machine's Kvrocks allows. A stage is named by its rule; `name` is its wildcard, a scenario, a family or an environment."""

    config: dict[str, Any]
    kvrocks: KvrocksSource
    claims: list[Claim]
    scenarios: list[str]
    profiled: list[str]
    layered: list[str]
    tuned: list[str]
    ladder: list[str]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Stages:
        """Of a configuration as it is written. Raises UserError, one line."""
        full = checked(config)
        kvrocks = resolve(full["kvrocks"])
        found = cls(
            config=full,
            kvrocks=kvrocks,
            claims=read_claims(Path(full["claims"])),
            scenarios=runnable_scenarios(full, selected(full, full["experiment"]["scenarios"]), kvrocks),
            profiled=runnable(full, full["profile"]["scenarios"], kvrocks),
            layered=runnable(full, full["layers"]["scenarios"], kvrocks),
            tuned=tuned_scenarios(full, kvrocks),
            ladder=runnable(full, plan.ladder_scenarios(full), kvrocks),
        )
        for stage in ("write_cost", "write_ladder"):
            found.spec(stage)
        return found

    @property
    def vllm(self) -> bool:
        return self.config["engine"] == "vllm"

    @property
    def pairs(self) -> list[str]:
        """The pairs of vLLM and LMCache of the scenarios that are measured, the current one first; none with engine replay."""
        return environments.pairs_of(self.config, self.scenarios)

    @property
    def model_pair(self) -> str:
        """The pair whose environment makes the model."""
        return next(
            iter(self.pairs or environments.pairs_of(self.config, [*self.tuned, *self.ladder])), "current"
        )

    @property
    def made_model(self) -> str:
        """The file that stands for the model that a rule makes."""
        return f"{environments.made_model_dir(self.config)}/config.json"

    @property
    def is_built(self) -> bool:
        """Whether Kvrocks is compiled here, instead of being linked to."""
        return self.kvrocks.source in BUILT

    @property
    def trying(self) -> list[str]:
        """The scenarios that each pair of vLLM and LMCache is tried with."""
        return selected(self.config, self.config["pairs"]["scenarios"])

    def require(self, words: Sequence[str]) -> None:
        """Raises UserError when a target among the words of a command has nothing to do here: a ladder without steps or store, a
        search without scenario, a source of Kvrocks where none is built."""
        if FROM_SOURCE & {*words}:
            identity(self.config["kvrocks"], self.kvrocks.source)
        if "ladder" in words and not self.config["ladder"]["steps"]:
            raise UserError("config: ladder.steps is empty; config/experiments/ladder.yaml has a ladder")
        if "ladder" in words and set(self.ladder) != set(wanted := plan.ladder_scenarios(self.config)):
            [note] = kvrocks_notes(self.config, wanted, self.kvrocks)
            raise UserError(f"config: ladder: {note}")
        if "array" in words and json.loads(self.spec("write_array")) == {"devices": {}}:
            raise UserError("config: experiment.array is empty; config/experiments/array.yaml has one")
        if "pairs" in words:
            tried = self.config["pairs"]["tried"]
            if not tried:
                raise UserError("config: pairs.tried is empty; config/experiments/pairs.yaml has a list")
            self.spec("try_pair", next(iter(tried)))
            file, folder = self.config["pairs"]["conversations"], self.config["vllm"]["model_dir"]
            check_texts(file, "config: pairs.conversations", folder, "config: vllm.model_dir")
        if "bits" in words:
            self.spec("measure_bits")
        if "tune" in words and not self.tuned:
            names = ", ".join(self.config["tune"]["scenarios"]) or "it is empty"
            raise UserError(f"config: tune.scenarios: none can be measured here ({names}); name another one")
        if "tune" in words:
            tune_spec(self.config, self.tuned[0])

    def spec(self, stage: str, name: str = "") -> str:
        """JSON of all that a stage depends on of the configuration. Raises UserError where that cannot be worked out."""
        section = self.config["kvrocks"]
        source, binary, patched = self.kvrocks.source, self.kvrocks.binary, self.kvrocks.patched_binary
        specs: dict[str, Callable[[], str]] = {
            "fetch_kvrocks": lambda: fetch_spec(section, source),
            "compile_kvrocks": lambda: build_spec(section, source),
            "compile_patched_kvrocks": lambda: build_spec(section, source, patched=True),
            "build_kvrocks": lambda: link_spec(section, source, binary),
            "build_patched_kvrocks": lambda: link_spec(section, source, patched, patched=True),
            "array": lambda: ArraySettings.of(self.config["array"]).spec(),
            "baseline_array": lambda: plan.baseline_spec(self.config),
            "measure_scenario": lambda: plan.sweep_spec(self.config, name),
            "profile_store": lambda: plan.profile_spec(self.config, name),
            "profile_layers": lambda: plan.layers_spec(self.config, name),
            "profile_limits": lambda: plan.limits_spec(self.config),
            "search_settings": lambda: tune_spec(self.config, name),
            "try_pair": lambda: plan.pairs_spec(self.config, name),
            "measure_bits": lambda: plan.bits_spec(self.config),
            "predict_formats": lambda: json.dumps(self.config["bits"], sort_keys=True),
            "predict_hit_rates": lambda: plan.predict_spec(self.config),
            "predict_break_even": lambda: plan.break_even_spec(self.config),
            "write_predicted": lambda: json.dumps(plan.measured_workload(self.config), sort_keys=True),
            "write_ratios": lambda: json.dumps({"figures": self.config["figures"]}, sort_keys=True),
            "write_array": lambda: plan.array_spec(self.config),
            "write_cost": lambda: plan.cost_spec(self.config),
            "write_ladder": lambda: plan.ladder_spec(self.config) if self.config["ladder"]["steps"] else "{}",
            "compared": lambda: json.dumps({"chunk_tokens": self.config["figures"]["chunk_tokens"]}),
            "choose_scenario": lambda: plan.recommend_spec(self.config),
        }
        return specs[stage]()

    def code(self, stage: str, name: str = "") -> str:
        """The digest of what a stage runs; of a search, JSON of several."""
        told = json.loads(self.spec(stage, name))
        if stage == "search_settings":
            return code.tune_code(told)
        modules: dict[str, Callable[[], list[str]]] = {
            "measure_scenario": lambda: code.scenario_modules(told),
            "profile_store": lambda: code.profile_modules(told),
            "profile_layers": lambda: code.layers_modules(told),
            "profile_limits": lambda: code.limits_modules(told),
            "try_pair": lambda: code.pair_modules(told),
            "measure_bits": lambda: ["bits.measure_bits", "bits.hbm"],
            "predict_hit_rates": lambda: code.prediction_modules(told["cases"].values()),
            "write_predicted": lambda: code.predicted_modules(told),
            "choose_scenario": lambda: code.recommendation_modules(self.config["workload"]),
        }
        return code.code(*modules[stage]())

    def files(self, stage: str, name: str = "") -> list[str]:
        """Paths of what a stage reads beside records and tables: models, GPUs, traces, and what is built for it."""
        read = read_by(plan.measured_workload(self.config))
        if stage in ("measure_scenario", "search_settings"):
            engine = self._engine_files(name) if self.vllm else [self.config["gpu"]]
            return [self.config["model"], *engine, *read, *self._built_for(name)]
        if stage == "try_pair":
            built = [path for each in self.trying for path in self._built_for(each)]
            return [*self._asked_of_pairs(), self.made_model, *dict.fromkeys(built)]
        if stage == "measure_bits":
            return [*self._asked_of_pairs(), *self._model_files()]
        if stage in ("profile_store", "profile_layers"):
            return self._built_for(selected(self.config, [name])[0])
        if stage == "predict_hit_rates":
            cases = json.loads(self.spec(stage))["cases"].values()
            of_cases = [path for case in cases for path in read_by(case["workload"])]
            return sorted({*(case["model"] for case in cases), *of_cases})
        if stage in ("choose_scenario", "write_predicted"):
            return [self.config["model"], *read]
        if stage == "write_limits":
            return baseline_of(json.loads(self.spec("baseline_array")))
        if stage == "check_recommended":
            return [environments.environment_record(pair) for pair in self.pairs]
        raise ValueError(f"no files are known of {stage}")

    def texts(self) -> dict[str, dict[str, Any]]:
        """The workloads of kind text, of the sweep and of predictions, by the name of the file of tokens that is made for each."""
        cases = self.config["predict"]["cases"].values()
        workloads = [plan.predicted_case(case, self.config)["workload"] for case in cases]
        found = [plan.measured_workload(self.config), *workloads]
        return {Path(each["tokens"]).stem: each for each in found if each["kind"] == "text"}

    def texts_files(self, name: str) -> list[str]:
        """What such a file is made of: the conversations, the model's folder where a rule makes it, and transformers."""
        own = self.texts()[name]
        made = own["tokenizer"] == environments.made_model_dir(self.config)
        folder = [self.made_model] if made else []
        return [own["file"], *folder, environments.environment_record(environments.LOADGEN_ENVIRONMENT)]

    def program(self, scenario: str) -> str | None:
        """The program that is built for a scenario's store, if any; its record is among the scenario's files."""
        built = self._built(scenario)
        return None if built is None else str(built[1])

    def started(self) -> list[str]:
        """Every scenario whose store a run may start."""
        alone = selected(self.config, [*self.profiled, *self.layered])
        return [*self.scenarios, *alone, *self.tuned, *self.ladder]

    def sweep_files(self, scenarios: Sequence[str] | None = None) -> list[str]:
        """The files of records of scenarios, by default of all that are measured."""
        repeats = range(1, self.config["experiment"]["repeats"] + 1)
        names = self.scenarios if scenarios is None else scenarios
        return [f"results/sweep/{name}/{repeat}.jsonl" for name in names for repeat in repeats]

    def claimed(self) -> tuple[list[str], list[str]]:
        """The tables that the claims read, and the files of records behind them."""
        tables = [
            f"results/{'predict' if name in PREDICTED_TABLES else 'tables'}/{name}.csv"
            for name in claimed_tables(self.claims)
        ]
        behind = {
            "sweep": self.sweep_files(),
            "point": [f"results/profile/{family}.jsonl" for family in self.profiled],
            "rung": [f"results/profile/layers/{family}.jsonl" for family in self.layered],
            "limit": ["results/profile/limits/limits.jsonl"],
        }
        return tables, [path for kind in claimed_records(self.claims) for path in behind[kind]]

    def notes(self) -> str:
        """JSON of the lines of the summary that say what is left out of the run."""
        named = [
            name for key in ("experiment", "profile", "layers") for name in self.config[key]["scenarios"]
        ]
        return json.dumps(kvrocks_notes(self.config, list(dict.fromkeys(named)), self.kvrocks))

    def downloads(self) -> list[str]:
        """What a whole run takes from the internet: wheels of every environment, and of a model, Kvrocks's source and what it is built from."""
        alone = selected(self.config, [*self.profiled, *self.layered])
        read = {path for name in self.texts() for path in self.texts_files(name)}
        read |= {path for name in self.scenarios for path in self.files("measure_scenario", name)}
        model, packaged = self.made_model, environments.packaged(self.config)
        if model in read:
            read.add(environments.environment_record(self.model_pair))
        needed = [name for name in environments.ENVIRONMENTS if environments.environment_record(name) in read]
        wheels = [path for name in needed for path in self.wheels(name)]
        wheels += [f"results/build/{packaged}/wheels.tar"] if packaged and model in read else []
        is_built = self.is_built and any(map(self.program, [*self.scenarios, *alone]))
        dependencies = [] if self.config["kvrocks"].get("deps_dir") else [DEPENDENCIES]
        own = f"results/build/{environments.OWN_ENVIRONMENT}/wheels.tar"
        return [*wheels, own, *([SOURCE, *dependencies] if is_built else [])]

    def wheels(self, environment: str) -> list[str]:
        """The wheels that an environment is made from; none when it is there already."""
        own = environments.environment_section(self.config, environment)["python"]
        return [] if own else [f"results/build/{environment}/wheels.tar"]

    def environment_options(self, environment: str) -> list[str]:
        """The options of build_environment: the interpreter that is there, or what a new one is made from; what it must have."""
        of_engine = ["--device", self.config["vllm"]["device"], "--needs", *self._engine_needs(environment)]
        needs = [] if environment == environments.LOADGEN_ENVIRONMENT else of_engine
        if own := environments.environment_section(self.config, environment)["python"]:
            return [*needs, "--python", own]
        made_from = [
            "--requirements",
            environments.requirements_of(self.config, environment),
            "--wheels",
            *self.wheels(environment),
        ]
        return [*needs, *made_from, "--venv", f"results/build/{environment}/venv"]

    def origin(self, stage: str) -> list[str]:
        """The options of build_kvrocks: the program that was compiled, else what says which one to link."""
        if self.is_built:
            return ["--compiled", f"results/build/compiled/kvrocks{'-patched' if 'patched' in stage else ''}"]
        return ["--spec", self.spec(stage)]

    def _engine_needs(self, pair: str) -> list[str]:
        """What a pair's scenarios ask of it, of pairs.NEEDS. LMCache's server reaches other servers by its native client."""
        own = [self.config["scenarios"][name] for name in self.scenarios]
        own = [each for each in own if each["pair"] == pair and each["tier"] != "none"]
        connectors = {each["connector"] for each in own}
        served = any(each["connector"] == "mp" and store_class(each["store"]).is_server for each in own)
        needs = {
            "inside": connectors & {*IN_PROCESS},
            "server": connectors & {*SERVED},
            "resp": "resp" in connectors or served,
            "tiers": "striped_tier" in connectors,
        }
        return [need for need, asking in needs.items() if asking]

    def _engine_files(self, name: str) -> list[str]:
        own = self.config["scenarios"][name]
        records = (own["pair"], environments.LOADGEN_ENVIRONMENT)
        plugin = [] if plugin_module(own) is None else [f"results/build/{own['pair']}/striped.json"]
        return [*map(environments.environment_record, records), *plugin, *self._model_files()]

    def _model_files(self) -> list[str]:
        """Of the model that a rule makes; none of one that is there already."""
        return [] if self.config["vllm"]["model_dir"] else [self.made_model]

    def _asked_of_pairs(self) -> list[str]:
        """The model, the conversations that pairs and formats are tried with, and their environment."""
        own = [self.config["model"], self.config["pairs"]["conversations"]]
        return [*own, environments.environment_record(PAIRS[0])]

    def _built_for(self, name: str) -> list[str]:
        library = [str(LIBRARY)] if self.config["scenarios"][name].get("client") == "native" else []
        built = self._built(name)
        return library if built is None else [*library, str(built[0])]

    def _built(self, name: str) -> tuple[Path, Path] | None:
        scenario = self.config["scenarios"][name]
        if "store" not in scenario or scenario["place"] is not None:
            return None
        return store_class(scenario["store"]).built_files(scenario["patched"])
