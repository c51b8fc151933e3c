"""What a user's surroundings would bring into a run, and how it is kept out: proxies, a missing name, a missing home folder.

And what a run takes from them: Python and what it imports, the builds' shared cache, a scheduler.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import resource
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import UserError
from .own_command import keep_config_options

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
OWN_HOME = Path("results/cache")
_NO_PROXY = ("no_proxy", "NO_PROXY")
_NAMES = ("LOGNAME", "USER")
_ASKED_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # those of getpass.getuser
_SNAKEMAKE = "snakemake/snakemake/source-cache"  # of its user_cache_dir (snakemake/workflow.py)
_THREADS = (
    "OMP_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)  # that Snakemake sets for a job (snakemake/shell.py)
_CACHES = {
    "XDG_CACHE_HOME": "",
    "MPLCONFIGDIR": "matplotlib",
    "HF_HOME": "huggingface",
    "VLLM_CACHE_ROOT": "vllm",
    "VLLM_CONFIG_ROOT": "vllm-config",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_HOME": "triton",
    "TRITON_CACHE_DIR": "triton/cache",
    "CUDA_CACHE_PATH": "cuda",
    "NUMBA_CACHE_DIR": "numba",
}


def settle() -> None:
    """Have this process, and what it starts, do without a proxy for loopback, a user's name and a home folder, know with
    which configuration the run was started, and leave no memory behind when it crashes.

    Nothing that is there and can be used is changed. Called where a run begins: by the Snakefile and by every stage.
    """
    keep_config_options(sys.argv)
    dump_no_core()
    os.environ.update(past_proxies(os.environ))
    os.environ.update(named(os.environ, os.getuid()))
    os.environ.update(found := housed(os.environ, OWN_HOME.absolute()))
    if "HOME" in found or "XDG_CACHE_HOME" in found:
        with contextlib.suppress(OSError):
            OWN_HOME.mkdir(parents=True, exist_ok=True)


def dump_no_core() -> None:
    """No core file of this process or of what it starts: a server's has its password, and values as large as its memory.

    Source: core(5), and do_coredump() of Linux, which with a limit of 1 writes no file and starts no program either.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))


def past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep loopback off every proxy: no_proxy in both cases, what either names already kept.

    Programs read one or the other, most the lower case first; `*`, which some know only by itself, stays alone.
    """
    lists = [_words(environment.get(name, "")) for name in _NO_PROXY]
    if ["*"] in lists:
        return dict.fromkeys(_NO_PROXY, "*")
    return dict.fromkeys(_NO_PROXY, ",".join(dict.fromkeys([*itertools.chain(*lists), *LOOPBACK_NAMES])))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def named(environment: Mapping[str, str], uid: int) -> dict[str, str]:
    """The variables that give a nameless user a name, which Python's getpass and torch ask for; none for others."""
    if any(environment.get(name) for name in _ASKED_NAMES):
        return {}
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return dict.fromkeys(_NAMES, f"uid{uid}")
    return {}


def housed(environment: Mapping[str, str], own: Path) -> dict[str, str]:
    """The variables that lead caches to `own` where the home or cache folder cannot be written, and home where there is none.

    The cache folder: XDG_CACHE_HOME, else .cache in the home folder. A variable that is set already stays as it is, but for
    an XDG_CACHE_HOME that cannot be used. A home that can be read is kept: what lies in it is the user's.
    """
    home, given = _home(environment), environment.get("XDG_CACHE_HOME")
    writable = home is not None and os.access(home, os.W_OK | os.X_OK)
    cache = Path(given) if given else None if home is None else home / ".cache"
    usable = cache is not None and _can_be_made(cache / _SNAKEMAKE)
    if writable and usable:
        return {}
    found = {name: str(own / below) for name, below in _CACHES.items() if not environment.get(name)}
    found |= {} if usable and given else {"XDG_CACHE_HOME": str(own)}
    return found if home is not None else {**found, "HOME": str(own)}


def _can_be_made(folder: Path) -> bool:
    """Whether a folder is there and can be written, or can be made in the nearest folder above it that is there."""
    near = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    return near.is_dir() and os.access(near, os.W_OK | os.X_OK)


def has_home() -> bool:
    """Whether the user has a home folder that `~` can stand for."""
    home = _home(os.environ)
    return home is not None and home != OWN_HOME.absolute()


def _home(environment: Mapping[str, str]) -> Path | None:
    """The home folder; None when no variable and no account names one that is there."""
    named_home = environment.get("HOME")
    if named_home is None:
        try:
            named_home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return Path(named_home) if named_home and Path(named_home).is_dir() else None


def put_own_python_first() -> None:
    """Let `python` in rules be the one that runs Snakemake, whether or not its environment was activated.

    A conda environment of a rule is activated later and comes before it.
    """
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]


def import_path() -> str:
    """PYTHONPATH with which another environment's interpreter finds this package: the repository's root first."""
    return os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))


def output_cache_is_set() -> bool:
    """Whether Snakemake's between-workflow cache has a place, so that a build may be taken from it (--cache)."""
    return bool(os.environ.get("SNAKEMAKE_OUTPUT_CACHE"))


def require_scheduler(executor: str) -> None:
    """Raises UserError when jobs are to go to Slurm and this machine knows none. executor: the name of Snakemake's."""
    if executor == "slurm" and shutil.which("sbatch") is None:
        raise UserError(
            "executor slurm: there is no sbatch on PATH; run this on a login node of the cluster, or leave the profile out"
        )


def without_threads(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables less those by which Snakemake tells a job how many threads to compute with: a server is no part of the job's program.

    vLLM chooses one thread for serving unless it finds OMP_NUM_THREADS; with more, threads that spin take time from its steps.
    """
    return {name: value for name, value in variables.items() if name not in _THREADS}
