"""The law of the house: a result's path names its maker; and its size: of a module, of a room."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePath
from types import SimpleNamespace

import pytest
from snakemake.parser import parse
from snakemake.sourcecache import LocalSourceFile

from workflow.hyperkv.tables.methods.dictionary import columns_dictionary

VERBS = {"tables": "write_", "figures": "draw_"}
ROOM_OF = {
    "recommended": "recommend",
    "traces": "workloads",
    "texts": "workloads",
    "summary.json": "report",
    "answer.txt": "report",
}
# Rules that do not keep the law yet; one that does must leave the list.
NOT_YET: set[str] = set()


@dataclass(frozen=True)
class Rule:
    """A rule with a command: its name, the module that it runs, its files under results/, and whether no scheduler gets it."""

    name: str
    module: str
    outputs: list[str]
    local: bool


def rules_of(path: Path) -> Iterator[Rule]:
    """The rules of a file that run a module, as Snakemake's own parser reads them, those of every branch."""
    opened = SimpleNamespace(open=lambda _: StringIO(path.read_text()))
    text, _ = parse(LocalSourceFile(str(path)), SimpleNamespace(sourcecache=opened), {})
    known: dict[str, tuple[str, bool]] = {}
    tree = ast.parse(text)
    for node in tree.body:
        for function in ast.walk(node):
            if not isinstance(function, ast.FunctionDef):
                continue
            told = {call.func.attr: call for call in function.decorator_list if isinstance(call, ast.Call)}
            if "userule" in told:
                names = {key.arg: ast.literal_eval(key.value) for key in told["userule"].keywords}
                name, (command, local) = names["name_modifier"], known[names["rules"][0]]
            elif "name" in told:  # a rule of each figure
                yield from (
                    Rule(f"draw_{name}", f"figures.{name}", [], "localrule" in told) for name in drawn(tree)
                )
                continue
            elif {"rule", "shellcmd"} <= set(told):
                (name,) = (key.value.value for key in told["rule"].keywords if key.arg == "name")
                command, local = known[name] = "".join(words(told["shellcmd"])), "localrule" in told
            else:
                continue
            module = re.search(r"-m workflow\.hyperkv\.(\S+)", command)[1]
            files = [re.sub(r"^<(\w+)>", r"results/\1", word) for word in words(told.get("output"))]
            yield Rule(name, module, [file for file in files if file.startswith("results/")], local)


def drawn(tree: ast.Module) -> list[str]:
    """The figures of which figures.smk says what they are drawn of."""
    told = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    ]
    return [key.value for mapping in told for key in mapping.keys if key]


def words(call: ast.Call | None) -> list[str]:
    """The texts among a directive's arguments."""
    return [
        node.value for node in ast.walk(call or ast.Pass()) if isinstance(getattr(node, "value", None), str)
    ]


RULES = [rule for path in sorted(Path("workflow/rules").glob("*.smk")) for rule in rules_of(path)]

MAKERS = {rule.module for rule in RULES if rule.module.split(".")[0] in VERBS}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_a_module_and_a_result_share_a_name(rule):
    room, *_, name = rule.module.split(".")
    plain = rule.name.replace("_patched_", "_")  # the same program from the same source with patches
    faults = [] if plain == VERBS.get(room, "") + name else [f"it runs {rule.module}"]
    for output in map(PurePath, rule.outputs):
        folder, stem = output.parts[1], output.stem
        named = room not in VERBS or stem == name or stem.startswith(f"{name}_")
        if ROOM_OF.get(folder, folder) != room or not named:
            faults.append(f"{rule.module} makes {output}")
    assert bool(faults) is (rule.name in NOT_YET), faults


def test_what_is_excepted_is_there():
    assert {rule.name for rule in RULES} >= NOT_YET


@pytest.mark.parametrize("room", VERBS)
def test_every_table_and_figure_has_its_rule(room):
    """A module of these rooms that is a command has a rule, and no other module has."""
    commands = {
        f"{room}.{path.stem}"
        for path in Path("workflow/hyperkv", room).glob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    assert commands == {rule.module for rule in RULES if rule.module.startswith(f"{room}.")}


def test_tables_and_figures_are_made_where_snakemake_runs():
    made = [rule for rule in RULES if rule.module.split(".")[0] in VERBS]
    assert [rule.name for rule in made if not rule.local] == []


def test_every_table_has_its_columns_described():
    files = [
        PurePath(file)
        for rule in RULES
        for file in rule.outputs
        if rule.module.split(".")[0] in ("tables", "predict")
    ]
    tables = {file.stem for file in files if file.suffix in (".csv", ".parquet")}
    assert tables - {"columns"} == set(columns_dictionary())


def test_every_folder_of_tests_is_collected(pytestconfig):
    """pytest leaves out folders called build, dist and the like, unless it is told."""
    folders = [path for path in Path("tests").rglob("*") if path.is_dir() and any(path.glob("test_*.py"))]
    left_out = pytestconfig.getini("norecursedirs")
    assert Path("tests/build") in folders
    assert [path for path in folders if any(path.match(pattern) for pattern in left_out)] == []


def test_every_figure_has_its_caption():
    figures = {rule.module.removeprefix("figures.") for rule in RULES if rule.module.startswith("figures.")}
    assert {path.stem for path in Path("workflow/report/figures").glob("*.rst")} == figures


def test_a_module_is_short_enough_to_be_read_at_once():
    lengths = {str(path): len(path.read_text().splitlines()) for path in Path("workflow").rglob("*.py")}
    assert len(lengths) > 400
    assert {path: lines for path, lines in lengths.items() if lines > 350} == {}
    assert len(Path("workflow/rules/common.smk").read_text().splitlines()) <= 80


def test_a_room_has_few_modules():
    """Beside a module for each figure and table, and the plugin, which is installed as it lies."""
    rooms: dict[str, set[str]] = {}
    for path in Path("workflow/hyperkv").rglob("*.py"):
        if path.stem != "__init__" and f"{path.parent.name}.{path.stem}" not in MAKERS:
            rooms.setdefault(str(path.parent), set()).add(path.stem)
    assert len(rooms) > 30
    assert {room: names for room, names in rooms.items() if len(names) > 16} == {}
