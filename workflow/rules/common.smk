import json

put_own_python_first()

try:
    CONFIG = checked(config)
    KVROCKS = resolve(CONFIG["kvrocks"])
    SCENARIOS = runnable_scenarios(CONFIG, selected(CONFIG, CONFIG["experiment"]["scenarios"]), KVROCKS)
    PROFILED = runnable(CONFIG, CONFIG["profile"]["scenarios"], KVROCKS)
    LAYERED = runnable(CONFIG, CONFIG["layers"]["scenarios"], KVROCKS)
except UserError as error:
    raise WorkflowError(str(error))

KVROCKS_FILES = ["results/build/kvrocks/kvrocks.json", ancient("results/build/kvrocks/kvrocks")]
REPEATS = list(range(1, CONFIG["experiment"]["repeats"] + 1))
FIGURES = ["tier_tradeoff", "chunk", "stores", "transport_medium", "layers"]


wildcard_constraints:
    scenario="[a-z0-9_-]+",
    family="[a-z0-9_-]+",
    repeat="[0-9]+",
    figure="|".join(FIGURES),


def whole_machine(wildcards):
    """Every core, so that nothing runs beside a measurement."""
    return workflow.cores


def scenario_spec(wildcards):
    return sweep_spec(CONFIG, wildcards.scenario)


def scenario_code(wildcards):
    return scenario_sources(json.loads(scenario_spec(wildcards)))


def scenario_inputs(wildcards):
    """The files a scenario needs: model, GPU, for a trace the trace, for Kvrocks its record and its program."""
    trace = [CONFIG["workload"]["trace"]] if "trace" in CONFIG["workload"] else []
    return [CONFIG["model"], CONFIG["gpu"], *trace, *server_files(CONFIG["scenarios"][wildcards.scenario])]


def kvrocks_fetch_spec(wildcards):
    return fetch_spec(CONFIG["kvrocks"], KVROCKS.source)


def kvrocks_build_spec(wildcards):
    return build_spec(CONFIG["kvrocks"], KVROCKS.source)


def kvrocks_link_spec(wildcards):
    return link_spec(CONFIG["kvrocks"], KVROCKS.source, KVROCKS.binary)


def server_files(scenario):
    return KVROCKS_FILES if scenario.get("store") == "kvrocks" else []


def store_files(wildcards):
    return server_files(CONFIG["scenarios"][selected(CONFIG, [wildcards.family])[0]])


def store_spec(wildcards):
    return profile_spec(CONFIG, wildcards.family)


def store_code(wildcards):
    scenario = json.loads(store_spec(wildcards))["scenario"]
    return profile_sources(scenario)


def tables_spec(wildcards):
    return json.dumps({"figures": CONFIG["figures"]}, sort_keys=True)


def summary_notes(wildcards):
    named = [name for key in ("experiment", "profile", "layers") for name in CONFIG[key]["scenarios"]]
    return json.dumps(kvrocks_notes(CONFIG, list(dict.fromkeys(named)), KVROCKS))


def array_spec(wildcards):
    return ArraySettings.of(CONFIG["array"]).spec()


def array_baseline_spec(wildcards):
    return baseline_spec(CONFIG)


def planned_cells(workflow):
    """Cells of the measure_scenario jobs that this run is going to execute."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "measure_scenario"]
    return sum(len(loads_of(CONFIG, job.wildcards.scenario)) for job in jobs)


# Stores alone: the layers, and the profile's limits, tables and figure.


def layered_spec(wildcards):
    return layers_spec(CONFIG, wildcards.family)


def layered_code(wildcards):
    return layers_sources(json.loads(layered_spec(wildcards))["scenario"])


def profile_limits_spec(wildcards):
    return limits_spec(CONFIG)


def baseline_files(wildcards):
    """The device's baseline, when somebody measured it on this data_dir."""
    return baseline_of(CONFIG["data_dir"], on_array(CONFIG).get("array"))


def figure_tables(wildcards):
    """The tables that a figure is drawn from: stores alone and layers need no sweep, the others no profile."""
    if wildcards.figure == "stores":
        return [rules.write_stores.output.stores, rules.write_stores.output.limits]
    if wildcards.figure == "layers":
        return [rules.write_layers.output.table]
    return [rules.write_tables.output.scenarios]


def figure_spec(wildcards):
    return "{}" if wildcards.figure in ("stores", "layers") else tables_spec(wildcards)
