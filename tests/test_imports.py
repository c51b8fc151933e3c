"""What tests share lies in helper modules: a test module can be read, moved and removed alone."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def imported(path: Path) -> set[str]:
    """Every name that a module imports, or whose parts it does, as absolute dotted names."""
    package = ("tests", *path.relative_to(TESTS).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def test_no_test_module_imports_another():
    modules = {
        ".".join(["tests", *path.relative_to(TESTS).with_suffix("").parts])
        for path in TESTS.rglob("test_*.py")
    }
    faults = {
        f"{path.relative_to(TESTS)} imports {name}"
        for path in TESTS.rglob("*.py")
        for name in imported(path)
        if any(f"{name}.".startswith(f"{module}.") for module in modules)
    }
    assert faults == set()
