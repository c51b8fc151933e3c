"""What a run says at its end of errors that Snakemake tells as its own."""

import errno
import logging
import os
import subprocess
import sys

import pytest

from workflow.hyperkv.run.last_words import LastWords, system_line

COMMAND = "python -m workflow.hyperkv.sweep.measure_scenario --spec {} 2> {log}"
AGAIN = "then run the same command again"


def heard(*records: tuple[str, dict]) -> list[str]:
    words = LastWords()
    for text, extra in records:
        record = logging.LogRecord("snakemake", logging.ERROR, "", 0, text, (), None)
        vars(record).update(extra)
        words.handle(record)
    return words.lines()


def job(log, end: str, said: str | None = None) -> tuple:
    command = COMMAND.replace("{log}", str(log))
    extra = {"event": "job_error", "jobid": 3, "rule_name": "measure_scenario", "rule_msg": said}
    return (
        (
            f"RuleException:\nCommand 'set -euo pipefail;  {command}' {end}.",
            {"event": "error", "exception": "RuleException"},
        ),
        ("Error in rule measure_scenario, jobid: 3", extra | {"log": [str(log)], "shellcmd": command}),
    )


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (
            "returned non-zero exit status 137",
            "was ended by signal 9 (SIGKILL), as the system does when memory runs out",
        ),
        (
            "died with <Signals.SIGKILL: 9>",
            "was ended by signal 9 (SIGKILL), as the system does when memory runs out",
        ),
        ("returned non-zero exit status 139", "was ended by signal 11 (SIGSEGV); what was measured is kept"),
        ("returned non-zero exit status 132", "was ended by signal 4 (SIGILL: this CPU lacks"),
        ("returned non-zero exit status 255", "ended with status 255 and no reason"),
        ("returned non-zero exit status 127", "ended with status 127 and no reason"),
        ("returned non-zero exit status 1", "ended with status 1 and no reason"),
    ],
)
def test_a_job_that_could_say_nothing(end, how, tmp_path):
    log = tmp_path / "rocksdb_resp-1.log"
    log.write_text("a line of a library\n")
    [line] = heard(*job(log, end))
    assert line.startswith(f"hyperkv measure_scenario: error: rocksdb_resp-1 {how}")
    assert line.endswith(f"; see {log}, {AGAIN}")


def test_a_job_that_the_scheduler_ended(tmp_path):
    said = "SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'."
    [line] = heard(job(tmp_path / "none-1.log", "", said)[1])
    assert line.startswith(f"hyperkv measure_scenario: error: none-1 failed: {said}; see ")


@pytest.mark.parametrize(
    "said", ["hyperkv sweep: error: the disk is full", "hyperkv sweep: interrupted; run again"]
)
def test_a_job_that_said_why(said, tmp_path):
    log = tmp_path / "none-1.log"
    log.write_text(f"x\n{said}\n")
    assert heard(*job(log, "returned non-zero exit status 1")) == []


def test_a_job_that_said_why_and_whose_log_is_gone(tmp_path):
    assert heard(*job(tmp_path / "none-1.log", "returned non-zero exit status 2")) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "MissingOutputException in rule measure_scenario in file x.smk, line 1:\nJob 2  completed successfully, but some "
            "output files are missing.\nresults/sweep/a b/1.jsonl (missing locally, parent dir contents: )",
            f"results/sweep/a b/1.jsonl: made and not there: it was removed, or a shared file system is late; see to that, {AGAIN}",
        ),
        (
            "WorkflowError:\nError recording metadata for finished job ([Errno 28] No space left on device). Please ensure "
            "write permissions for the directory /w/.snakemake",
            f"/w/.snakemake: No space left on device; free space on that disk, {AGAIN}",
        ),
        (
            "Traceback (most recent call last):\n  File x\nPermissionError: [Errno 13] Permission denied: 'results/x'",
            "results/x: Permission denied; let ",
        ),
        (
            "Traceback (most recent call last):\n  File x\nIsADirectoryError: [Errno 21] Is a directory: "
            "'/w/.snakemake/metadata/x'",
            f"/w/.snakemake/metadata/x: Is a directory; move that away (results stay), {AGAIN}",
        ),
        (
            "Traceback (most recent call last):\n  File x\nUnicodeDecodeError: 'utf-8' codec can't decode byte 0xff",
            "Snakemake was stopped by UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff; if it is again",
        ),
    ],
)
def test_what_stops_snakemake_itself(text, line):
    assert heard((text, {"event": "error", "exception": text.split(":")[0]}))[0].startswith(
        f"hyperkv: error: {line}"
    )


def test_what_is_a_line_already_is_not_said_again():
    ours = 'WorkflowError in file "common.smk", line 3:\nresults: [Errno 28] No space left on device'
    last = "WorkflowError:\nAt least one job did not complete successfully."
    assert (
        heard(
            (ours, {"event": "error", "exception": "WorkflowError"}), (last, {"exception": "WorkflowError"})
        )
        == []
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EIO])
def test_every_refusal_of_the_system_has_a_remedy(number):
    line = system_line(number, os.strerror(number), "results")
    assert line.startswith(f"results: {os.strerror(number)}; ")
    assert line.endswith(AGAIN)


def test_an_interrupt_before_there_are_jobs_is_a_line():
    script = "from workflow.hyperkv.run.last_words import listen; listen(); raise {}"
    ended = [
        subprocess.run(
            [sys.executable, "-c", script.format(error)], capture_output=True, text=True, timeout=60
        )
        for error in ("KeyboardInterrupt", "ValueError")
    ]
    assert ended[0].stderr == "hyperkv: interrupted; run the same command again\n"
    assert ended[0].returncode != 0
    assert "Traceback" in ended[1].stderr
