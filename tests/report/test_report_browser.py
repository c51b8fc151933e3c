"""The page in a real browser: every figure and section is visible, nothing is fetched, nothing is complained about."""

import pytest

from tests.report.browser import Browser, browser_program
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
def browser():
    """The browser, for all tests of this file."""
    program = browser_program()
    if program is None:
        pytest.skip("there is no Chromium; Debian's package is chromium")
    with Browser(program) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with every section: invalid cells, claims and costs too."""
    cells = spoiled(few_cells(), "rocksdb_resp-64")
    checks = [{"what": "store.sh", "status": "checked", "detail": "started"}]
    folder = tmp_path_factory.mktemp("pages") / "page"
    return page_of(folder, cells, extra={"claims": CLAIMS, "cost": COST}, checks=checks)


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_and_section_is_visible_and_quiet(browser, page, width, scheme):
    browser.view(width, 900, scheme)
    browser.open(page)
    images = browser.value(IMAGES)
    assert len(images) == 4
    assert all(image["complete"] and image["natural"] > 0 for image in images)
    assert all(image["width"] > 300 and image["height"] > 100 for image in images)
    heights = browser.value(HEIGHTS)
    assert {*SECTIONS, "claims", "cost"} == set(heights)
    assert all(height > 20 for height in heights.values())
    assert browser.value("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser, page, scheme):
    browser.view(1280, 900, scheme)
    browser.open(page)
    ratio, tag = browser.value(CONTRAST)
    assert ratio >= 4.5, tag


def test_print_keeps_figures_and_tables_within_the_sheet(browser, page):
    browser.view(794, 1123, media="print")
    browser.open(page)
    assert all(0 < image["width"] <= 794 for image in browser.value(IMAGES))
    widest = browser.value(
        "Math.max(...[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right))"
    )
    assert widest <= 794
    browser.view(1280, 900)


def test_a_complaint_and_a_request_would_be_seen(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        "<title>bad</title><img src='missing.png'><script>console.error('x'); throw Error('y')</script>"
    )
    browser.open(path)
    assert (tmp_path / "missing.png").as_uri() in browser.requests()
    assert len(browser.complaints()) >= 2
