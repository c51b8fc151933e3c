"""Values of a configuration are values in everything that is written: parsed back, they are as they were, and nothing ran."""

import contextlib
import json
import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest
import redis
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.configs import changed
from tests.hostile import BRACES, PIECES, file_names, lines
from tests.recommend.scenarios import record_of, scenario
from tests.record_factory import measured
from tests.stores.conftest import KVROCKS_BIN
from tests.workflow_helpers import CONFIGS, TINY, Checkout, merged
from tests.workflow_helpers import changed as changed_by
from workflow.hyperkv.array.fio import layout_command
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.config.plan import baseline_spec, recommend_spec, sweep_spec
from workflow.hyperkv.engines.vllm.lmcache import mp_arguments
from workflow.hyperkv.engines.vllm.lmcache import rendered as rendered_lmcache
from workflow.hyperkv.machine.processes import LOOPBACK, OwnedProcess, free_port
from workflow.hyperkv.recommend import choose_scenario
from workflow.hyperkv.recommend.check_recommended import check_unit
from workflow.hyperkv.recommend.shell_script import executed
from workflow.hyperkv.recommend.systemd_unit import Service, unit_text
from workflow.hyperkv.records.record_file import read_records
from workflow.hyperkv.stores.held import Held
from workflow.hyperkv.stores.kvrocks.config import rendered
from workflow.hyperkv.stores.redis_client import bounded

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
QUICK = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FAKE = """#!/bin/sh
for word in "$@"; do printf '%s\\0' "$word"; done > "$FAKE_OUT.argv"
cat "/proc/$$/environ" > "$FAKE_OUT.env"
pwd > "$FAKE_OUT.pwd"
"""
NASTY = "$(touch CANARY)`touch CANARY` '\"\\ %n;touch CANARY;#é"
OWN_NAMES = st.sampled_from(["dir", "port", "here", "python", "password", "MODEL_DIR", "IFS", "BASH_ENV"])
VARIABLES = st.dictionaries(
    OWN_NAMES | st.from_regex(r"V_[A-Za-z0-9_]{1,8}", fullmatch=True), lines(tuple(BRACES)), max_size=3
)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A measured record of scenario none."""
    return measured(tmp_path_factory.mktemp("none"), "none")


def program(path: Path) -> Path:
    """A program that keeps its words and its environment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def let_in(config: dict) -> dict:
    """The configuration, checked; another example for one that is refused."""
    try:
        return checked(config)
    except UserError:
        assume(False)
        raise


def ran(shell: str, script: Path, folder: Path, **environment: str) -> tuple[list[str], dict[str, str]]:
    """The words and the environment that a script gives the fake program. Nothing else may have happened."""
    subprocess.run([shell, "-n", str(script)], check=True, timeout=10)
    base = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "FAKE_OUT": str(folder / "out")}
    subprocess.run([shell, str(script)], env=base | environment, cwd=folder, check=True, timeout=10)
    assert not list(folder.rglob("CANARY"))
    assert not (folder / "out.argv").stat().st_mode & 0o077, "what it makes is its user's alone"
    argv = (folder / "out.argv").read_bytes().decode().split("\0")[:-1]
    pairs = (entry.partition("=") for entry in (folder / "out.env").read_bytes().decode().split("\0")[:-1])
    return argv, {key: value for key, _, value in pairs}


def rendered_for(record: dict, config: dict, folder: Path):
    """The recommended files of a record's scenario under a configuration, in a folder."""
    files = choose_scenario.rendered_files(record, json.loads(recommend_spec(config)))
    assert files.missing == {}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    choose_scenario.write_files(files, folder)
    return files


@pytest.mark.parametrize("shell", SHELLS)
@QUICK
@given(name=file_names(), flags=st.lists(lines(tuple(BRACES)), max_size=3), environment=VARIABLES)
@example(name=NASTY, flags=[NASTY, "@MODEL@", "{x}", "-"], environment={"V_A": NASTY})
def test_vllms_script_says_what_the_configuration_says(shell, name, flags, environment, real, tmp_path):
    scratch = tmp_path / "s"
    shutil.rmtree(scratch, ignore_errors=True)
    pairs = {"reference": {"python": str(program(scratch / name / "python"))}}
    config = let_in(changed("vllm", {"pairs": pairs, "flags": flags, "environment": environment}))
    record = deepcopy(real)
    record["spec"]["model"] = str(shutil.copy(real["spec"]["model"], scratch / name / f"{name}.json"))
    rendered_for(record, config, scratch / "files")
    missing = subprocess.run(
        [shell, scratch / "files" / "vllm.sh"], capture_output=True, timeout=10, cwd=scratch
    )
    assert missing.returncode == 1
    assert f"set MODEL_DIR to the folder of {name}, with" in missing.stderr.decode()
    argv, given_environment = ran(shell, scratch / "files" / "vllm.sh", scratch, MODEL_DIR="/m 1")
    assert argv[:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model", "/m 1"]
    assert argv[len(argv) - len(flags) :] == flags
    assert environment.items() <= given_environment.items()


@pytest.mark.parametrize("shell", SHELLS)
@QUICK
@given(name=file_names(), values=st.lists(lines(tuple(BRACES)), max_size=3), environment=VARIABLES)
@example(name=NASTY, values=[NASTY, "{x}"], environment={"V_A": NASTY})
def test_a_stores_script_and_unit_say_what_the_configuration_says(
    shell, name, values, environment, real, tmp_path
):
    scratch = tmp_path / "s"
    shutil.rmtree(scratch, ignore_errors=True)
    valkey, folder = program(scratch / name / "valkey"), scratch / name / "the data"
    own = {f"key-{number}": value for number, value in enumerate(values)}
    own |= {"key-below": f"{folder}/$(touch CANARY)"}
    keys = {"tier": "dram", "store": "valkey", "connector": "resp"}
    keys |= {"settings": own, "environment": environment}
    files = {"data_dir": str(folder), "install_dir": f"/i/{name}"}
    config = changed("scenarios.kv", keys) | {"recommend": files, "profile": {"scenarios": ["kv"]}}
    config = let_in(config)
    kept = config["scenarios"]["kv"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workflow.hyperkv.stores.valkey.valkey_binary", lambda: str(valkey))
        chosen = scenario("valkey", settings=kept["settings"], environment=kept["environment"])
        files = rendered_for(record_of(real, chosen), config, scratch / "files")
    argv, given_environment = ran(shell, scratch / "files" / "store.sh", scratch)
    words = dict(zip(argv[::2], argv[1::2], strict=True))
    assert words["--dir"] == str(folder)
    assert {key: words[f"--{key}"] for key in own} == own
    assert environment.items() <= given_environment.items()
    assert folder.stat().st_mode & 0o777 == 0o700
    unit = unit_of(files.texts["hyperkv-store.service"])
    started = unit["ExecStart"]
    by_script = set(name) & set("\"'\\")
    assert started == (["/bin/sh", f"/i/{name}/store.sh"] if by_script else [str(valkey), *argv])
    assert unit["ExecStartPre"] == ["/bin/mkdir", "-p", str(folder)]
    assert unit["Environment"] == environment
    assert unit["UMask"] == "0077"


def unit_of(text: str) -> dict:
    """A unit as systemd reads it: systemd.syntax(7), Quoting; systemd.service(5), Command lines; systemd.unit(5), Specifiers."""
    assert "\\\n" not in text
    found: dict = {"Environment": {}}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if key == "Environment":
            [word] = unit_words(value)
            name, _, content = specified(word).partition("=")
            found["Environment"][name] = content
        elif key.startswith("Exec"):
            first, *rest = map(specified, unit_words(value))
            assert first[0] == "/"
            found[key] = [first, *map(without_variables, rest)]
        elif equals:
            found[key] = specified(value.strip())
    return found


def unit_words(text: str) -> list[str]:
    """Words apart by blanks, in quotes or not, with C's escapes, which are of bytes."""
    words, word, quote, rest = [], None, b"", [bytes([byte]) for byte in text.encode()]
    simple = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"s": b" ", b"\\": b"\\", b'"': b'"', b"'": b"'"}
    while rest:
        character = rest.pop(0)
        if character == b"\\":
            follows = rest.pop(0)
            if follows == b"x":
                added = bytes.fromhex((rest.pop(0) + rest.pop(0)).decode())
            else:
                added = simple[follows]
            word = (word or b"") + added
        elif quote:
            quote, word = (b"", word) if character == quote else (quote, word + character)
        elif character in (b'"', b"'"):
            quote, word = character, word or b""
        elif character in (b" ", b"\t"):
            words, word = words if word is None else [*words, word], None
        else:
            word = (word or b"") + character
    assert not quote
    return [found.decode() for found in (words if word is None else [*words, word])]


def specified(text: str) -> str:
    assert not re.search("%(?!%)", text.replace("%%", ""))
    return text.replace("%%", "%")


def without_variables(word: str) -> str:
    assert "$" not in word.replace("$$", "")
    return word.replace("$$", "$")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8), lines())
def test_a_units_words_are_those_that_are_meant(odd, line):
    folder = Path(f"/d{line}")
    unit = unit_of(unit_text(Service("x", ["/bin/p", odd, line], {"A": odd}, folder, None, "1", 1.0)))
    assert unit["ExecStart"] == ["/bin/p", odd, line]
    assert unit["ExecStartPre"] == ["/bin/mkdir", "-p", str(folder)]
    assert unit["Environment"] == {"A": odd}


@pytest.mark.parametrize("folder", ["/a b\\", "/a b ", "/a$x %n", "/é'\""])
def test_a_units_working_directory_is_the_rest_of_its_line(folder):
    unit = unit_of(unit_text(Service("x", ["/bin/p"], {}, Path("/d"), Path(folder), "1", 1.0)))
    assert unit["WorkingDirectory"].rstrip("/") == folder
    with pytest.raises(UserError, match="cannot stand in a systemd unit"):
        unit_text(Service("x", ["/bin/p"], {}, Path("/d"), Path(folder + "\n[Service]"), "1", 1.0))


def test_systemd_itself_finds_a_program_with_an_odd_path(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    argv = [str(program(tmp_path / "a $HOME %n ;é" / "p")), "$x", ";", "%n", "\\", "{x}"]
    path = tmp_path / "hyperkv-store.service"
    path.write_text(unit_text(Service("x %n", argv, {"A": '$x "%n" \\ \';'}, tmp_path, tmp_path, "1", 1.0)))
    assert check_unit(path).status == "checked"


@pytest.mark.parametrize("folder", ["/a\nrequirepass x", "/a\rb", "/a\udcff", "/a\u2028b"])
def test_what_fits_on_no_line_stands_in_no_kvrocks_conf(folder):
    with pytest.raises(UserError, match="cannot stand in its configuration file") as caught:
        rendered({"dir": folder})
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(KVROCKS_BIN is None, reason="KVROCKS_BIN is not set")
def test_kvrocks_itself_reads_what_is_written(tmp_path):
    """Its tokens of namespaces are texts of any kind, and it tells them."""
    pieces = [piece.strip() for piece in (*PIECES, *BRACES) if piece.strip()]
    shifted = [*pieces[5:], *pieces[:5]]
    pairs = [f"{one} {other}" for one, other in zip(pieces, shifted, strict=True)]
    values = [*pieces, *pairs, "".join(pieces)]
    wanted = {f"n{number}": value for number, value in enumerate(dict.fromkeys(values))}
    port = free_port()
    own = {"dir": str(tmp_path), "port": str(port), "requirepass": "x", "log-dir": "stdout", "bind": LOOPBACK}
    conf = tmp_path / "kvrocks.conf"
    conf.write_text(rendered(own | {f"namespace.{name}": value for name, value in wanted.items()}))
    argv, client = [str(KVROCKS_BIN), "-c", str(conf)], bounded(LOOPBACK, port, 30.0, password="x")

    def answers() -> bool:
        with contextlib.suppress(redis.ConnectionError):
            return client.ping()
        return False

    with OwnedProcess(argv, log=tmp_path / "log", label="it") as process:
        process.wait_ready(answers)
        told = [word.decode() for word in client.execute_command("NAMESPACE", "GET", "*")]
        client.close()
    assert wanted.items() <= dict(zip(told[::2], told[1::2], strict=True)).items()


def test_valkey_takes_a_value_for_a_value(tmp_path):
    """A word of its command line that begins with -- would be another key: a module to load, for one."""
    from workflow.hyperkv.stores.base import StoreConfig
    from workflow.hyperkv.stores.valkey import ValkeyStore

    own = {"tier": "dram", "store": "valkey", "connector": "resp"}
    for value in ("--loadmodule /tmp/evil.so", "--requirepass x", "-"):
        config = changed("scenarios.kv", own | {"settings": {"a": value}})
        with pytest.raises(UserError, match="begins with -- for a key"):
            checked(config | {"profile": {"scenarios": ["kv"]}})
    odd = "$(touch CANARY) `x` '\"\\ -- %n é {x} #;"
    config = StoreConfig(tmp_path / "data", 1 << 16, tmp_path / "log", settings={"syslog-ident": odd})
    with ValkeyStore(config) as store, store.client() as client:
        assert client.config_get("syslog-ident")["syslog-ident"] == odd


ODD_YAML = "yes null 1e3 0x10 2024-01-01 [ | --- !!python/object/apply:os.system &a = <<"
YAMLS = [*ODD_YAML.split(), "- a", ": "]
SCALARS = (
    lines((*YAMLS, *BRACES))
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
ANYTHING = st.recursive(
    SCALARS, lambda part: st.lists(part) | st.dictionaries(lines(tuple(YAMLS)), part), max_leaves=8
)


@given(st.dictionaries(lines(min_size=1), ANYTHING, max_size=3))
@example({"a": "😀", "b": 1e-05, "c": 1e20})
def test_lmcaches_configuration_is_read_back_as_written(config):
    assert yaml.safe_load(rendered_lmcache(config)) == config


def test_a_value_of_lmcaches_server_is_no_option():
    keys = {"first": "--host=0.0.0.0", "second_one": -1, "third": "a", "fourth": False, "fifth": ["--x"]}
    own = scenario("dram", "mp", dram_pool_bytes=1 << 30, lmcache=keys)
    argv = mp_arguments(own, 1 << 30, Held(Path("/d")), [], 1, 2)
    assert argv[-7:] == [
        *("--first=--host=0.0.0.0", "--second-one=-1", "--third", "a", "--no-fourth", "--fifth", '["--x"]')
    ]


def test_a_colon_in_a_path_is_no_second_file_for_fio():
    assert "--filename=/a\\:b/f" in layout_command(Path("/a:b/f"), 1)


def test_a_script_has_no_variable_that_is_none():
    for name in ("A;touch x;B", "A=B", "", "1", "A B", "A\nB"):
        with pytest.raises(UserError, match="is not a variable's name"):
            executed("true", {name: "x"})


def test_every_value_in_a_rules_command_is_quoted():
    """Threads are a number that Snakemake makes; everything else has :q, whatever its values are now."""
    found = []
    for path in Path("workflow/rules").glob("*.smk"):
        for block in re.findall(r"\n +shell:\n((?: +\".*\"\n?)+)", path.read_text()):
            found += re.findall(r"\{[^{}]*\}", block)
    assert len(found) > 100
    assert [part for part in found if not part.endswith(":q}") and part != "{threads}"] == []


def test_nothing_is_run_by_way_of_a_shell():
    for path in Path("workflow").rglob("*.py"):
        assert not re.search(r"shell=True|os\.system\(|os\.popen\(|getoutput\(", path.read_text()), path


def made(*words: str, **variables: str) -> str:
    argv = ["make", "-n", *words, *(f"{name}={value}" for name, value in variables.items())]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False).stdout


@pytest.mark.parametrize("target", ["stores", "layers", "decide", "tune", "ladder", "kvrocks", "report"])
def test_make_gives_its_variables_as_words(target, tmp_path):
    if not Path(".venv/installed").exists():
        pytest.skip("make would install first")
    odd = tmp_path / "it's;$HOME&`x`.yaml"
    odd.write_text("engine: replay\n")
    lines_made = made(target, CONFIG=f"{str(odd).replace('$', '$$')} config/smoke.yaml").splitlines()
    [line] = [line for line in lines_made if " snakemake " in line]
    subprocess.run(["bash", "-n", "-c", line], check=True, timeout=10)
    fake = "python() { :; }; snakemake() { printf '%s\\n' \"$@\"; };"
    argv = ["bash", "-c", line.replace(". .venv/bin/activate &&", fake)]
    words = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    at = words.index("--configfile")
    assert words[at + 3 : at + 5] == [str(odd), "config/smoke.yaml"]


def test_what_a_server_wrote_does_not_reach_the_terminal_as_it_is(tmp_path):
    argv = ["sh", "-c", r"printf 'bad \033]0;title\007\033[2Jword\n'; exit 1"]
    with OwnedProcess(argv, log=tmp_path / "log", label="it") as process:
        with pytest.raises(UserError) as caught:
            process.wait_ready(lambda: False)
    assert r"bad \x1b]0;title\x07\x1b[2Jword" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_url_and_a_path_are_no_options():
    wrong = {
        "kvrocks.git_url": [
            "-x",
            "--upload-pack=touch CANARY",
            "ext::sh -c 'touch CANARY'",
            "fd::17",
            "ssh://-oProxyCommand=x/y",
        ],
        "kvrocks.url": ["--x", "ext::sh", "javascript:x", "https://-x/y"],
        "vllm.pairs.current.requirements": ["-r"],
        "claims": ["--x.yaml"],
        "model": ["-m.json", "a{b}.json", "<logs>/x", ""],
        "kvrocks": [{"source": "binary", "binary": "--version"}],
        "data_dir": ["-rf", "{x}", "${}"],
        "break_even.gpus": [["-x"], ["config/gpus/{a}.yaml"]],
        "scenarios.files.vllm": [{"model_dir": "-x"}],
        "array.owner": ["-R", "--reference=/etc/shadow", "a b", "a;b"],
        "scenarios.rocksdb.preset": ["../../../etc/x", "/etc/x", "$(x)"],
        "kvrocks.march": ["native -fplugin=x.so", "-x"],
    }
    for key, values in wrong.items():
        for value in values:
            with pytest.raises(UserError) as caught:
                checked(changed(key, value))
            assert re.match(
                rf"config: {re.escape(key)}[.0-9a-z_]*: .* is wrong; it must be ", str(caught.value)
            ), value
            assert "\n" not in str(caught.value)


ODD = 'it\'s $(touch CANARY) `touch CANARY` "q" %n;é &# \\'


@pytest.fixture(scope="module")
def odd_checkout(tmp_path_factory) -> tuple[Checkout, Path, dict]:
    """A checkout, a folder with an odd name, and keys of a configuration whose files lie in that folder."""
    checkout = Checkout.new(tmp_path_factory.mktemp("odd") / "checkout")
    folder = checkout.folder.parent / ODD
    folder.mkdir()
    paths = {"model": "models/llama-3.2-1b.json", "gpu": "gpus/h100.yaml", "claims": "claims.yaml"}
    for key, name in paths.items():
        shutil.copy(Path("config") / name, folder / f"{key} {Path(name).name}")
    keys = {key: str(folder / f"{key} {Path(name).name}") for key, name in paths.items()}
    keys |= {
        "data_dir": str(folder / "data"),
        "break_even.models": [keys["model"]],
        "break_even.gpus": [keys["gpu"]],
        "experiment.scenarios": ["none", "valkey_resp"],
        "experiment.loads": [1],
        "profile.scenarios": ["valkey_resp"],
        "scenarios.none.pair": "reference",
        "scenarios.valkey_resp.environment": {"V_A": ODD},
        "scenarios.valkey_resp.settings": {"syslog-ident": f"{ODD} {{x}}"},
        "vllm.pairs.reference.python": str(program(folder / "python")),
        "vllm.flags": ["--x", ODD, "{params.spec}", "{x}"],
        "vllm.environment": {"V_B": f"{ODD} {{x}}"},
    }
    return checkout, folder, keys


@pytest.mark.slow
def test_every_rules_command_has_the_values_as_words(odd_checkout):
    """Every command of a run as Snakemake prints it, with functions in the place of its programs."""
    checkout, folder, keys = odd_checkout
    vllm = {
        "engine": "vllm",
        "experiment.active_conversations": None,
        "loadgen.python": keys["vllm.pairs.reference.python"],
        "bits.speed": str(folder / "speed.jsonl"),
        "vllm.model_dir": str(folder),
    }
    (folder / "speed.jsonl").touch()
    (folder / "tokenizer.json").touch()
    config = changed_by(TINY, keys | vllm)
    checkout.configure(config)
    targets = ["all", "bits", "provision_array", "inspect_array", "baseline_array"]
    targets += ["--dry-run", "--printshellcmds"]
    status, output = checkout.snakemake(*targets)
    assert status == 0, output
    commands = re.findall(r"^Shell command: (.*)$", output, re.MULTILINE)
    commands = [line for line in commands if line != "None"]
    assert len(commands) > 15
    fake = "python() { printf '%s\\n' \"$@\"; }; command() { printf '%s\\n' \"$@\"; }\n"
    said = []
    for line in commands:
        argv = ["bash", "-euc", fake + line.partition(" 2> ")[0]]
        said += subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.splitlines()
    assert not list(checkout.folder.parent.rglob("CANARY"))
    layers = [yaml.safe_load(Path(name).read_text()) for name in CONFIGS[:2]]
    whole = checked(merged(*layers, config))
    assert {sweep_spec(whole, "valkey_resp"), recommend_spec(whole), baseline_spec(whole)} <= set(said)
    assert {keys["data_dir"], keys["claims"], keys["vllm.pairs.reference.python"], vllm["bits.speed"]} <= set(
        said
    )


@pytest.mark.slow
def test_a_run_with_odd_values_runs_nothing_else(odd_checkout):
    checkout, _, keys = odd_checkout
    checkout.configure(changed_by(TINY, keys))
    measured_file = "results/sweep/valkey_resp/1.jsonl"
    status, output = checkout.snakemake(measured_file, "predict_break_even", "inspect_array")
    assert status == 0, output
    assert not list(checkout.folder.parent.rglob("CANARY"))
    [record] = read_records(checkout / measured_file)
    assert record["valid"], record["reason"]
    assert record["spec"]["scenario"]["environment"] == {"V_A": ODD}
    checkout.configure(changed_by(TINY, keys | {"data_dir": "${TMPDIR}/odd"}))
    status, output = checkout.snakemake("inspect_array")
    assert status == 0, output
