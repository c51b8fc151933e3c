"""A Slurm cluster of one machine: munged, slurmctld and slurmd on 127.0.0.1, owned by whoever started it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.helpers import eventually
from workflow.hyperkv.machine.processes import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol")
PACKAGES = "slurmctld slurmd slurm-client munge"
ETC = Path("/etc/slurm")
NODE = socket.gethostname().partition(".")[0]
OTHER, OTHER_ADDRESS = f"{NODE}-store", "127.0.0.2"
CPUS, MEMORY_MB = 4, 8000

# Accounting, cgroups and PAM are left out: a machine without systemd has none of them. Finished jobs stay in squeue
# for MinJobAge seconds, which is where the executor looks for them. A gpu without a file would drain the node.
_SLURM_CONF = """\
ClusterName=hyperkv
SlurmctldHost={node}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SrunPortRange={srun_ports}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
MinJobAge=600
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
KillWait=10
InactiveLimit=0
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 Port={node_port} CPUs={cpus} RealMemory={memory_mb} Gres=gpu:1 Feature=testbed State=UNKNOWN
NodeName={other} NodeAddr={other_address} Port={other_port} CPUs={cpus} RealMemory={memory_mb} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={node},{other} Default=YES MaxTime=UNLIMITED DefaultTime=10 DefMemPerCPU=200 OverSubscribe=NO State=UP
"""
_GRES_CONF = """\
AutoDetect=off
NodeName={node},{other} Name=gpu File=/dev/null
"""


class Unavailable(Exception):
    """No Slurm can be started on this machine; the message says why."""


@dataclass(frozen=True)
class Job:
    """A job as the controller remembers it: id, the executor's comment (rule and wildcards), state, start and end (s).

    words: all that `scontrol show job` says. start and end are whole seconds since the epoch; 0 before they are known.
    """

    job_id: int
    comment: str
    state: str
    start: int
    end: int
    words: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, line: str) -> Job:
        """From a line of `scontrol show job -o`."""
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        times = [int(words[key]) if words[key].isdigit() else 0 for key in ("StartTime", "EndTime")]
        return cls(int(words["JobId"]), words.get("Comment", ""), words["JobState"], *times, words)

    @property
    def ended(self) -> bool:
        return self.state not in ("PENDING", "RUNNING", "COMPLETING")

    def beside(self, other: Job) -> bool:
        """Whether both ran at the same time, to the second."""
        return max(self.start, other.start) < min(self.end, other.end)


class Cluster:
    """A running cluster."""

    def __init__(self, folder: Path):
        self._folder = folder

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need to reach this cluster."""
        return {"SLURM_CONF": str(self._folder / "slurm.conf"), "SLURM_TIME_FORMAT": "%s"}

    def call(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it prints. Raises CalledProcessError."""
        own = os.environ | self.environment
        done = subprocess.run(words, env=own, check=True, capture_output=True, text=True, timeout=30)
        return done.stdout

    def jobs(self) -> list[Job]:
        """All jobs, in the order of their ids."""
        lines = self.call("scontrol", "show", "job", "-o").splitlines()
        return sorted((Job.of(line) for line in lines if "JobId=" in line), key=lambda job: job.job_id)

    def queued(self) -> list[str]:
        """Ids of jobs that have not ended."""
        return self.call("squeue", "-h", "-o", "%i").split()


def require_programs() -> None:
    """Raises Unavailable, naming what is missing."""
    if os.geteuid() != 0:
        raise Unavailable("slurmctld and slurmd are started as root here; this user is not root")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise Unavailable(f"no {', '.join(missing)}; on Debian: apt-get install {PACKAGES}")
    running = {process.name() for process in psutil.process_iter(["name"])}
    if there := running & {"slurmctld", "slurmd"}:
        raise Unavailable(
            f"{' and '.join(sorted(there))} runs here already: this machine belongs to a cluster"
        )


@contextlib.contextmanager
def started() -> Iterator[Cluster]:
    """A cluster that is ready for jobs; afterwards no daemon, no job and no file of it is left.

    Its folder is not pytest's, which others may not enter: munged insists that they may. Raises Unavailable, or
    AssertionError with the daemons' last words.
    """
    require_programs()
    with tempfile.TemporaryDirectory(prefix="hyperkv-slurm-") as folder:
        try:
            with _daemons(Path(folder)) as cluster:
                yield cluster
        except AssertionError as error:
            for log in sorted(Path(folder).glob("*.out")):
                error.add_note(f"{log.name}: " + log.read_text()[-1500:])
            raise


@contextlib.contextmanager
def _daemons(folder: Path) -> Iterator[Cluster]:
    for name in ("state",):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    values = {
        "node": NODE,
        "other": OTHER,
        "other_address": OTHER_ADDRESS,
        "folder": folder,
        "cpus": CPUS,
        "memory_mb": MEMORY_MB,
        "controller_port": free_port(),
        "node_port": free_port(),
        "other_port": free_port(),
        "srun_ports": "40000-41000",
    }
    (folder / "slurm.conf").write_text(_SLURM_CONF.format(**values))
    (folder / "gres.conf").write_text(_GRES_CONF.format(**values))
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    cluster = Cluster(folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_in_etc(folder, ("slurm.conf", "gres.conf")))
        munge = f"munged -F --key-file={folder}/munge.key --socket={folder}/munge.sock --pid-file={folder}/munged.pid"
        munge += f" --log-file={folder}/munged.log --seed-file={folder}/munge.seed"
        stack.enter_context(_daemon(cluster, folder, *munge.split()))
        eventually((folder / "munge.sock").exists)
        stack.enter_context(_daemon(cluster, folder, "slurmctld", "-D"))
        eventually(lambda: "is UP" in _says(cluster, "scontrol", "ping"))
        stack.enter_context(_daemon(cluster, folder, "slurmd", "-D", "-N", NODE))
        stack.enter_context(_daemon(cluster, folder, *_as_another_node(folder)))
        eventually(
            lambda: _says(cluster, "sinfo", "-h", "-N", "-p", "main", "-o", "%t").split() == ["idle"] * 2
        )
        stack.callback(_end_jobs, cluster, folder)
        yield cluster


@contextlib.contextmanager
def _daemon(cluster: Cluster, folder: Path, *command: str) -> Iterator[None]:
    """A daemon in the foreground, in a process group of its own that is ended with it."""
    with (folder / f"{command[0]}.out").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=15)


def _end_with_parent() -> None:
    """Let SIGTERM end this process when the tests are killed (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _as_another_node(folder: Path) -> list[str]:
    """The command of a slurmd in namespaces of its own, where this machine has the other node's name and address."""
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {NODE}\n{OTHER_ADDRESS} {OTHER}\n")
    become = f"mount --bind {hosts} /etc/hosts && hostname {OTHER} && exec slurmd -D -N {OTHER}"
    return ["unshare", "--uts", "--mount", "sh", "-c", become]


@contextlib.contextmanager
def _in_etc(folder: Path, names: tuple[str, ...]) -> Iterator[None]:
    """Links in /etc/slurm, where steps inside a job look for their configuration; what was there is put back."""
    made = not ETC.exists()
    ETC.mkdir(exist_ok=True)
    saved = {name: ETC / f"{name}.before-hyperkv-test" for name in names}
    try:
        for name, aside in saved.items():
            left_by_us = (ETC / name).is_symlink() and not (ETC / name).exists()
            if os.path.lexists(ETC / name) and not os.path.lexists(aside) and not left_by_us:
                os.rename(ETC / name, aside)
            (ETC / name).unlink(missing_ok=True)
            (ETC / name).symlink_to(folder / name)
        yield
    finally:
        for name, aside in saved.items():
            (ETC / name).unlink(missing_ok=True)
            if os.path.lexists(aside):
                os.rename(aside, ETC / name)
        if made:
            ETC.rmdir()


def _end_jobs(cluster: Cluster, folder: Path) -> None:
    """Cancel what is left, and end the steps of jobs that do not go."""
    for job in cluster.queued():
        cluster.call("scancel", job)
    with contextlib.suppress(AssertionError):
        eventually(lambda: not cluster.queued())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "slurmstepd" and str(folder) in process.environ().get("SLURM_CONF", ""):
                process.kill()


def _says(cluster: Cluster, *words: str) -> str:
    try:
        return cluster.call(*words)
    except subprocess.SubprocessError:
        return ""
