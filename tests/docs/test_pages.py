"""README and docs: short, linked, and with commands, rooms and settings that exist."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.kept import H100, KEPT
from tests.workflow_helpers import merged
from workflow.hyperkv.base.errors import UserError
from workflow.hyperkv.config.config import checked
from workflow.hyperkv.report import front
from workflow.plugin.lmcache_striped.cache_settings import settings_from

README = Path("README.md")
PAGES = [README, Path("CONTRIBUTING.md"), *Path("docs").rglob("*.md"), *Path("config").rglob("README.md")]
OF_TODAY = [page for page in PAGES if "results" not in page.parts]
COMMANDS = re.compile(r"(?:^|`)make ([a-z][a-z-]*)((?: [A-Z]+=(?:\"[^\"]*\"|\S+))*)", re.MULTILINE)
MADE_BY_READERS = {"my.yaml", "FILE", "results/tune/rocksdb_striped/winner.yaml"}


def test_readme_is_one_page():
    assert len(README.read_text().split()) <= 900


def test_readme_shows_the_newest_run_on_a_laptop():
    name = front.newest(front.PAGES)
    assert front.answer(front.PAGES, name) in README.read_text(), "run `make docs`"
    assert front.PICTURE.read_text() == (front.PAGES / name / "pays.svg").read_text(), "run `make docs`"


def test_another_run_is_another_front(tmp_path):
    page = tmp_path / "laptop-2026-12-01.md"
    page.with_suffix("").mkdir()
    (page.with_suffix("") / "pays.svg").write_text("<svg/>")
    page.write_text("# Run\n\n> SSD pays for 9.\n> Not more.\n\n| a |\n")
    readme, picture, listed = tmp_path / "README.md", tmp_path / "pays.svg", tmp_path / "kept.md"
    readme.write_text(README.read_text())
    listed.write_text("# Kept\n\n<!-- runs -->\n<!-- end of runs -->\n")
    kept = tmp_path / "kept"
    shutil.copytree(H100, kept / "laptop" / "2026-12-01")
    gone = tmp_path / "h100-2026-11-24-old.md"
    gone.with_suffix("").mkdir()
    gone.touch()
    front.main(pages=tmp_path, picture=picture, readme=readme, kept=kept, listed=listed)
    assert not gone.exists()
    assert not gone.with_suffix("").exists()
    assert page.exists()
    line = "- [laptop/2026-12-01](../../docs/results/laptop-2026-12-01.md): Llama-3.1-8B on an H100, LMCache in a server\n"
    assert listed.read_text() == f"# Kept\n\n<!-- runs -->\n{line}<!-- end of runs -->\n"
    assert "<!-- answer on GPUs -->\n<!-- end of answer on GPUs -->" in readme.read_text()
    told = readme.read_text().partition("<!-- answer -->\n")[2].partition("<!-- end of answer -->")[0]
    link = "[The run of 2026-12-01](docs/results/laptop-2026-12-01.md)"
    assert told == f"> SSD pays for 9.\n> Not more.\n\n{link}\n"
    assert picture.read_text() == "<svg/>"
    assert readme.read_text().count("\n## ") == README.read_text().count("\n## ")


def test_kept_runs_are_listed():
    assert front.runs_list(KEPT) in front.LIST.read_text(), "run `make docs`"


def test_a_block_that_is_gone_is_named(tmp_path):
    (tmp_path / "README.md").touch()
    with pytest.raises(
        UserError, match="there are no lines <!-- runs --> and <!-- end of runs -->; put them back"
    ):
        front.write_between(tmp_path / "README.md", "runs", "")


def test_the_newest_run_is_the_last_of_those_with_the_picture(tmp_path):
    with pytest.raises(UserError, match="run make docs"):
        front.newest(tmp_path)
    for name in ("laptop-2026-11-24", "laptop-2026-11-28", "laptop-2026-11-29", "server-2026-12-01"):
        (tmp_path / name).mkdir()
        if "29" not in name:
            (tmp_path / name / "pays.svg").touch()
    assert front.newest(tmp_path) == "laptop-2026-11-28"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", OF_TODAY, ids=str)
def test_commands_are_targets_of_make_with_files_that_are_there(page):
    targets = set(re.findall(r"^([a-z][a-z-]*):", Path("Makefile").read_text(), re.MULTILINE))
    for target, settings in COMMANDS.findall(page.read_text()):
        assert target in targets
        for name in re.findall(r"\S+\.yaml", settings.replace("CONFIG=", " ").replace('"', " ")):
            assert name in MADE_BY_READERS or Path(name).exists(), name


def test_no_page_names_the_run_that_the_next_one_replaces():
    name = front.newest(front.PAGES)
    naming = [str(page) for page in PAGES if f"{name}.md" in page.read_text() and page != README]
    assert naming == []
    assert README.read_text().count(f"{name}.md") == 1


def test_every_page_is_reached_from_readme():
    linked = set(re.findall(r"\]\(docs/(\w+)\.md", README.read_text()))
    assert {path.stem for path in Path("docs").glob("*.md")} == linked


def test_the_rooms_are_those_of_the_package():
    rooms = Path("docs/architecture.md").read_text().partition("## The rooms")[2].partition("\nBeside")[0]
    told = {name.partition("/")[0] for row in re.findall(r"^\| (`.*?) \| ", rooms, re.MULTILINE)
            for name in re.findall(r"`([\w/]+)`", row)}  # fmt: skip
    assert told == {path.parent.name for path in Path("workflow/hyperkv").glob("*/__init__.py")}


@pytest.mark.parametrize(
    "block",
    [
        block
        for page in ("experiment", "array", "cluster")
        for block in re.findall(r"```yaml\n(.*?)```", Path(f"docs/{page}.md").read_text(), re.DOTALL)
    ],
)
def test_configurations_of_the_pages_are_taken(block):
    files = [yaml.safe_load(Path(f"config/{name}.yaml").read_text()) for name in ("scenarios", "config")]
    told = yaml.safe_load(block)
    assert checked(merged(*files, told)).keys() >= told.keys()


def test_the_plugins_file_is_one_that_the_plugin_takes():
    text = Path("docs/striped.md").read_text()
    file = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    settings = settings_from(file["extra_config"], "remote_storage_plugin.striped")
    assert [(endpoint.host, endpoint.port) for endpoint in settings.endpoints] == [
        ("127.0.0.1", 6666),
        ("127.0.0.1", 6667),
    ]
    module = file["extra_config"]["remote_storage_plugin.striped.module_path"].replace(".", "/")
    assert (
        f"class {file['extra_config']['remote_storage_plugin.striped.class_name']}("
        in Path(f"workflow/plugin/{module}.py").read_text()
    )
