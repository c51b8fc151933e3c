"""A workload of conversations as text in a configuration: of which model its tokens are, and what its stages wait for."""

import json
from pathlib import Path

import pytest
import yaml

from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.run.stages import Stages

ROOT = Path(__file__).parents[2]
TALKS = "config/experiments/conversations.json"
TEXT = {"kind": "text", "file": TALKS, "max_answer_tokens": 16}


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def configuration(*files, **changes):
    full = merged(
        *(
            yaml.safe_load(Path("config", name).read_text())
            for name in ("scenarios.yaml", "config.yaml", *files)
        )
    )
    return merged(full, changes)


@pytest.fixture
def folder(tmp_path):
    """A model's own folder, as far as it is looked at before a run."""
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    return tmp_path


def test_sweep_and_prediction_wait_for_the_tokens_which_are_those_of_a_model_from_a_package():
    stages = Stages.of(configuration("engine-cpu.yaml"))
    ((name, workload),) = stages.texts().items()
    path = f"results/texts/{name}.jsonl"
    assert (workload["tokens"], workload["tokenizer"]) == (path, "results/build/models/smollm2-135m-real")
    assert workload["max_context_tokens"] == 8192 - 8
    assert stages.texts_files(name) == [
        TALKS,
        "results/build/models/smollm2-135m-real/config.json",
        "results/build/loadgen/loadgen.json",
    ]
    assert path in stages.files("measure_scenario", "engine_rocksdb")
    assert path in stages.files("predict_hit_rates")
    assert path in stages.files("choose_scenario")
    assert json.loads(stages.spec("measure_scenario", "none"))["workload"] == workload


def test_engine_replay_takes_any_models_tokenizer(folder):
    config = configuration(workload=TEXT | {"tokenizer": str(folder)})
    stages = Stages.of(config)
    ((name, workload),) = stages.texts().items()
    assert stages.texts_files(name) == [TALKS, "results/build/loadgen/loadgen.json"]
    assert workload["tokens"] in stages.files("measure_scenario", "files")


def test_the_served_models_own_folder_is_taken_where_none_is_named(folder):
    config = configuration("engine-cpu.yaml", vllm={"model_dir": str(folder)})
    assert next(iter(Stages.of(config).texts().values()))["tokenizer"] == str(folder)


@pytest.mark.parametrize(
    ("files", "changes", "words"),
    [
        ((), {"workload": TEXT}, r"^config: workload\.tokenizer: kind text needs a model's own tokenizer"),
        (
            ("engine-cpu.yaml",),
            {"model": "config/models/tiny-llama.json"},
            r"^config: workload\.tokenizer: kind text needs",
        ),
        (
            ("engine-cpu.yaml",),
            {"workload": {"file": "gone.json"}},
            r"^config: workload\.file: there is no file gone\.json",
        ),
        (
            ("engine-cpu.yaml",),
            {"workload": {"file": "config/config.yaml"}},
            r"^config: workload\.file: .*ShareGPT's form is",
        ),
        (
            ("engine-cpu.yaml",),
            {"workload": {"tokenizer": "docs"}},
            r"^config: workload\.tokenizer: docs has no tokenizer_config",
        ),
        (("engine-cpu.yaml",), {"workload": {"tokens": "x.jsonl"}}, r"^config: workload\.tokens"),
    ],
)
def test_what_cannot_be_made_tokens_of_is_refused_in_a_line(files, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        Stages.of(configuration(*files, **changes))
    assert "\n" not in str(caught.value)


def test_a_served_model_that_does_not_chat_is_refused(folder):
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"^config: vllm\.model_dir: .* has no chat template"):
        Stages.of(configuration("engine-cpu.yaml", vllm={"model_dir": str(folder)}))
