"""What goes wrong with a run: each case ends soon, in one line, leaves no process and loses no finished cell."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers import eventually, free_ports_in_a_row, mounted_tmpfs
from tests.workflow_helpers import TINY, Checkout, changed

pytestmark = pytest.mark.slow

FINISHED = "results/sweep/finished/1.jsonl"
PARTIAL, DONE = "results/sweep/{}/1.jsonl.partial", "results/sweep/{}/1.jsonl"
# 180 MiB in 90 requests: a cell takes long enough to be disturbed, and its first values are soon on disk.
LONG = {
    "workload.conversations": 30,
    "workload.turns": [6, 6],
    "replay.hbm_kv_bytes": "16 MiB",
    "scenarios.rocksdb_resp.settings": {"rocksdb.write_buffer_size": 4, "direct_io": "no"},
}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Checkout:
    """A checkout with one finished result. Not to be changed."""
    checkout = Checkout.new(tmp_path_factory.mktemp("faults") / "checkout")
    (checkout / FINISHED).parent.mkdir(parents=True)
    (checkout / FINISHED).write_text("measured before\n")
    return checkout


@pytest.fixture
def checkout(original, tmp_path) -> Iterator[Checkout]:
    """A copy of its own; whatever the test does, the finished result is still there and nothing runs."""
    copy = original.copy(tmp_path / "checkout")
    yield copy
    assert (copy / FINISHED).read_text() == "measured before\n"
    assert not copy.processes()


def only_error(output: str, stage: str = "sweep") -> str:
    """The text of the one error line of a stage; there is no other error and no traceback."""
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.startswith("hyperkv") and "error:" in line]
    assert len(lines) == 1, output
    assert lines[0].startswith(f"hyperkv {stage}: error: ")
    return lines[0].removeprefix(f"hyperkv {stage}: error: ")


def closed(port: int) -> bool:
    """Whether nothing listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def bound_port() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# A wrong config stops before anything runs


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"experiment.laods": [1]},
            r"config: experiment\.laods is not a key; did you mean loads\? allowed are scenarios, .*loads, .*",
        ),
        (
            {"scenarios.valkey_resp.chunk_tokens": 192},
            r"config: scenarios\.valkey_resp\.chunk_tokens: 192 exceeds .*longest context \(176 tokens\).*; lower it to at most 176",
        ),
    ],
)
def test_wrong_config_is_one_line(changes, line, checkout):
    """What else can be wrong is in tests/config."""
    checkout.configure(changed(TINY, changes))
    status, output = checkout.snakemake()
    assert status == 1
    errors = [text for text in output.splitlines() if "config: " in text]
    assert len(errors) == 1, output
    assert re.fullmatch(line, errors[0])
    assert "WorkflowError in file" in output
    assert "Traceback" not in output
    assert "rule measure_scenario" not in output


def test_numbers_of_the_command_line_are_numbers(checkout):
    told = 'experiment={"loads": [1], "repeats": 1}'
    status, output = checkout.snakemake("--dry-run", "sweep", "--config", told)
    assert status == 0, output
    status, output = checkout.snakemake("--dry-run", "sweep", "--config", 'experiment={"loads": [one]}')
    assert status == 1
    assert "config: experiment.loads.0: 'one' is wrong; it must be a number, more than 0" in output
    assert "Traceback" not in output


# A scenario that cannot start


def test_malformed_trace_names_the_line(checkout):
    good = '{"timestamp": 0, "input_length": 600, "output_length": 20, "hash_ids": [1, 2]}\n'
    (checkout / "bad.jsonl").write_text(2 * good + good.replace("[1, 2]", "[1]") + good)
    checkout.configure(changed(TINY, {"workload.kind": "trace", "workload.trace": "bad.jsonl"}))
    status, output = checkout.snakemake("--dry-run")
    assert status == 1
    [error] = [text for text in output.splitlines() if "bad.jsonl" in text]
    assert error.startswith("config: workload.trace: bad.jsonl:3: 1 hash_ids for input_length 600; write 2")
    assert "Traceback" not in output


def test_port_in_use_fails_that_scenario_and_the_others_go_on(checkout):
    with bound_port() as port:
        changes = {"experiment.scenarios": ["none", "valkey_resp"], "scenarios.valkey_resp.port": port}
        checkout.configure(changed(TINY, changes))
        status, output = checkout.snakemake("--keep-going", "sweep")
        assert status == 1
        error = only_error(output)
        assert error.startswith(f"store valkey: port {port} on 127.0.0.1 is in use by pid {os.getpid()}")
        assert "give the scenario another port (0 picks a free one)" in error
        assert "HyperKV stopped. Lines that begin with 'hyperkv' say why" in output
        assert checkout.loads("none") == [1, 2]
    status, output = checkout.snakemake("--keep-going", "sweep")
    assert status == 0, output
    told = (checkout / "results/logs/sweep/valkey_resp-1.log").read_text()
    assert re.findall(r"^hyperkv sweep: .*· (\S+) repeat 1 load (\d)", told, re.MULTILINE) == [
        ("valkey_resp", "1"),
        ("valkey_resp", "2"),
    ]


@pytest.mark.parametrize(
    ("scenario", "data_dir"), [("files", "in-the-way"), ("rocksdb_resp", "in-the-way/below")]
)
def test_unwritable_data_dir(scenario, data_dir, checkout):
    (checkout / "in-the-way").write_text("a file")
    checkout.configure(changed(TINY, {"data_dir": data_dir, "experiment.scenarios": [scenario]}))
    status, output = checkout.sweep(scenario)
    assert status == 2
    assert re.match("data_dir: .*in-the-way.*; choose a writable folder", only_error(output))
    assert (checkout / "in-the-way").read_text() == "a file"


def test_a_bad_data_dir_stops_a_run_before_its_first_job(checkout):
    """Nothing of what was measured before goes, and the log has one line of it."""
    (checkout / "in-the-way").write_text("a file")
    (checkout / DONE.format("none")).parent.mkdir(parents=True)
    (checkout / DONE.format("none")).write_text("of another configuration\n")
    checkout.configure(changed(TINY, {"data_dir": "in-the-way/below", "experiment.scenarios": ["none"]}))
    status, output = checkout.snakemake("sweep", "--forcerun", "measure_scenario")
    assert status == 1
    assert [line for line in output.splitlines() if "data_dir: " in line] == [
        "data_dir: cannot write in in-the-way/below: Not a directory; choose a writable folder with data_dir"
    ]
    assert "Traceback" not in output
    assert "rule measure_scenario" not in output
    assert (checkout / DONE.format("none")).read_text() == "of another configuration\n"


# Two checkouts on one disk


def test_two_checkouts_share_a_data_dir(checkout, tmp_path):
    """The second is refused with one line while the first measures, which loses nothing, and runs when it is done; what a
    killed one leaves is removed by the other."""
    shared = tmp_path / "shared"
    changes = LONG | {"data_dir": str(shared), "experiment.scenarios": ["rocksdb_resp"]}
    checkout.configure(changed(TINY, changes))
    second = checkout.copy(tmp_path / "second")
    argv = checkout.sweep_argv("rocksdb_resp")
    with checkout.start(*argv) as first:
        eventually(lambda: list(shared.glob("hyperkv-*/*/*.blob")))
        status, output = second.sweep("rocksdb_resp")
        assert status == 2
        assert only_error(output).startswith(
            f"data_dir: {shared} is being measured on by pid {first.pid} in {checkout.folder}; two at once disturb"
        )
        assert first.communicate(timeout=60)[0].count("repeat 1 load") == 2
    assert (first.returncode, checkout.loads("rocksdb_resp")) == (0, [1, 2])
    with second.start(*argv) as killed:
        eventually(lambda: list(shared.glob("hyperkv-*/*/*.blob")))
        killed.kill()
        killed.wait(10)
        (left,) = shared.iterdir()
        eventually(lambda: not second.processes())
    (checkout / DONE.format("rocksdb_resp")).unlink()
    status, output = checkout.sweep("rocksdb_resp")
    assert status == 0, output
    said = f"hyperkv: {left}: left by pid {killed.pid} in {second.folder} (rocksdb_resp, repeat 1, "
    assert output.count(said) == output.count("), removed\n") == 1
    status, output = second.sweep("rocksdb_resp")
    assert status == 0, output
    assert second.loads("rocksdb_resp") == checkout.loads("rocksdb_resp") == [1, 2]
    assert list(shared.iterdir()) == []


# A full disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """640 MiB of tmpfs, on which the long workload has room, for the stores' files."""
    with mounted_tmpfs(tmp_path / "disk", 640) as disk:
        yield disk


def fill(folder: Path) -> None:
    """Take the rest of a disk's space with one file."""
    with (folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))


def test_too_little_space_is_refused_before_measuring(small_disk, checkout):
    fill(small_disk)
    checkout.configure(changed(TINY, LONG | {"data_dir": str(small_disk)}))
    status, output = checkout.sweep("rocksdb_resp")
    assert status == 2
    assert only_error(output).startswith(f"data_dir: cannot write in {small_disk}: No space left on device;")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - (1 << 20))
    status, output = checkout.sweep("rocksdb_resp")
    assert status == 2
    wanted = r"scenario rocksdb_resp: about 0\.\d GB needed on the disk of (\S+), where .* twice its 0\.\d GB, 0\.0 GB free; choose another data_dir"
    assert re.match(wanted, only_error(output))[1] == str(small_disk)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("scenario", ["files", "rocksdb_resp"])
def test_disk_full_during_a_sweep_then_resumed(scenario, small_disk, checkout):
    changes = LONG | {"data_dir": str(small_disk), "experiment.scenarios": [scenario]}
    checkout.configure(changed(TINY, changes))
    with checkout.start(*checkout.sweep_argv(scenario)) as sweep:
        eventually(lambda: checkout.kept_loads(scenario) == [1])
        eventually(lambda: list(small_disk.glob("hyperkv-*/*/*")))
        sweep.send_signal(signal.SIGSTOP)
        fill(small_disk)
        sweep.send_signal(signal.SIGCONT)
        output, _ = sweep.communicate(timeout=30)
        assert not checkout.processes()
    assert sweep.returncode == 2, output
    assert re.search("No space left on device", only_error(output))
    assert checkout.kept_loads(scenario) == [1]
    assert checkout.loads(scenario) == []
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    (small_disk / "filler").unlink()
    assert_resumes_after_load_1(checkout, scenario)


# A sweep that is disturbed


def store_of(checkout: Checkout) -> psutil.Process | None:
    """The RocksDB server that runs in the checkout and holds values on disk, or None."""
    if not list(checkout.folder.glob("results/data/*/*/*.blob")):
        return None
    servers = checkout.processes("workflow.hyperkv.stores.rocksdb.server")
    return servers[0] if servers else None


def assert_resumes_after_load_1(checkout: Checkout, scenario: str) -> None:
    """The same sweep again measures load 2 only and then has both, even behind a line torn in the middle."""
    partial = checkout / PARTIAL.format(scenario)
    kept = partial.read_text()
    partial.write_text(kept + kept[:60])
    status, output = checkout.sweep(scenario)
    assert status == 0, output
    assert re.findall(r"repeat 1 load (\d+):", output) == ["2"]
    assert checkout.loads(scenario) == [1, 2]
    assert not partial.exists()
    first = json.loads((checkout / DONE.format(scenario)).read_text().splitlines()[0])
    assert json.loads(kept)["record"].items() <= first.items()


def test_store_killed_during_a_sweep_then_resumed(checkout):
    checkout.configure(changed(TINY, LONG))
    with checkout.start(*checkout.sweep_argv("rocksdb_resp")) as sweep:
        eventually(lambda: checkout.kept_loads("rocksdb_resp") == [1])
        store = eventually(lambda: store_of(checkout))
        store.kill()
        output, _ = sweep.communicate(timeout=20)
        assert not checkout.processes()
    assert sweep.returncode == 2, output
    error = only_error(output)
    assert (
        f"store rocksdb (pid {store.pid}) died with signal 9 (SIGKILL) while it was being measured" in error
    )
    assert "see results/logs/servers/rocksdb_resp-1-rocksdb.log" in error
    assert checkout.kept_loads("rocksdb_resp") == [1]
    assert checkout.loads("rocksdb_resp") == []
    assert not list(checkout.folder.glob("results/data/*"))
    assert_resumes_after_load_1(checkout, "rocksdb_resp")


def test_a_partial_file_of_another_config_is_not_used(checkout):
    partial = checkout / PARTIAL.format("dram-16")
    partial.parent.mkdir(parents=True)
    partial.write_text('{"digest": "another", "key": "1", "record": {"load": 7}}\n')
    status, output = checkout.sweep("dram-16")
    assert status == 0, output
    assert re.findall(r"repeat 1 load (\d+):", output) == ["1", "2"]
    assert checkout.loads("dram-16") == [1, 2]
    assert not partial.exists()


# A run that is killed


def stage_of(checkout: Checkout) -> psutil.Process:
    """The sweep itself, not the shell that started it."""
    [stage] = [
        found
        for found in checkout.processes("-m workflow.hyperkv.sweep.measure_scenario")
        if "-c" not in found.cmdline()
    ]
    return stage


def started(checkout: Checkout) -> None:
    """The first load is measured, and the store of the second has values on disk."""
    eventually(lambda: checkout.kept_loads("rocksdb_resp") == [1])
    eventually(lambda: store_of(checkout))


def assert_only_load_2_is_measured(checkout: Checkout) -> None:
    told = (checkout / "results/logs/sweep/rocksdb_resp-1.log").read_text()
    assert re.findall(r"repeat 1 load (\d+):", told) == ["2"]
    assert checkout.loads("rocksdb_resp") == [1, 2]
    assert not (checkout / PARTIAL.format("rocksdb_resp")).exists()
    assert not list(checkout.folder.glob("results/data/*"))


def test_a_second_run_stops_and_when_the_first_is_killed_the_same_command_goes_on(checkout):
    port = free_ports_in_a_row(1)
    changes = {"experiment.scenarios": ["rocksdb_resp"], "scenarios.rocksdb_resp.port": port}
    checkout.configure(changed(TINY, LONG | changes))
    with checkout.start(*checkout.snakemake_argv("sweep")) as run:
        started(checkout)
        stage_of(checkout).suspend()  # so that it is still measuring
        with checkout.start(*checkout.snakemake_argv("sweep"), end_all=False) as second:
            refused, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        lines = [line for line in refused.splitlines() if "another run works in this folder" in line]
        assert len(lines) == 1, refused
        assert f"(pid {run.pid} on " in lines[0]
        assert "Traceback" not in refused
        subprocess.run(re.search(r"`(kill -9 \d+)`", lines[0])[1].split(), check=True, timeout=10)
        run.communicate(timeout=20)
        eventually(lambda: not checkout.processes())
    assert closed(port)
    assert not list(checkout.folder.glob("results/data/*"))
    assert list(checkout.folder.glob(".snakemake/locks/*"))
    half = checkout / DONE.format("rocksdb_resp")
    half.write_text('{"half a ')
    looked, output = checkout.snakemake("sweep", "--dry-run")
    assert looked == 1
    last = "hyperkv: error: a run was killed while it made these; the command without --dry-run takes them up, and "
    assert output.splitlines()[-1] == f"{last}--rerun-incomplete shows how"
    looked, output = checkout.snakemake("sweep", "--dry-run", "--rerun-incomplete")
    assert looked == 0, output
    assert half.exists()
    status, output = checkout.snakemake("sweep")
    assert status == 0, output
    assert f"hyperkv: an earlier run (pid {run.pid} on " in output
    assert (
        "hyperkv: made again, as an earlier run did not finish them: results/sweep/rocksdb_resp/1.jsonl"
        in output
    )
    assert_only_load_2_is_measured(checkout)


INTERRUPTED = "hyperkv sweep: interrupted; what was measured is kept, run again to resume"
KILLED = (
    "hyperkv measure_scenario: error: rocksdb_resp-1 was ended by signal 9 (SIGKILL), as the system does when memory runs "
    "out (dmesg tells) and `kill -9` does; what was measured is kept; see results/logs/sweep/rocksdb_resp-1.log, then run "
    "the same command again"
)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda checkout, run: os.killpg(run.pid, signal.SIGINT), INTERRUPTED),
        (lambda checkout, run: os.killpg(run.pid, signal.SIGHUP), INTERRUPTED),
        (lambda checkout, run: stage_of(checkout).kill(), KILLED),
    ],
    ids=["Ctrl-C", "hangup", "killed job"],
)
def test_a_run_that_is_ended_leaves_nothing_running_and_the_next_goes_on(end, said, checkout):
    port = free_ports_in_a_row(1)
    changes = {"experiment.scenarios": ["rocksdb_resp"], "scenarios.rocksdb_resp.port": port}
    checkout.configure(changed(TINY, LONG | changes))
    with checkout.start(*checkout.snakemake_argv("sweep", "--quiet", "rules", "host", "reason")) as run:
        started(checkout)
        assert not closed(port)
        end(checkout, run)
        output, _ = run.communicate(timeout=20)
        eventually(lambda: not checkout.processes())
    assert run.returncode != 0
    assert output.count(said) == 1
    assert said != KILLED or output.splitlines()[-1] == said
    assert "Traceback" not in output
    assert closed(port)
    assert checkout.kept_loads("rocksdb_resp") == [1]
    assert checkout.loads("rocksdb_resp") == []
    status, output = checkout.snakemake("sweep")
    assert status == 0, output
    assert_only_load_2_is_measured(checkout)


def test_a_disk_that_fills_up_below_snakemakes_own_folder(checkout):
    checkout.configure(changed(TINY, {"experiment.scenarios": ["none", "dram"]}))
    with mounted_tmpfs(checkout / ".snakemake", 1) as own:
        with checkout.start(*checkout.snakemake_argv("sweep")) as run:
            eventually(lambda: list(own.glob("incomplete/*")))
            fill(own)
            output, _ = run.communicate(timeout=60)
        assert run.returncode == 1
        last = output.splitlines()[-1]
        assert last.startswith("hyperkv: error: ")
        assert last.endswith(
            ".snakemake: No space left on device; free space on that disk, then run the same command again"
        )
        (own / "filler").unlink()
        status, output = checkout.snakemake("sweep")
        assert status == 0, output
    assert [checkout.loads(name) for name in ("none", "dram-16", "dram-32")] == [[1, 2]] * 3


def test_a_run_with_invalid_cells_ends_with_0_and_says_which_they_are(tmp_path):
    """What a store on SSD keeps in memory proves no SSD."""
    strict = changed(
        TINY, {"evidence.device_share_min": 0.8, "experiment.scenarios": ["none", "rocksdb_resp"]}
    )
    checkout = Checkout.new(tmp_path / "checkout", strict)
    status, output = checkout.snakemake("sweep")
    assert status == 0, output
    told = re.findall(r"hyperkv sweep: .*rocksdb_resp repeat 1 load (\d).* INVALID: served from RAM", output)
    assert sorted(told) == ["1", "2"], output
    assert "hyperkv sweep: error" not in output
