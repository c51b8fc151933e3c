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
FIGURES = ["tier_tradeoff", "chunk", "stores", "transport_medium", "layers"]
FIGURES += ["latency"] if VLLM and CONFIG["latency"]["prompt_tokens"] else []
PREDICTIONS = ["hit_rate", "break_even"]
PAGE_FIGURES = [
    *(name for name in [*FIGURES, *PREDICTIONS] if name not in ("stores", "layers", "hit_rate")),
    "cost",
]
CAPTIONS = ["figure", "cost"]


wildcard_constraints:
    scenario="[a-z0-9_-]+",
    family="[a-z0-9_-]+",
    repeat="[0-9]+",
    figure="|".join(FIGURES),


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
    """The files a scenario needs: model, what its engine needs, a trace, for Kvrocks its record and its program."""
    trace = [CONFIG["workload"]["trace"]] if "trace" in CONFIG["workload"] else []
    engine = vllm_files() if VLLM else [CONFIG["gpu"]]
    return [CONFIG["model"], *engine, *trace, *server_files(CONFIG["scenarios"][wildcards.scenario])]


def vllm_files():
    """The records of both environments, and the model's folder when it is made here."""
    made = [] if CONFIG["vllm"]["model_dir"] else [f"{made_model_dir(CONFIG)}/config.json"]
    return [*environment_records(), *made]


def wheels_of(section):
    """The wheels that an environment is made from; none when it is there already."""
    return [] if CONFIG[section]["python"] else [f"results/build/{ENVIRONMENTS[section]}/wheels.tar"]


def environment_options(section):
    """The options of build_environment: the interpreter that is there, or what a new one is made from."""
    folder = f"results/build/{ENVIRONMENTS[section]}"
    if CONFIG[section]["python"]:
        return ["--python", CONFIG[section]["python"]]
    requirements = requirements_of(CONFIG, section)
    return ["--requirements", requirements, "--wheels", f"{folder}/wheels.tar", "--venv", f"{folder}/venv"]


def engine_needs(wildcards):
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


def kvrocks_link_spec(wildcards):
    return link_spec(CONFIG["kvrocks"], KVROCKS.source, KVROCKS.binary)


def patched_link_spec(wildcards):
    return link_spec(CONFIG["kvrocks"], KVROCKS.source, KVROCKS.patched_binary, patched=True)


def server_files(scenario):
    """What is built for a scenario: connector striped's library, and for Kvrocks the record of its program, and the program."""
    library = [str(LIBRARY)] if scenario.get("client") == "native" else []
    if scenario.get("store") != "kvrocks":
        return library
    program = PATCHED_PROGRAM if scenario.get("patched") else PROGRAM
    return [*library, str(program.with_suffix(".json")), ancient(str(program))]


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


def figure_tables(wildcards):
    """The tables that a figure is drawn from: stores alone and layers need no sweep, the others no profile."""
    if wildcards.figure == "stores":
        return [rules.write_stores.output.stores, rules.write_stores.output.limits]
    if wildcards.figure == "layers":
        return [rules.write_layers.output.table]
    if wildcards.figure == "latency":
        return [rules.write_tables.output.latency]
    return [rules.write_tables.output.scenarios]


def figure_spec(wildcards):
    return "{}" if wildcards.figure in ("stores", "layers", "latency") else tables_spec(wildcards)


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


def prediction_tables(wildcards):
    """The tables that a figure of predictions is drawn from, with what was measured beside."""
    if wildcards.figure == "hit_rate":
        return [*rules.write_hit_rates.output, rules.write_tables.output.cells]
    return [rules.write_break_even.output.table, *rules.place_stores.output]


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
        "stores": rules.write_stores.output.stores,
        "limits": rules.write_stores.output.limits,
        "layers": rules.write_layers.output.table,
        "hit_rates": rules.write_hit_rates.output[0],
        "break_even": rules.write_break_even.output.table,
        "placed_stores": rules.place_stores.output[0],
        **{
            name: getattr(rules.write_tables.output, "time" if name == "sweep_time" else name)
            for name in ("cells", "scenarios", "ratios", "latency", "sweep_time")
        },
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
    return rules.build_engine.output if VLLM else []


def page_tables(wildcards):
    """The tables that the page shows."""
    written = rules.write_tables.output
    common = [written.cells, written.scenarios, written.ratios, written.environment]
    decided = [rules.write_claims.output.table, rules.write_cost.output.cost]
    return [*common, rules.write_layers.output.table, *decided]


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
