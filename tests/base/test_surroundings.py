"""A run without a name, a home folder or a way past the proxy."""

import getpass
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.hyperkv.base import surroundings
from workflow.hyperkv.base.surroundings import housed, named, past_proxies

NOBODY = 54321
HOSTS = ("127.0.0.1", "localhost", "::1")


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ({}, ""),
        ({"no_proxy": ""}, ""),
        ({"no_proxy": "", "NO_PROXY": "corp.example"}, "corp.example,"),
        ({"NO_PROXY": "a"}, "a,"),
        ({"no_proxy": "a, b"}, "a,b,"),
        ({"no_proxy": "a", "NO_PROXY": "b"}, "a,b,"),
        ({"no_proxy": "localhost", "NO_PROXY": ".corp,10.0.0.0/8"}, "localhost,.corp,10.0.0.0/8,"),
        ({"no_proxy": "localhost"}, None),
    ],
)
def test_loopback_is_added_to_what_the_user_keeps_off_the_proxy(given_, kept):
    found = past_proxies(given_)
    assert set(found) == {"no_proxy", "NO_PROXY"}
    assert found["no_proxy"] == found["NO_PROXY"]
    assert set(HOSTS) <= set(found["no_proxy"].split(","))
    assert kept is None or found["no_proxy"].startswith(kept)


def test_everything_off_the_proxy_stays_as_it_is():
    assert past_proxies({"no_proxy": "a", "NO_PROXY": "*"}) == {"no_proxy": "*", "NO_PROXY": "*"}
    assert past_proxies({"NO_PROXY": "*"}) == {"no_proxy": "*", "NO_PROXY": "*"}


@given(
    st.dictionaries(st.sampled_from(["no_proxy", "NO_PROXY", "http_proxy"]), st.text("ab,.* ", max_size=9))
)
def test_twice_is_once(environment):
    once = past_proxies(environment)
    assert past_proxies({**environment, **once}) == once


CRASHES = """
import os, resource, subprocess
_, hard = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
if {settled}:
    from workflow.hyperkv.base.surroundings import dump_no_core
    dump_no_core()
subprocess.run(["sh", "-c", "kill -ABRT $$"], cwd={folder!r})
"""


@pytest.mark.parametrize("settled", [False, True])
def test_what_crashes_leaves_no_core(tmp_path, settled):
    code = CRASHES.format(settled=settled, folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    if settled:
        assert list(tmp_path.iterdir()) == []
    elif not list(tmp_path.iterdir()):
        pytest.skip("this machine writes no core files into the current folder")


def test_every_stage_and_what_it_starts_dumps_no_core(tmp_path):
    code = "from workflow.hyperkv.base.surroundings import settle; settle(); import subprocess; subprocess.run(['sh', '-c', 'ulimit -c'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True,
        text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.strip() in ("0", "1")


def test_a_nameless_user_gets_a_name_and_no_other(monkeypatch):
    assert named({}, os.getuid()) == {}
    assert named({"USER": "me"}, NOBODY) == {}
    with pytest.raises(KeyError):
        pwd.getpwuid(NOBODY)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in named({}, NOBODY).items():
        monkeypatch.setenv(name, value)
    assert getpass.getuser() == f"uid{NOBODY}"


def test_a_home_that_can_be_written_is_left_alone(tmp_path):
    assert housed({"HOME": str(tmp_path)}, tmp_path / "own") == {}


def test_a_home_that_cannot_be_written_is_kept_and_caches_go_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = housed({"HOME": str(tmp_path), "HF_HOME": "/models"}, tmp_path / "own")
    assert "HOME" not in found
    assert "HF_HOME" not in found
    assert found["XDG_CACHE_HOME"] == str(tmp_path / "own")
    assert all(Path(folder).is_relative_to(tmp_path / "own") for folder in found.values())


@pytest.mark.parametrize("home", ["/nonexistent", "", None])
def test_without_a_home_there_is_one_of_our_own(tmp_path, home, monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(surroundings.pwd, "getpwuid", nobody)
    environment = {} if home is None else {"HOME": home}
    assert housed(environment, tmp_path / "own")["HOME"] == str(tmp_path / "own")


@pytest.mark.skipif(os.getuid() != 0, reason="another uid needs root")
@pytest.mark.parametrize("home", [None, "/nonexistent", "/root"])
def test_a_stage_as_a_uid_without_a_name_settles_first(tmp_path, home):
    """As Docker's --user 54321: what asks for a name or a home folder finds one, below the run's own folder."""
    probe = (
        "import getpass, os; from workflow.hyperkv.base.surroundings import settle\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY}); settle()\n"
        "print(getpass.getuser(), os.environ['XDG_CACHE_HOME'])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {} if home is None else {"HOME": home}
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [f"uid{NOBODY}", str(tmp_path / "results/cache")], done.stderr


def a_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


CACHES = {
    "home/.cache is no folder": (lambda at: a_file(at / "home/.cache"), None),
    "Snakemake's folder there is none": (lambda at: a_file(at / "home/.cache/snakemake"), None),
    "XDG_CACHE_HOME is no folder": (lambda at: a_file(at / "cache"), "cache"),
    "XDG_CACHE_HOME cannot be made": (lambda at: a_file(at / "cache"), "cache/below"),
    "XDG_CACHE_HOME leads nowhere": (lambda at: (at / "cache").symlink_to(at / "gone/x"), "cache"),
    "home/.cache can be made": (None, None),
    "home/.cache is not used": (lambda at: a_file(at / "home/.cache"), "other/cache"),
    "XDG_CACHE_HOME can be made": (None, "other/cache"),
}


@pytest.mark.parametrize("case", CACHES)
def test_the_cache_folder_that_is_used_is_one_that_can_be_written(tmp_path, case):
    """Alike in the Makefile, before any of our code runs, and here."""
    make, given_ = CACHES[case]
    (tmp_path / "home").mkdir()
    if make is not None:
        make(tmp_path)
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / given_)} if given_ else {}
    usable = case.endswith("can be made") or case.endswith("is not used")
    found = housed(environment, tmp_path / "own")
    assert found.get("XDG_CACHE_HOME") == (None if usable else str(tmp_path / "own"))
    assert "HOME" not in found
    show = ["make", "--no-print-directory", "--eval", 'show:; @echo "$$XDG_CACHE_HOME"', "show"]
    root = Path(__file__).parents[2]
    done = subprocess.run(show, cwd=root, env=environment, capture_output=True, text=True, timeout=60)
    kept = environment.get("XDG_CACHE_HOME", "")
    assert done.stdout.strip() == (kept if usable else str(root / "results/cache")), done.stderr


@pytest.mark.parametrize(
    ("words", "own", "given_"),
    [
        ([], {}, "/dev/null"),
        ([], {"SLURM_CONF": "own"}, "own"),
        (["PROFILE=workflow/profiles/slurm"], {}, ""),
    ],
)
def test_a_slurm_is_asked_by_who_runs_on_one(words, own, given_):
    """Without a configuration `scontrol` ends at once; with one that leads nowhere, or none, it waits for a controller."""
    show = ["make", "--no-print-directory", "--eval", 'show:; @echo "$$SLURM_CONF"', "show", *words]
    environment = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"]} | own
    root = Path(__file__).parents[2]
    done = subprocess.run(show, cwd=root, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == given_, done.stderr
