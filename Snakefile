"""HyperKV: what keeping an LLM's KV cache on SSD costs and buys, compared with DRAM."""

import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from workflow.hyperkv.run import last_words, status_line

if workflow.is_main_process:
    last_words.listen()
    if not workflow.output_settings.dryrun:
        status_line.listen(
            workflow.output_settings.quiet, "results/sweep/.progress.json", "results/logs/run.log"
        )

from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.parent import announce
from workflow.hyperkv.base.surroundings import (
    output_cache_is_set,
    put_own_python_first,
    require_scheduler,
    settle,
)
from workflow.hyperkv.config.code import check_modules, code, plugin_modules
from workflow.hyperkv.config.config_text import require_readable
from workflow.hyperkv.config.models.engines import PAIRS
from workflow.hyperkv.config.environments import (
    ENVIRONMENTS,
    LOADGEN_ENVIRONMENT,
    packaged,
    python_of,
    requirements_of,
    weights_options,
)
from workflow.hyperkv.config.scenarios import selected
from workflow.hyperkv.run.stages import Stages
from workflow.hyperkv.run.asked import Asked
from workflow.hyperkv.run.closing import closing_lines
from workflow.hyperkv.run.configuration import over_defaults, require_own_folder
from workflow.hyperkv.run.jobs import (
    asked_files,
    made_files,
    open_stores,
    planned_cells,
    planned_losses,
    planned_places,
)
from workflow.hyperkv.run.provenance import begin_run, end_run, recall_code, settle_results
from workflow.hyperkv.run.resources import JobResources
from workflow.hyperkv.run.taking_up import take_up
from workflow.hyperkv.stores.registry import looks
from workflow.hyperkv.sweep.progress import write_plan
from workflow.hyperkv.workloads.text.tokens_file import options

min_version("9.20")
recall_code()


try:
    require_own_folder(str(workflow.current_basedir))
    require_readable(["config/scenarios.yaml", "config/config.yaml", *workflow.overwrite_configfiles])
except UserError as error:
    raise WorkflowError(str(error))


configfile: "config/scenarios.yaml"
configfile: "config/config.yaml"


if workflow.modifier.skip_configfile:
    config = over_defaults(config, ["config/scenarios.yaml", "config/config.yaml"])


report: "workflow/report/workflow.rst"


pathvars:
    build="results/build",
    sweep="results/sweep",
    profile="results/profile",
    predict="results/predict",
    tune="results/tune",
    pairs="results/pairs",
    bits="results/bits",
    tables="results/tables",
    figures="results/figures",
    recommended="results/recommended",
    report="results/report",
    logs="results/logs",


include: "workflow/rules/common.smk"
include: "workflow/rules/build.smk"
include: "workflow/rules/engine.smk"
include: "workflow/rules/array.smk"
include: "workflow/rules/workload.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/layers.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/decide.smk"
include: "workflow/rules/recommend.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/ladder.smk"
include: "workflow/rules/devices.smk"
include: "workflow/rules/pairs.smk"
include: "workflow/rules/bits.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/docs.smk"


rule all:
    default_target: True
    input:
        rules.sweep.input,
        rules.profile.input,
        rules.layers.input,
        rules.predict.input,
        rules.tables.input,
        rules.figures.input,
        rules.decide.input,
        rules.recommend.input,
        rules.make_summary.output,


try:
    settle_results(workflow, ASKED)
except UserError as error:
    raise WorkflowError(str(error))


onstart:
    begin_run(made_files(workflow))
    require_scheduler(workflow.executor_plugin.name)
    write_plan("results/sweep/.progress.json", planned_cells(workflow, CONFIG))
    try:
        places = planned_places(workflow, CONFIG)
    except UserError as error:
        raise WorkflowError(str(error))
    for place in places:
        print(f"The stores' files go to {place}.")
    for line in [*open_stores(CONFIG["scenarios"], STAGES.started()), *planned_losses(workflow, CONFIG)]:
        print(f"hyperkv: warning: {line}", file=sys.stderr)


onsuccess:
    end_run(workflow, made_files(workflow), ASKED)
    print(*closing_lines(made_files(workflow), asked_files(workflow)), sep="\n")


onerror:
    end_run(workflow, made_files(workflow), ASKED)
    print(
        "HyperKV stopped. Lines that begin with 'hyperkv' say why; what was measured is kept: "
        "run the same command again."
    )
