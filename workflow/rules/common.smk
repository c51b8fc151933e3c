import json

put_own_python_first()

try:
    CONFIG = checked(config)
except UserError as error:
    raise WorkflowError(str(error))

SCENARIOS = selected(CONFIG, CONFIG["experiment"]["scenarios"])
PROFILED = CONFIG["profile"]["scenarios"]
REPEATS = list(range(1, CONFIG["experiment"]["repeats"] + 1))
FIGURES = ["tier_tradeoff", "chunk", "value_size", "transport_medium"]


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
    """The files a scenario's spec names: model, GPU and, for a trace, the trace."""
    trace = [CONFIG["workload"]["trace"]] if "trace" in CONFIG["workload"] else []
    return [CONFIG["model"], CONFIG["gpu"], *trace]


def store_spec(wildcards):
    return profile_spec(CONFIG, wildcards.family)


def store_code(wildcards):
    scenario = json.loads(store_spec(wildcards))["scenario"]
    return profile_sources(scenario)


def tables_spec(wildcards):
    return json.dumps({"figures": CONFIG["figures"]}, sort_keys=True)


def planned_cells(workflow):
    """Cells of the measure_scenario jobs that this run is going to execute."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "measure_scenario"]
    return sum(len(loads_of(CONFIG, job.wildcards.scenario)) for job in jobs)
