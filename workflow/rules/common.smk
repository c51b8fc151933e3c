import json
import sys
import sysconfig

settle()
put_own_python_first()
announce()

try:
    STAGES = Stages.of(config)
    STAGES.require(sys.argv[1:])
    if workflow.is_main_process:
        take_up(sys.argv[1:])
    ASKED = Asked(STAGES)
except UserError as error:
    raise WorkflowError(str(error))

CONFIG, RESOURCES = STAGES.config, JobResources(STAGES.config)


wildcard_constraints:
    scenario="[a-z0-9_-]+",
    family="[a-z0-9_-]+",
    repeat="[0-9]+",
    environment="|".join(ENVIRONMENTS),
    pair="[A-Za-z0-9_][A-Za-z0-9_.@+-]*",


def whole_machine(wildcards):
    """Every core of the machine that a job runs on, so that nothing runs beside a measurement.

    Under an executor that submits jobs, which core counts the nodes have is known on the nodes only: the profile asks
    for whole ones, and the job itself gets here with that node's cores.
    """
    return workflow.resource_settings.cores or 1


def name_in(wildcards):
    """The scenario, family, environment or pair that a job is of; '' for none."""
    return next(
        (wildcards[key] for key in ("scenario", "family", "environment", "pair") if key in wildcards.keys()),
        "",
    )


def spec(stage):
    """A stage's slice of the configuration as JSON, worked out for each job."""
    return lambda wildcards: STAGES.spec(stage, name_in(wildcards))


def compared(wildcards):
    """Option --spec of the figures that compare scenarios."""
    return ["--spec", STAGES.spec("compared", "")]


def stage_code(stage):
    """The digest of what a stage runs where that hangs on its spec; `code` is that of modules."""
    return lambda wildcards: STAGES.code(stage, name_in(wildcards))


def files(stage):
    """What a stage reads beside records and tables."""
    return lambda wildcards: STAGES.files(stage, name_in(wildcards))


def program(wildcards):
    """The server's program, whose record is among the files: a new date of it is no new program."""
    scenario = wildcards.get("scenario") or selected(CONFIG, [wildcards.family])[0]
    found = STAGES.program(scenario)
    return [] if found is None else ancient(found)


def asked(wildcards, input):
    """What the files of records among a rule's input must have been measured with, as option --asked."""
    return ASKED.option(input)
