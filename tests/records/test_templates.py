"""Templates lie beside the modules that fill them, are among their code, and say what is missing."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from workflow.hyperkv.base.sources import sources
from workflow.hyperkv.records.templates import environment, filled

PACKAGE = Path("workflow/hyperkv")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.j2")), ids=str)
def test_every_template_is_code_of_the_module_of_its_name(path):
    module = path.relative_to(PACKAGE).as_posix().removesuffix(".j2")
    assert str(path) in sources(module.replace("/", "."))


def test_a_template_is_filled_and_nothing_of_it_is_left_empty(tmp_path):
    (tmp_path / "stage.j2").write_text("{% if name %}\n{{ name }} &\n{% endif %}\n")
    assert filled(str(tmp_path / "stage.py"), name="a<b") == "a<b &\n"
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        filled(str(tmp_path / "stage.py"))


def test_a_part_of_a_template_is_filled(tmp_path):
    (tmp_path / "stage.j2").write_text("{% macro part(name) %}\n<{{ name }}>\n{% endmacro %}\n")
    assert filled(str(tmp_path / "stage.py"), "part", name="x") == "<x>\n"


@pytest.mark.parametrize(("value", "known"), [(0, True), ("", True), (None, False), (float("nan"), False)])
def test_what_is_known(value, known, tmp_path):
    assert environment(tmp_path).from_string("{{ v is known }}").render(v=value) == str(known)


def test_a_paragraph_becomes_lines_and_a_long_word_stays_whole(tmp_path):
    text = (
        environment(tmp_path)
        .from_string("{{ v | lines(10, '- ', '  ') }}")
        .render(v=f"some words {'x' * 20}")
    )
    assert text.split("\n") == ["- some", "  words", "  " + "x" * 20]


def test_html_is_escaped_where_it_is_asked_for(tmp_path):
    assert environment(tmp_path, html=True).from_string("{{ v }}").render(v="<b>") == "&lt;b&gt;"
