import json
import sys

settle()
put_own_python_first()
announce()

try:
    CONFIG = checked(config)
    KVROCKS = resolve(CONFIG["kvrocks"])
    SCENARIOS = runnable_scenarios(CONFIG, selected(CONFIG, CONFIG["experiment"]["scenarios"]), KVROCKS)
    PROFILED = runnable(CONFIG, CONFIG["profile"]["scenarios"], KVROCKS)
    LAYERED = runnable(CONFIG, CONFIG["layers"]["scenarios"], KVROCKS)
    COST_SPEC = cost_spec(CONFIG)
    CLAIMS = read_claims(Path(CONFIG["claims"]))
    TUNED = tuned_scenarios(CONFIG, KVROCKS)
    LADDER_SPEC = ladder_spec(CONFIG) if CONFIG["ladder"]["steps"] else "{}"
    LADDER = runnable(CONFIG, ladder_scenarios(CONFIG), KVROCKS)
    if workflow.is_main_process:
        take_up(sys.argv[1:])
    ASKED = Asked(CONFIG)
except UserError as error:
    raise WorkflowError(str(error))

REPEATS = list(range(1, CONFIG["experiment"]["repeats"] + 1))
VLLM = CONFIG["engine"] == "vllm"
SECTIONS = {environment: section for section, environment in ENVIRONMENTS.items()}


wildcard_constraints:
    scenario="[a-z0-9_-]+",
    family="[a-z0-9_-]+",
    repeat="[0-9]+",
    environment="|".join(SECTIONS),


def whole_machine(wildcards):
    """Every core of the machine that a job runs on, so that nothing runs beside a measurement.

    Under an executor that submits jobs, which core counts the nodes have is known on the nodes only: the profile asks
    for whole ones, and the job itself gets here with that node's cores.
    """
    return workflow.resource_settings.cores or 1


def gpus(wildcards):
    """GPUs that an engine on cuda uses; a scheduler is asked for them, and locally nothing counts them."""
    name = wildcards.scenario if "scenario" in wildcards.keys() else None
    return requested_gpus(CONFIG, name)


def scenario_spec(wildcards):
    return sweep_spec(CONFIG, wildcards.scenario)


def scenario_code(wildcards):
    return code(*scenario_modules(json.loads(scenario_spec(wildcards))))


def scenario_inputs(wildcards):
    """The files a scenario needs: model, what its engine needs, a trace, and what is built for its store."""
    trace = [CONFIG["workload"]["trace"]] if "trace" in CONFIG["workload"] else []
    engine = vllm_files() if VLLM else [CONFIG["gpu"]]
    return [CONFIG["model"], *engine, *trace, *server_files(CONFIG["scenarios"][wildcards.scenario])]


def vllm_files():
    """The records of both environments, and the model's folder when it is made here."""
    made = [] if CONFIG["vllm"]["model_dir"] else [f"{made_model_dir(CONFIG)}/config.json"]
    return [*environment_records(), *made]


def pinned_packages(wildcards):
    return requirements_of(CONFIG, SECTIONS[wildcards.environment])


def package_index(wildcards):
    index = CONFIG[SECTIONS[wildcards.environment]].get("index")
    return ["--index", index] if index else []


def wheels_of(wildcards):
    """The wheels that an environment is made from; none when it is there already."""
    own = CONFIG[SECTIONS[wildcards.environment]]["python"]
    return [] if own else [f"results/build/{wildcards.environment}/wheels.tar"]


def environment_gpus(wildcards):
    """The GPU on which the engine's environment is looked at."""
    return gpus(wildcards) if wildcards.environment == "engine" else 0


def environment_options(wildcards):
    """The options of build_environment: the interpreter that is there, or what a new one is made from; what it must have."""
    section = SECTIONS[wildcards.environment]
    needs = ["--device", CONFIG["vllm"]["device"], "--needs", *engine_needs()] if section == "vllm" else []
    if CONFIG[section]["python"]:
        return [*needs, "--python", CONFIG[section]["python"]]
    new = ["--wheels", *wheels_of(wildcards), "--venv", f"results/build/{wildcards.environment}/venv"]
    return [*needs, "--requirements", pinned_packages(wildcards), *new]


def engine_needs():
    """What the scenarios ask of LMCache: lmcache at all, resp for its native client, striped for our plugin."""
    connectors = {CONFIG["scenarios"][name].get("connector") for name in SCENARIOS}
    return [
        *(["lmcache"] if connectors & {*IN_PROCESS, *SERVED} else []),
        *(["resp"] if "resp" in connectors else []),
        *(["striped"] if connectors & {*STRIPED} else []),
    ]


def kvrocks_fetch_spec(wildcards):
    return fetch_spec(CONFIG["kvrocks"], KVROCKS.source)


def kvrocks_build_spec(wildcards):
    return build_spec(CONFIG["kvrocks"], KVROCKS.source)


def patched_build_spec(wildcards):
    return build_spec(CONFIG["kvrocks"], KVROCKS.source, patched=True)


# No use of `input`: Snakemake does not notice when such params change.


def kvrocks_origin(wildcards):
    """The options of build_kvrocks: the program that was compiled, else what says which one to link."""
    if KVROCKS.source in BUILT:
        return ["--compiled", "results/build/compiled/kvrocks"]
    return ["--spec", link_spec(CONFIG["kvrocks"], KVROCKS.source, KVROCKS.binary)]


def patched_origin(wildcards):
    if KVROCKS.source in BUILT:
        return ["--compiled", "results/build/compiled/kvrocks-patched"]
    return ["--spec", link_spec(CONFIG["kvrocks"], KVROCKS.source, KVROCKS.patched_binary, patched=True)]


def server_files(scenario):
    """What is built for a scenario: connector striped's library, and the record of its store's program, and the program."""
    library = [str(LIBRARY)] if scenario.get("client") == "native" else []
    built = store_class(scenario["store"]).built_files(scenario["patched"]) if "store" in scenario else None
    return library if built is None else [*library, str(built[0]), ancient(str(built[1]))]


def store_files(wildcards):
    return server_files(CONFIG["scenarios"][selected(CONFIG, [wildcards.family])[0]])


def store_spec(wildcards):
    return profile_spec(CONFIG, wildcards.family)


def store_code(wildcards):
    return code(*profile_modules(json.loads(store_spec(wildcards))))


def limits_code(wildcards):
    return code(*limits_modules(json.loads(limits_spec(CONFIG))))


def tables_spec(wildcards):
    return json.dumps({"figures": CONFIG["figures"]}, sort_keys=True)


def summary_notes(wildcards):
    named = [name for key in ("experiment", "profile", "layers") for name in CONFIG[key]["scenarios"]]
    return json.dumps(kvrocks_notes(CONFIG, list(dict.fromkeys(named)), KVROCKS))


def asked(wildcards, input):
    """What the files of records among a rule's input must have been measured with, as option --asked."""
    return ASKED.option(input)


def array_spec(wildcards):
    return ArraySettings.of(CONFIG["array"]).spec()


def measured_folder(wildcards):
    """data_dir, whose ${VARIABLES} are no wildcards."""
    return CONFIG["data_dir"]


def array_baseline_spec(wildcards):
    return baseline_spec(CONFIG)


def planned_cells(workflow):
    """Cells of the measure_scenario jobs that this run is going to execute."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "measure_scenario"]
    return sum(len(loads_of(CONFIG, job.wildcards.scenario)) for job in jobs)


def planned_places(workflow):
    """Where the stores' files of this run's jobs go. Raises WorkflowError when one has nowhere, or no room, to put them."""
    on_this = {"profile_store", "profile_limits", "profile_layers", "baseline_array"}
    jobs = list(workflow.dag.needrun_jobs())
    named = [
        CONFIG["scenarios"][job.wildcards.scenario].get("data_dir") or CONFIG["data_dir"]
        for job in jobs
        if job.rule.name in ("measure_scenario", "search_settings")
    ]
    folders = dict.fromkeys([*named, *(CONFIG["data_dir"] for job in jobs if job.rule.name in on_this)])
    cells = [
        (job.wildcards.scenario, int(job.wildcards.repeat))
        for job in jobs
        if job.rule.name == "measure_scenario"
    ]
    try:
        places = [
            where_files_go(folder, workflow.non_local_exec, bool(on_array(CONFIG))) for folder in folders
        ]
        if not workflow.non_local_exec:
            require_room(CONFIG, cells)
            if any(job.rule.name == "profile_layers" for job in jobs):
                memory_folder(Path(CONFIG["layers"]["memory_dir"]), 0)
        return places
    except UserError as error:
        raise WorkflowError(str(error))


def made_files(workflow):
    """Files that the jobs of this run made."""
    return [file for job in workflow.dag.needrun_jobs(exclude_finished=False) for file in job.output]


def asked_files(workflow):
    """Files that this run was asked for: its targets', and for a target without files of its own those that it names."""
    return [file for job in workflow.dag.targetjobs for file in (job.output or job.input)]


# Stores alone: the layers, and the profile's limits, tables and figure.


def layered_spec(wildcards):
    return layers_spec(CONFIG, wildcards.family)


def layered_code(wildcards):
    return code(*layers_modules(json.loads(layered_spec(wildcards))))


def profile_limits_spec(wildcards):
    return limits_spec(CONFIG)


def baseline_files(wildcards):
    """The device's baseline, when somebody measured it as the configuration says, on this data_dir."""
    return baseline_of(json.loads(baseline_spec(CONFIG)))


# Predictions: no GPU, no store.


def prediction_spec(wildcards):
    return predict_spec(CONFIG)


def prediction_cases():
    return json.loads(predict_spec(CONFIG))["cases"].values()


def prediction_code(wildcards):
    return code(*prediction_modules(prediction_cases()))


def prediction_files(wildcards):
    """Models and traces of the cases."""
    models = [case["model"] for case in prediction_cases()]
    traces = [case["workload"]["trace"] for case in prediction_cases() if "trace" in case["workload"]]
    return sorted({*models, *traces})


def break_even_slice(wildcards):
    return break_even_spec(CONFIG)


# Decisions: costs and claims.


def cost_slice(wildcards):
    return COST_SPEC


def compared_chunk(wildcards):
    return json.dumps({"chunk_tokens": CONFIG["figures"]["chunk_tokens"]})


def claims_tables(wildcards):
    """The tables that the claims read."""
    files = {
        "cost_repeats": rules.write_cost.output.repeats,
        "cost": rules.write_cost.output.cost,
        "cost_sensitivity": rules.write_cost.output.sensitivity,
        "stores": rules.write_stores.output.csv,
        "limits": rules.write_limits.output[0],
        "layers": rules.write_layers.output.table,
        "hit_rates": rules.predict_hit_rates.output[0],
        "break_even": rules.predict_break_even.output.table,
        "placed_stores": rules.place_stores.output[0],
        "cells": rules.write_cells.output.csv,
        "scenarios": rules.write_scenarios.output[0],
        "ratios": rules.write_ratios.output[0],
        "latency": rules.write_latency.output[0],
        "sweep_time": rules.write_sweep_time.output[0],
    }
    return [files[name] for name in claimed_tables(CLAIMS)]


def claims_records(wildcards):
    """The records behind those tables."""
    files = {
        "sweep": rules.sweep.input,
        "point": collect("<profile>/{family}.jsonl", family=PROFILED),
        "rung": collect("<profile>/layers/{family}.jsonl", family=LAYERED),
        "limit": rules.profile_limits.output,
    }
    return [path for kind in claimed_records(CLAIMS) for path in files[kind]]


# The recommendation and the page.


def recommendation_spec(wildcards):
    return recommend_spec(CONFIG)


def recommendation_code(wildcards):
    return code(*recommendation_modules(CONFIG["workload"]))


def recommendation_files(wildcards):
    """What the longest context is worked out from: the model and a trace."""
    return [CONFIG["model"], *([CONFIG["workload"]["trace"]] if "trace" in CONFIG["workload"] else [])]


def engine_record(wildcards):
    """What says that the engine's environment is there; nothing for the replay engine."""
    return environment_records()[0] if VLLM else []


# Ladder and tuner: checked by their targets, when they are asked for, not by every run. (An error in the input of a rule
# whose output exists is swallowed.)


def a_ladder(wildcards):
    """No file. Raises WorkflowError when there is no ladder, or its store is not here."""
    if LADDER_SPEC == "{}":
        raise WorkflowError("config: ladder.steps is empty; config/experiments/ladder.yaml has a ladder")
    if set(LADDER) != set(ladder_scenarios(CONFIG)):
        [note] = kvrocks_notes(CONFIG, ladder_scenarios(CONFIG), KVROCKS)
        raise WorkflowError(f"config: ladder: {note}")
    return []


def ladder_slice(wildcards):
    return LADDER_SPEC


def a_search(wildcards):
    """No file. Raises WorkflowError when no scenario of tune.scenarios has its store here, or it cannot be searched."""
    if not TUNED:
        names = ", ".join(CONFIG["tune"]["scenarios"]) or "it is empty"
        raise WorkflowError(f"config: tune.scenarios: none can be measured here ({names}); name another one")
    try:
        tune_spec(CONFIG, TUNED[0])
    except UserError as error:
        raise WorkflowError(str(error))
    return []


def tuning_spec(wildcards):
    return tune_spec(CONFIG, wildcards.scenario)


def tuning_code(wildcards):
    return tune_code(json.loads(tuning_spec(wildcards)))
