"""A run takes up what an earlier one left: its lock and its half-written files; beside a live run it stops."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import eventually, hear_the_keyboard, mounted_tmpfs, write_as_a_stage
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.run import taking_up
from workflow.hyperkv.run.taking_up import executes, take_up

REPOSITORY = Path(__file__).parents[2]
HOLD = """
import sys
sys.path.insert(0, {repository!r})
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.base.parent import announce
from workflow.hyperkv.run.taking_up import take_up
announce()
try:
    take_up(["--cores", "1"])
    print("held", flush=True)
except UserError as error:
    print(error, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory of a run that is this process; its lock is given back."""
    monkeypatch.chdir(tmp_path)
    held = []
    monkeypatch.setattr(taking_up, "_held", held)
    yield tmp_path
    for descriptor in held:
        os.close(descriptor)


@pytest.fixture
def another(tmp_path):
    """Starts other runs of the same folder: the process, and the first line that it printed."""
    started = []

    def another(*, wait: bool = True):
        words = [sys.executable, "-c", HOLD.format(repository=str(REPOSITORY))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(words, cwd=tmp_path, text=True, preexec_fn=hear_the_keyboard, **pipes)
        started.append(process)
        return process, process.stdout.readline().strip() if wait else None

    yield another
    for process in started:
        process.kill()
        process.communicate()


def marked(name: str, job: str | None = None) -> Path:
    """Snakemake's mark of a file whose job began, as FilePersistence makes it."""
    from snakemake.persistence.file import FilePersistence

    records = FilePersistence()
    records._mark_incomplete(name, job)
    return Path(records._record_path(records._incomplete_path, name))


def written(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(*command: str) -> None:
    take_up(["--cores", "1", *command])


def test_whole_files_are_kept_and_others_are_made_again(folder, capsys):
    whole = Path("results/sweep/none/1.jsonl")
    whole.parent.mkdir(parents=True)
    write_as_a_stage(whole, [{"load": 1}, {"load": 2}])
    half = [
        written("results/sweep/dram/1.jsonl", '{"load": 1}\n{"lo'),
        written("results/tables/cells.csv", "a,b\n"),
    ]
    half.append(written(f"results/{'long/' * 60}x.csv", "a"))
    written("results/recommended/files/store.sh", "")
    partial = written("results/sweep/dram/1.jsonl.partial", "{}\n")
    untouched = written("results/tables/ratios.csv", "a,b\n")
    marks = [marked(str(path)) for path in [whole, *half]] + [marked("results/recommended/files")]
    run()
    assert [path.exists() for path in [whole, partial, untouched]] == [True] * 3
    assert not any(path.exists() for path in [*half, Path("results/recommended/files"), *marks])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("hyperkv: made again, as an earlier run did not finish them: results/")
    assert first.endswith(" and 1 more")
    assert second.endswith(": results/sweep/none/1.jsonl")


def test_nothing_outside_the_results_is_removed(folder, tmp_path_factory):
    foreign = tmp_path_factory.mktemp("foreign")
    (foreign / "file").write_text("x")
    Path("results/deep").mkdir(parents=True)
    Path("results/link").symlink_to(foreign)
    Path("results/deep/link").symlink_to(foreign / "file")
    Path("results/deep/folder").mkdir()
    Path("results/deep/folder/link").symlink_to(foreign)
    written("tiny.yaml", "x")
    names = ["results/link/file", str(foreign / "file"), "tiny.yaml", "results/../tiny.yaml", "results", ""]
    kept = [marked(name) for name in names[:-1]]
    gone = [marked("results/deep/link"), marked("results/deep/folder")]
    written(".snakemake/incomplete/not base64!", "")
    written(".snakemake/incomplete/" + base64.urlsafe_b64encode(b"\xff\x00").decode(), "")
    run()
    assert (foreign / "file").read_text() == Path("tiny.yaml").read_text() == "x"
    assert all(mark.exists() for mark in kept)
    assert not any(mark.exists() for mark in gone)
    assert list(Path("results/deep").iterdir()) == []


def test_results_on_another_disk_are_in_the_results(folder, tmp_path_factory):
    Path("results").symlink_to(tmp_path_factory.mktemp("disk"))
    half = written("results/tables/cells.csv", "a")
    marked(str(half))
    run()
    assert not half.exists()


def test_a_stale_lock_is_taken_up(folder, capsys, another):
    process, line = another()
    assert line == "held"
    process.kill()
    process.wait()
    locks = [written(f".snakemake/locks/0.{kind}.lock", "results/x\n") for kind in ("input", "output")]
    run()
    assert not any(lock.exists() for lock in locks)
    line = capsys.readouterr().out
    assert re.fullmatch(
        rf"hyperkv: an earlier run \(pid {process.pid} on \S+, since .*\) was killed; .*\n", line
    )


def test_a_live_run_stops_another_and_what_the_message_says_ends_it(folder, another, capsys):
    process, _ = another()
    lock = written(".snakemake/locks/0.output.lock", "results/x\n")
    mark = marked(str(written("results/x.csv", "half")))
    with pytest.raises(
        UserError, match=rf"^another run works in this folder \(pid {process.pid} on "
    ) as caught:
        run()
    for looking in ("--dry-run", "--summary", "--unlock", "--nolock"):
        run(looking)
    assert lock.exists()
    assert mark.exists()
    assert Path("results/x.csv").exists()
    subprocess.run(re.search(r"`(kill -9 \d+)`", str(caught.value))[1].split(), check=True, timeout=10)
    process.wait()
    run()
    assert not Path("results/x.csv").exists()


def test_of_runs_that_start_at_once_one_goes_on(another):
    lines = [process.stdout.readline().strip() for process, _ in [another(wait=False) for _ in range(5)]]
    assert sorted(line == "held" for line in lines) == [False] * 4 + [True]
    assert all(line == "held" or line.startswith("another run works in this folder (pid ") for line in lines)


def test_jobs_of_a_killed_run_are_waited_for(folder, another, capsys):
    """A job here is whatever the run started and told its name; it ends a moment later."""
    process, _ = another()
    held = json.loads(Path(".snakemake/hyperkv.lock").read_text())
    told = os.environ | {"HYPERKV_PARENT": held["identity"]}
    with (
        subprocess.Popen(["sleep", "1"], env=told) as job,
        subprocess.Popen(["sleep", "1000"], env=told, start_new_session=True) as of_a_scheduler,
    ):
        process.kill()
        process.wait()
        run()
        assert taking_up.those_of(held["identity"]) == [of_a_scheduler.pid]
        assert job.wait() == 0
        of_a_scheduler.kill()
    assert f"waiting for the jobs of the killed run (pid {process.pid}) to end" in capsys.readouterr().out


def test_a_file_that_is_still_measured_elsewhere_is_not_made_beside(folder):
    marked("results/sweep/none/1.jsonl")
    lock = written("results/sweep/none/1.jsonl.lock", "")
    code = "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], **pipes) as job:
        job.stdout.readline()
        with pytest.raises(
            UserError, match=r"^a job of an earlier run still measures results/sweep/none/1\.jsonl; wait"
        ):
            run()
        job.stdin.close()
    run()


def test_a_copy_of_the_folder_leaves_the_live_run_and_its_jobs_alone(another, tmp_path, monkeypatch, capsys):
    process, _ = another()
    shutil.copytree(tmp_path / ".snakemake", tmp_path / "copy/.snakemake")
    held = json.loads((tmp_path / "copy/.snakemake/hyperkv.lock").read_text())
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr(taking_up, "_held", [])
    told = os.environ | {"HYPERKV_PARENT": held["identity"]}
    with subprocess.Popen(["sleep", "1000"], env=told) as job:
        lock = written(".snakemake/locks/0.output.lock", "results/x\n")
        run()
        assert job.poll() is None
        job.kill()
    assert process.poll() is None
    assert not lock.exists()
    assert capsys.readouterr().out == "hyperkv: an earlier run was killed; its lock is taken up\n"
    os.close(taking_up._held.pop())


def test_jobs_that_may_be_in_a_queue_are_named(folder, capsys):
    for name, job in ("a", "12"), ("b", "13"), ("c", None):
        marked(f"results/{name}", job)
    run()
    assert "to end them: scancel 12 13\n" in capsys.readouterr().out


def test_a_lock_file_that_is_a_link_is_not_written_through(folder):
    target = written("precious", "kept")
    Path(".snakemake").mkdir()
    Path(".snakemake/hyperkv.lock").symlink_to(target.absolute())
    with pytest.raises(UserError, match=r"^\.snakemake/hyperkv\.lock: "):
        run()
    assert target.read_text() == "kept"


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\0\xff", '{"pid": 1}'])
def test_a_damaged_note_is_no_hindrance(text, folder):
    written(".snakemake/hyperkv.lock", text)
    run()
    assert json.loads(Path(".snakemake/hyperkv.lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("name", ["results", ".snakemake"])
def test_a_file_in_the_way_and_its_remedy(name, folder):
    written(name, "x")
    with pytest.raises(
        UserError, match=rf"^{re.escape(name)}: File exists; that name is for a folder: move away what"
    ):
        run()
    os.rename(name, "away")
    run()


@pytest.mark.parametrize("target", ["metadata", "nowhere"])
def test_a_link_to_nowhere_and_its_remedy(target, folder):
    Path(".snakemake").mkdir(exist_ok=True)
    Path(".snakemake/metadata").symlink_to(target)
    with pytest.raises(UserError, match=r"^\.snakemake/metadata: (Too many|No such).*; move that away"):
        run()
    os.rename(".snakemake/metadata", "away")
    run()


@pytest.mark.parametrize("name", ["results", ".snakemake"])
def test_a_full_disk_and_its_remedy(name, folder):
    with mounted_tmpfs(folder / name, 1):
        filler = written(f"{name}/filler", "x" * (1 << 20))
        with pytest.raises(
            UserError, match=rf"^{re.escape(name)}: No space left on device; free space on that disk"
        ):
            run()
        filler.unlink()
        run()


@pytest.mark.parametrize("name", ["results", ".snakemake", "results/sweep", "results/logs/x.log"])
def test_what_another_user_owns(name, folder, monkeypatch):
    """As after a run with sudo; access(2) is asked, which says yes to root."""
    written("results/logs/x.log", "")
    Path("results/sweep").mkdir()
    Path(".snakemake").mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != name and allowed(path, mode))
    with pytest.raises(
        UserError,
        match=rf"^{re.escape(name)}: Permission denied; let \S+ write there \(after a run with sudo",
    ):
        run()


@pytest.mark.parametrize(
    ("command", "does"),
    [
        ("--cores all", True),
        ("sweep --cores 2 --quiet rules host reason --keep-going --scheduler greedy", True),
        ("--workflow-profile workflow/profiles/slurm", True),
        ("--cores 1 --touch", True),
        ("--cores 1 --delete-all-output", True),
        ("--cores 1 --report x.html --report-after-run", True),
        ("--no-such-option", True),
        ("-n", False),
        ("--cores 1 --dry-run --forceall", False),
        ("--lint", False),
        ("--cores 1 --unlock", False),
        ("--cores 1 --report x.html", False),
        ("--cores 1 --nolock", False),
        *(
            (f"--{word}", False)
            for word in ("summary", "dag", "rulegraph", "filegraph", "list-rules", "list-target-rules")
        ),
    ],
)
def test_what_makes_files(command, does, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert executes(command.split()) is does


def test_an_interrupted_holder_gives_the_folder_back(folder, another):
    process, _ = another()
    process.send_signal(signal.SIGINT)
    process.wait()
    assert eventually(lambda: another()[1] == "held")
