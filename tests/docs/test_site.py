"""The site of docs: it is built strictly, fetches nothing, and draws the rules as they are."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

spec = spec_from_file_location("hooks", "docs/site/hooks.py")
hooks = module_from_spec(spec)
spec.loader.exec_module(hooks)


class Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag == "link" and told.get("rel") in ("stylesheet", "preconnect", "preload", "icon"):
            self.found.append(told["href"])
        elif tag in ("script", "img", "iframe", "source") and told.get("src"):
            self.found.append(told["src"])


def on_page(markdown: str, uri: str) -> str:
    """A page's text as the site has it."""
    return hooks.on_page_markdown(markdown, page=SimpleNamespace(file=SimpleNamespace(src_uri=uri)))


@pytest.mark.slow
def test_the_site_is_built_strictly_fetches_nothing_and_has_every_rule(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        parser = Fetched()
        parser.feed(page.read_text())
        assert parser.found
        assert not [url for url in parser.found if re.match(r"(https?:)?//", url)]
    graph = (
        (tmp_path / "architecture.html").read_text().partition('aria-label="Rules')[2].partition("</svg>")[0]
    )
    assert {"measure_scenario", "write_cells", "draw_pays", "make_page"} <= set(
        re.findall(r">(\w+)</text>", graph)
    )


def test_links_go_to_pages_of_the_site_and_other_files_are_named():
    assert on_page("[a](docs/array.md#the-array)", "index.md") == "[a](array.md#the-array)"
    assert on_page("[k](../config/README.md)", "experiment.md") == "[k](config.md)"
    assert on_page("[r](../../results/reference/README.md)", "results/history.md") == "[r](kept.md)"
    assert on_page("![p](docs/images/pays.svg)", "index.md") == "![p](images/pays.svg)"
    assert on_page("[prices](../config/prices.yaml)", "decide.md") == "`prices`"
    assert on_page("[x](https://example.com/y)", "decide.md") == "[x](https://example.com/y)"
    with pytest.raises(
        PluginError, match=r"docs/decide\.md: \.\./config/nothing\.yaml: there is no such file"
    ):
        on_page("[x](../config/nothing.yaml)", "decide.md")


def test_an_edge_that_follows_from_others_is_not_drawn():
    svg = hooks.drawn({("a", "b"), ("b", "c"), ("a", "c")})
    assert re.findall(r">(\w)</text>", svg) == ["a", "b", "c"]
    assert svg.count("<path ") == 2
    xs = [float(x) for x in re.findall(r'<rect x="([\d.]+)"', svg)]
    assert xs == sorted(set(xs))
