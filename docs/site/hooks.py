"""What the site has beside docs: pages whose source lies elsewhere in the repository, links to files, the rule graph."""

from __future__ import annotations

import os
import re
import subprocess
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "config/README.md": "config.md",
    "config/models/README.md": "config-models.md",
    "config/gpus/README.md": "config-gpus.md",
    "config/kvrocks/README.md": "config-kvrocks.md",
    "results/reference/README.md": "results/kept.md",
}
SOURCES = {page: source for source, page in ELSEWHERE.items()}
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
GRAPH = "<!-- rule graph -->"
WIDE, HIGH, ACROSS, DOWN = 150, 24, 36, 12  # of a box, and between boxes


def on_config(config: Any) -> Any:
    """Every page of results is in the navigation: kept runs, newest first, then history."""
    runs = sorted((ROOT / "docs" / "results").glob("*.md"), key=lambda path: path.stem, reverse=True)
    laptops = [path for path in runs if path.stem.startswith("laptop")]
    found = [*laptops, *(path for path in runs if path not in laptops)]
    entries = [{path.stem: f"results/{path.name}"} for path in found]
    next(entry for entry in config["nav"] if "Results" in entry)["Results"] = [
        {"Kept runs": "results/kept.md"},
        *entries,
    ]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages whose source lies elsewhere."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the site's pages, make those to other files of the repository plain text, and draw the rule graph."""
    uri = page.file.src_uri
    if GRAPH in markdown:
        markdown = markdown.replace(GRAPH, f'<div style="overflow-x: auto">{rule_graph()}</div>')
    return LINK.sub(lambda link: _on_site(link, SOURCES.get(uri, f"docs/{uri}"), uri), markdown)


def _on_site(link: re.Match[str], source: str, uri: str) -> str:
    target = link["target"]
    if "://" in target:
        return link[0]
    path = os.path.normpath(PurePosixPath(source).parent / target)
    if not (ROOT / path).exists():
        raise PluginError(f"{source}: {target}: there is no such file")
    if path in ELSEWHERE or (path.startswith("docs/") and Path(path).suffix):
        found = ELSEWHERE.get(path, path.removeprefix("docs/"))
        there = os.path.relpath(found, PurePosixPath(uri).parent)
        return f"{link['picture']}[{link['text']}]({there}{link['anchor'] or ''})"
    return link["text"] if link["text"].startswith("`") else f"`{link['text']}`"


def rule_graph() -> str:
    """An SVG of the rules of a default run, as Snakemake prints them."""
    command = ["snakemake", "--rulegraph", "dot", "--quiet", "all", "--forceall", "all"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if printed.returncode:
        raise PluginError(f"{' '.join(command)}: {printed.stderr.strip()}")
    names = dict(re.findall(r'^\s*(\d+)\[label = "([^"]+)"', printed.stdout, re.MULTILINE))
    edges = {(names[a], names[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)", printed.stdout, re.MULTILINE)}
    return drawn({(a, b) for a, b in edges if b != "all"})


def drawn(edges: set[tuple[str, str]]) -> str:
    """An acyclic graph as an SVG: layers from left to right by the longest way there, edges that follow from others left out."""
    nodes = sorted({node for edge in edges for node in edge})
    after = {node: {b for a, b in edges if a == node} for node in nodes}
    before = {node: {a for a, b in edges if b == node} for node in nodes}

    def layer(node: str) -> int:
        return 1 + max(map(layer, before[node]), default=-1)

    def reached(node: str) -> set[str]:
        return after[node].union(*map(reached, after[node]))

    kept = sorted((a, b) for a, b in edges if not any(b in reached(via) for via in after[a]))
    layers: list[list[str]] = [[] for _ in range(1 + max(map(layer, nodes)))]
    for node in nodes:
        layers[layer(node)].append(node)
    row = {node: float(place) for column in layers for place, node in enumerate(column)}
    for ways in (before, after) * 4:
        for column in layers:
            column.sort(key=lambda node: _middle([row[each] for each in ways[node]], row[node]))
            row |= {node: place - len(column) / 2 for place, node in enumerate(column)}
    tallest = max(map(len, layers))
    at = {
        node: (10 + place * (WIDE + ACROSS), 10 + (row[node] + tallest / 2) * (HIGH + DOWN))
        for place, column in enumerate(layers)
        for node in column
    }
    lines = [
        f'<path d="M{at[a][0] + WIDE} {at[a][1] + HIGH / 2} C{at[a][0] + WIDE + ACROSS / 2} {at[a][1] + HIGH / 2} '
        f'{at[b][0] - ACROSS / 2} {at[b][1] + HIGH / 2} {at[b][0]} {at[b][1] + HIGH / 2}"/>'
        for a, b in kept
    ]
    boxes = [
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="4" style="fill: var(--md-default-bg-color)"/>'
        f'<text x="{x + WIDE / 2}" y="{y + HIGH / 2 + 4}">{escape(node)}</text>'
        for node, (x, y) in at.items()
    ]
    width, height = 20 + len(layers) * (WIDE + ACROSS) - ACROSS, 20 + tallest * (HIGH + DOWN)
    return (
        f'<svg role="img" aria-label="Rules of a default run" viewBox="0 0 {width} {height}" width="100%" style="min-width: 42rem" '
        'fill="none" stroke="currentColor" font-size="12" text-anchor="middle">'
        f'<g opacity=".45">{"".join(lines)}</g><g>{"".join(boxes)}</g></svg>'
    ).replace("<text ", '<text fill="currentColor" stroke="none" ')


def _middle(values: list[float], own: float) -> float:
    return sum(values) / len(values) if values else own
