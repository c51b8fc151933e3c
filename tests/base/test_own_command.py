"""Commands that messages tell the reader to give work in the shell that started the run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow_helpers import TINY, Checkout, changed
from workflow.hyperkv.base.own_command import config_options, keep_config_options, snakemake_command

REPOSITORY = Path(__file__).parents[2]
KVROCKS = {"experiment.scenarios": ["none", "kvrocks_resp"], "scenarios.kvrocks_resp": {"chunk_tokens": 16}}


@pytest.fixture(autouse=True)
def no_options(monkeypatch):
    monkeypatch.setenv("HYPERKV_CONFIG_OPTIONS", "")


def environment_with_snakemake(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "snakemake"):
        (folder / "bin" / name).touch()
    return folder / "bin/python"


@pytest.mark.parametrize(
    ("folder", "program"), [(".venv", ".venv/bin/snakemake"), ("my env", "'my env/bin/snakemake'")]
)
def test_an_environment_in_the_checkout_is_named_from_there(tmp_path, monkeypatch, folder, program):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(environment_with_snakemake(tmp_path / folder)))
    assert snakemake_command("sweep") == f"{program} --cores all sweep"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    whole = re.escape(str(tmp_path / folder / "bin/snakemake"))
    assert re.fullmatch(f"'?{whole}'? --cores 1 ladder", snakemake_command("ladder", 1))


def test_another_interpreter_s_message_names_the_one_on_path(tmp_path, monkeypatch):
    found = environment_with_snakemake(tmp_path / "env").with_name("snakemake")
    found.chmod(0o755)
    monkeypatch.setenv("PATH", str(found.parent))
    monkeypatch.setattr(sys, "executable", "/engine/bin/python")
    assert snakemake_command("build_striped", 1) == f"{found} --cores 1 build_striped"


OWN = "--configfile config/scenarios.yaml config/config.yaml"
LONG = ".venv/bin/snakemake --cores all build_kvrocks"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "make kvrocks"),
        (OWN, "make kvrocks"),
        (f"{OWN} config/smoke.yaml", "make kvrocks CONFIG=config/smoke.yaml"),
        (f"{OWN} config/smoke.yaml mine.yaml", "make kvrocks CONFIG='config/smoke.yaml mine.yaml'"),
        (f"{OWN} 'my own.yaml'", f"{LONG} {OWN} 'my own.yaml'"),
        (f"{OWN} --config kv_dtype=fp8", f"{LONG} {OWN} --config kv_dtype=fp8"),
        ("--configfile mine.yaml", f"{LONG} --configfile mine.yaml"),
    ],
)
def test_make_does_the_same_where_it_can(tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(environment_with_snakemake(tmp_path / ".venv")))
    monkeypatch.setenv("HYPERKV_CONFIG_OPTIONS", options)
    assert snakemake_command("build_kvrocks") == " ".join([LONG, *options.split(" ")]).strip()
    (tmp_path / ".venv/installed").touch()
    (tmp_path / "Makefile").write_text((REPOSITORY / "Makefile").read_text())
    assert snakemake_command("build_kvrocks") == told
    assert snakemake_command("sweep").startswith(".venv/bin/snakemake")
    (tmp_path / "config").mkdir()
    for name in ("config/smoke.yaml", "mine.yaml", "requirements.txt", ".venv/installed"):
        (tmp_path / name).touch()
    if told.startswith("make"):
        shown = subprocess.run(
            ["bash", "-c", f"{told} -n"], capture_output=True, text=True, check=True, timeout=30
        ).stdout.replace("'", "")
        assert re.search(rf"snakemake build_kvrocks .*{re.escape(options * (options != OWN))}\n", shown), (
            shown
        )


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--cores", "all"], []),
        (
            ["sweep", "--configfile", "a.yaml", "b c.yaml", "--cores", "2"],
            ["--configfile", "a.yaml", "b c.yaml"],
        ),
        (["--configfile=a.yaml", "-n"], ["--configfile=a.yaml"]),
        (["--config", "kv_dtype=fp8", "--", "sweep"], ["--config", "kv_dtype=fp8"]),
        (
            ["--configfile", "a.yaml", "--config", 'cost={"a": 1}'],
            ["--configfile", "a.yaml", "--config", 'cost={"a": 1}'],
        ),
    ],
)
def test_the_configuration_of_the_run_is_kept(monkeypatch, words, options):
    assert config_options(["snakemake", *words]) == options
    monkeypatch.delenv("HYPERKV_CONFIG_OPTIONS")
    keep_config_options(["snakemake", *words])
    keep_config_options(["snakemake", "--configfile", "later.yaml"])
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {snakemake_command('x')}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert printed.stdout.splitlines()[1:] == ["--cores", "all", "x", *options]
    assert snakemake_command("x", configured=False).endswith(" --cores all x")


def test_what_a_run_tells_to_do_can_be_pasted(tmp_path):
    """Of a run whose configuration is in a file of its own, without Snakemake on PATH."""
    checkout = Checkout.new(tmp_path / "checkout", changed(TINY, KVROCKS))
    environment = {name: value for name, value in os.environ.items() if name != "HYPERKV_CONFIG_OPTIONS"}
    environment |= {"PATH": "/usr/bin:/bin"}
    command = [sys.executable, *checkout.snakemake_argv("write_summary", "--dry-run", "--printshellcmds")]
    told = subprocess.run(
        command, cwd=checkout.folder, env=environment, capture_output=True, text=True, timeout=60
    )
    found = re.search(r"Build it: (.*?)\"\]", told.stdout + told.stderr)
    assert found, told.stdout + told.stderr
    assert "tiny.yaml" in found[1]
    pasted = subprocess.run(
        ["bash", "-c", f"{found[1]} --dry-run"],
        cwd=checkout.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert pasted.returncode == 0, pasted.stdout + pasted.stderr
    assert "compile_kvrocks" in pasted.stdout
