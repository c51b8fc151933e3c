"""What a patch of Kvrocks changes: redis-benchmark on several programs in turn, and the CPU time of each server.

python benchmark.py STOCK PATCHED... [--bytes 4194304] [--rounds 5] [--setting KEY=VALUE]...

Needs redis-benchmark and the programs alone. A program is a path; the first is what the others are compared with.
Every round asks each program for SET, then for GET, in changing order; the first round is not counted. Prints the
median of each program's throughput, of the CPU time that its server took per GB and of its calls of read and write
per request, which other load on the machine hardly changes, and the ratios to the first program.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

SETTINGS = {
    "bind": "127.0.0.1",
    "workers": "2",
    "rocksdb.enable_blob_files": "yes",
    "rocksdb.disable_auto_compactions": "yes",
    "rocksdb.compression": "no",
    "rocksdb.write_buffer_size": "16",
    "rocksdb.write_options.disable_wal": "yes",
}
ALLOCATOR = (
    "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always,metadata_thp:auto,"
    "background_thread:true"
)
COMMANDS = ("set", "get")
GB = 1e9


class Server:
    """A Kvrocks on a port of its own, its files below `folder`."""

    def __init__(self, program: str, settings: dict[str, str], folder: Path, stack: ExitStack) -> None:
        self.program = program
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        conf = folder / "kvrocks.conf"
        own = {**settings, "port": str(self.port), "dir": str(folder)}
        conf.write_text("".join(f"{key} {value}\n" for key, value in own.items()))
        self.process = stack.enter_context(
            subprocess.Popen(
                [program, "-c", str(conf)],
                env={**os.environ, "MALLOC_CONF": ALLOCATOR},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        stack.callback(self.process.terminate)

    def wait(self) -> None:
        """Until it answers. Raises SystemExit when it ends instead."""
        while self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{self.program} ended with status {self.process.returncode}")

    def cpu_s(self) -> float:
        """CPU time so far, of all its threads, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def calls(self) -> int:
        """Calls of the kernel's read and write so far, readv and writev with them; sendfile is none."""
        told = Path(f"/proc/{self.process.pid}/io").read_text().split()
        return int(told[told.index("syscr:") + 1]) + int(told[told.index("syscw:") + 1])

    def measure(self, command: str, size: int, requests: int, clients: int) -> tuple[float, float, float]:
        """GB/s, CPU seconds of the server per GB, and its calls of read and write per request."""
        before, calls = self.cpu_s(), self.calls()
        keys = max(1, requests // 4)
        options = f"-p {self.port} -t {command} -d {size} -n {requests} -c {clients} -r {keys} --csv"
        done = subprocess.run(
            ["redis-benchmark", *options.split()], capture_output=True, text=True, check=True
        )
        per_s = float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))
        cost = (self.cpu_s() - before) / (requests * size / GB)
        return per_s * size / GB, cost, (self.calls() - calls) / requests


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("programs", nargs="+")
    parser.add_argument("--bytes", type=int, default=4 << 20, help="of a value")
    parser.add_argument("--moved", type=float, default=1, help="GB per command and round")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default="/dev/shm", help="where the stores are for the time being")
    parser.add_argument("--setting", action="append", default=[], help="of kvrocks.conf, KEY=VALUE")
    options = parser.parse_args()
    settings = SETTINGS | dict(setting.split("=", 1) for setting in options.setting)
    for program in (*options.programs, "redis-benchmark"):
        if shutil.which(program) is None:
            raise SystemExit(f"there is no program {program}")
    requests = max(1, int(options.moved * GB / options.bytes))
    with ExitStack() as stack:
        below = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder)))
        servers = [
            Server(program, settings, below / str(number), stack)
            for number, program in enumerate(options.programs)
        ]
        for server in servers:
            server.wait()
        measured: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
        for round_ in range(options.rounds + 1):
            for command in COMMANDS:
                for number in range(len(servers))[:: 1 if round_ % 2 else -1]:
                    found = servers[number].measure(command, options.bytes, requests, options.clients)
                    if round_:
                        measured.setdefault((number, command), []).append(found)
    for command in COMMANDS:
        speeds, costs, calls = (
            [statistics.median(found[which] for found in measured[n, command]) for n in range(len(servers))]
            for which in range(3)
        )
        for n, program in enumerate(options.programs):
            print(
                f"{command.upper()} {options.bytes}: {speeds[n]:.2f} GB/s (x {speeds[n] / speeds[0]:.2f}), "
                f"{costs[n]:.2f} s of CPU per GB (/ {costs[0] / costs[n]:.2f}), {calls[n]:.0f} calls  {program}"
            )


if __name__ == "__main__":
    main()
