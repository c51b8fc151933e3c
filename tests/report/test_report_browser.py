"""The page in a real browser: every figure and section is visible, nothing is fetched, nothing is complained about."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.kept import LAPTOP
from tests.report.pages import (
    CLAIMS,
    PAYS,
    SECTIONS,
    cells_of,
    drawn_pays,
    kept_cost,
    kept_pictures,
    page_of,
    spoiled,
)

pytestmark = pytest.mark.browser

FIGURES = """[...document.querySelectorAll('figure svg')].map(image => {
  const box = image.getBoundingClientRect(), letters = [...image.querySelectorAll('g[id*="-text_"] use')];
  return {width: box.width, height: box.height, drawn: image.getBBox().width, letters: letters.length};
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
  return [...document.querySelectorAll('h1, h2, h3, p, li, td, th, dt, dd, figcaption, caption, pre, summary, a:not(svg a)')].map(element => {
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
        self.page, self.value = page, page.evaluate
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


LETTERS = """(() => {
  const background = 1, light = color => {
    const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return Math.min(...[...document.querySelectorAll('figure svg g[id*="-text_"] use')].map(
    letter => (background + 0.05) / (light(getComputedStyle(letter).fill) + 0.05)));
})()"""
SMALLEST = """Math.min(...[...document.querySelectorAll('figure svg g[transform*="scale(0."]')].map(
  text => Math.hypot(text.getScreenCTM().a, text.getScreenCTM().b) * 100))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every section: invalid cells, claims, costs and pays too."""
    cells = spoiled(cells_of(LAPTOP), "rocksdb_resp")
    checks = [{"what": "store.sh", "status": "checked", "detail": "started"}]
    folder = tmp_path_factory.mktemp("pages")
    figures = [*kept_pictures(), drawn_pays(folder / "figures")]
    extra = {"claims": CLAIMS, "cost": kept_cost(), "pays": PAYS}
    return page_of(folder / "page", cells, extra=extra, checks=checks, figures=figures)


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_and_section_is_visible_and_quiet(browser, page, width, scheme):
    with opened(browser, page, width, color_scheme=scheme) as shown:
        images = shown.value(FIGURES)
        assert len(images) == 5
        assert all(image["drawn"] > 300 and image["letters"] > 20 for image in images)
        assert all(image["width"] > 900 and image["height"] > 300 for image in images)
        heights = shown.value(HEIGHTS)
        assert {*SECTIONS, "claims", "cost", "pays"} == set(heights)
        assert all(height > 20 for height in heights.values())
        assert shown.value("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
        assert shown.requests == [page.as_uri()]
        assert shown.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser, page, scheme):
    with opened(browser, page, 1200, color_scheme=scheme) as shown:
        ratio, tag = shown.value(CONTRAST)
        letters = shown.value(LETTERS)
    assert ratio >= 4.5, tag
    assert letters >= 4.5


def test_letters_of_figures_are_11_pixels_high_without_zooming(browser, page):
    with opened(browser, page, 1200) as shown:
        assert 11 <= shown.value(SMALLEST) < 20


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_a_click_on_a_point_shows_its_row_which_leads_to_its_record(browser, page, width):
    with opened(browser, page, width) as shown:
        missing = shown.value(
            """[...document.querySelectorAll('svg a, a[href^="#"]')].map(link => link.href.baseVal ?? link.getAttribute('href'))
              .filter(href => !document.getElementById(href.slice(1)))"""
        )
        assert missing == []
        for place in ("cell-files-4", "pays-llama-3.1-8b-h100-80gb-bfloat16-8192", "cost-none-slo"):
            row = shown.page.locator(f'[id="{place}"]')
            assert not row.is_visible()
            shown.page.locator(f'svg a[*|href="#{place}"] path').first.click()
            row.wait_for(state="visible")
        shown.page.locator("[id='cell-files-4'] a").first.click()
        shown.page.wait_for_url("**/records/sweep/files/*.jsonl")
        assert '"scenario": "files"' in shown.page.content()


def test_print_keeps_figures_and_tables_within_the_sheet(browser, page):
    with opened(browser, page, 794, 1123, media="print") as shown:
        assert all(0 < image["width"] <= 794 for image in shown.value(FIGURES))
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
