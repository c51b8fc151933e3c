"""Credentials in a configuration: refused at the door, without being repeated, and what the message says instead works."""

import os
from pathlib import Path

import pytest
import yaml

from tests.configs import BASE, changed, one_line
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.credentials import is_secret_name, refuse_credentials
from workflow.hyperkv.machine.processes import OwnedProcess

SECRET = "hunter2-hf_AbCdEfGhIjKlMnOpQrStUvWx"
KVROCKS = {"tier": "ssd", "store": "kvrocks", "connector": "resp"}


def refused(config) -> str:
    message = one_line(config)
    assert SECRET not in message
    return message


@pytest.mark.parametrize(
    ("key", "value", "mend"),
    [
        ("vllm.environment", {"HF_TOKEN": SECRET}, "export HF_TOKEN in the shell that starts the run"),
        ("vllm.environment", {"AWS_SECRET_ACCESS_KEY": SECRET}, "export AWS_SECRET_ACCESS_KEY"),
        ("vllm.environment", {"https_proxy": f"http://u:{SECRET}@proxy:3128"}, "export https_proxy"),
        ("vllm.environment", {"HTTPS_PROXY": f"u:{SECRET}@proxy:3128"}, "export HTTPS_PROXY"),
        ("vllm.environment", {"REPO": f"https://{SECRET}@example.org/x"}, "export REPO"),
        ("vllm.environment", {"DATA": f"https://example.org/x?a=b&X-Api-Key={SECRET}"}, "export DATA"),
        ("kvrocks.url", f"https://user:{SECRET}@example.org/k.tar.gz", "write file:///"),
        ("kvrocks.url", f"https://:{SECRET}@example.org/k.tar.gz", "write file:///"),
        ("vllm.index", f"https://user:{SECRET}@example.org/simple", "leave it out"),
        ("vllm.flags", ["--hf-token", SECRET], "export it as an environment variable"),
        ("vllm.flags", [f"--hf_token={SECRET}"], "export it as an environment variable"),
        ("vllm.flags", [f"--x={{'a': 'https://u:{SECRET}@h'}}"], "export it as an environment variable"),
        ("kvrocks.url", f"https://u:{SECRET}@example.org/k.tar.gz", "write file:///"),
        ("kvrocks.git_url", f"https://u:{SECRET}@example.org/k.git", "git asks its credential helper"),
        ("scenarios.kv", {**KVROCKS, "environment": {"DB_PASSWORD": SECRET}}, "export DB_PASSWORD"),
        ("scenarios.kv", {**KVROCKS, "environment": {"A": f"redis://:{SECRET}@h/0"}}, "export A"),
        ("scenarios.dram.lmcache", {"extra_config": {"auth_token": SECRET}}, "export it as an environment"),
        ("scenarios.dram.vllm", {"environment": {"WANDB_API_KEY": SECRET}}, "export WANDB_API_KEY"),
        ("vllm.environment", {"DB_PWD": SECRET}, "export DB_PWD"),
        ("vllm.environment", {"X": f"redis://u:a/b{SECRET}@h"}, "export X"),
        ("scenarios.kv", {**KVROCKS, "settings": {"masterauth": SECRET}}, "leave it out"),
        ("nonsense", f"https://u:{SECRET}@h", "leave it out"),
    ],
)
def test_a_secret_is_refused_with_what_to_do_and_not_repeated(key, value, mend):
    message = refused(changed(key, value))
    assert message.startswith(f"config: {key}")
    assert mend in message


def test_a_preset_s_environment_is_looked_at_too(monkeypatch, tmp_path):
    (tmp_path / "own.yaml").write_text(
        yaml.safe_dump({"description": "x", "settings": {}, "environment": {"HF_TOKEN": SECRET}})
    )
    monkeypatch.setattr("workflow.hyperkv.stores.kvrocks.store.KvrocksStore.presets", tmp_path)
    assert "export HF_TOKEN" in refused(changed("scenarios.kv", {**KVROCKS, "preset": "own"}))


@pytest.mark.parametrize(
    "value",
    [
        {"git_url": "git@example.org:group/kvrocks.git"},
        {"git_url": "ssh://git@example.org/kvrocks.git"},
        {"url": "https://example.org/simple?x=1"},
        {"url": "https://example.org:8080/simple@v1", "file": "https://example.org/a@b:c"},
        {"environment": {"HF_TOKEN_PATH": "/home/me/token", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}},
        {"environment": {"GOOGLE_APPLICATION_CREDENTIALS": "/etc/key.json", "no_proxy": "a,b:80"}},
        {"environment": {"VLLM_TOKEN_BUDGET": "512", "TOKENIZERS_PARALLELISM": "false"}},
        {"flags": ["--max-num-seqs", "4", "--tokenizer-mode", "auto", "--trust-remote-code"]},
        {"password_file": "secret.txt", "password_env": "KV_PASSWORD"},
    ],
)
def test_what_is_no_secret_stays(value):
    refuse_credentials({"section": value})


@pytest.mark.parametrize("name", ["HF_TOKEN", "githubToken", "api-key", "MY_APIKEY", "PGPASSWORD", "X_AUTH"])
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["chunk_tokens", "TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "author", "key", "PWD", "OLDPWD"]
)
def test_names_of_others(name):
    assert not is_secret_name(name)


def test_every_shipped_configuration_passes():
    for file in Path("config").rglob("*.yaml"):
        refuse_credentials(yaml.safe_load(file.read_text()))


def test_a_variable_of_the_shell_reaches_the_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    out = tmp_path / "out"
    argv = ["sh", "-c", f'printf %s "$HF_TOKEN" > {out}.new && mv {out}.new {out}; exec sleep 60']
    with OwnedProcess(argv, log=tmp_path / "log", label="it", env={"A": "b"}) as process:
        while not out.exists():
            os.kill(process.pid, 0)
    assert out.read_text() == SECRET


def test_a_tarball_that_was_downloaded_by_hand_is_named_by_a_file_url(tmp_path):
    checked(BASE | {"kvrocks": {"source": "release", "url": f"file://{tmp_path}/k.tar.gz"}})
