"""The page in a real browser: every figure and section is visible, nothing is fetched, nothing is complained about."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.report.pages import CLAIMS, COST, SECTIONS, few_cells, page_of, spoiled

pytestmark = pytest.mark.browser

IMAGES = """[...document.images].map(image => {
  const box = image.getBoundingClientRect();
  return {complete: image.complete, natural: image.naturalWidth, width: box.width, height: box.height};
})"""
HEIGHTS = """Object.fromEntries([...document.querySelectorAll('section[id]')].map(
  section => [section.id, section.getBoundingClientRect().height]))"""
CONTRAST = """(() => {
  const light = color => {
    const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/^rgba.* 0\\)$/.test(color)) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('h1, h2, h3, p, li, td, th, dt, dd, a, figcaption, caption, pre')].map(element => {
    const [one, two] = [getComputedStyle(element).color, behind(element)].map(light);
    return [(Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05), element.tagName];
  }).reduce((least, found) => found[0] < least[0] ? found : least);
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """This machine's Chromium, for all tests of this file."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium; Debian's package is chromium")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as running:
        yield running


class Opened:
    """A page in a window of its own. requests: the addresses it asked for, those within itself left out; complaints:
    what the console was told, and exceptions."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.value = page.evaluate
        page.on(
            "request", lambda sent: None if sent.url.startswith("data:") else self.requests.append(sent.url)
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))


@contextmanager
def opened(browser: Browser, path: Path, width: int, height: int = 900, **media: str) -> Iterator[Opened]:
    """The page at `path`. width, height: of the window, CSS pixels; media: what it is shown as (emulate_media)."""
    with browser.new_page(viewport={"width": width, "height": height}) as page:
        page.emulate_media(**media)
        shown = Opened(page)
        page.goto(path.absolute().as_uri())
        yield shown


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every section: invalid cells, claims and costs too."""
    cells = spoiled(few_cells(), "rocksdb_resp-64")
    checks = [{"what": "store.sh", "status": "checked", "detail": "started"}]
    folder = tmp_path_factory.mktemp("pages") / "page"
    return page_of(folder, cells, extra={"claims": CLAIMS, "cost": COST}, checks=checks)


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_and_section_is_visible_and_quiet(browser, page, width, scheme):
    with opened(browser, page, width, color_scheme=scheme) as shown:
        images = shown.value(IMAGES)
        assert len(images) == 4
        assert all(image["complete"] and image["natural"] > 0 for image in images)
        assert all(image["width"] > 300 and image["height"] > 100 for image in images)
        heights = shown.value(HEIGHTS)
        assert {*SECTIONS, "claims", "cost"} == set(heights)
        assert all(height > 20 for height in heights.values())
        assert shown.value("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        assert shown.requests == [page.as_uri()]
        assert shown.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser, page, scheme):
    with opened(browser, page, 1200, color_scheme=scheme) as shown:
        ratio, tag = shown.value(CONTRAST)
    assert ratio >= 4.5, tag


def test_print_keeps_figures_and_tables_within_the_sheet(browser, page):
    with opened(browser, page, 794, 1123, media="print") as shown:
        assert all(0 < image["width"] <= 794 for image in shown.value(IMAGES))
        widest = shown.value(
            "Math.max(...[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right))"
        )
    assert widest <= 794


def test_a_complaint_and_a_request_would_be_seen(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<title>bad</title><img src='missing.png'><script>console.error('x'); throw Error('y')</script>"
    )
    with opened(browser, path, 1200) as shown:
        assert (tmp_path / "missing.png").as_uri() in shown.requests
        assert {"error: x", "y"} < set(shown.complaints)
