"""The page under a reader's hands: filters, tips, sorting, links, a telephone, the dark, no network, no scripts."""

import csv
import gzip
import json
import re
from base64 import b64decode

import pytest
from report.browser import CHROMIUM, opened
from report.browser import chromium as start
from report.large import write_large
from report.synthetic import METHODS

from vcbench import numbers as num
from vcbench.report import render

pytest.importorskip("playwright", reason="no playwright here to drive a browser with")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to look at the page with")
FIRST = "Subject:var((Intercept))"
SIMULATED = 4


@pytest.fixture(scope="module")
def browser():
    with start() as running:
        yield running


@pytest.fixture
def page(browser, page_path):
    """The page on a desk; whatever a test does, nothing leaves it and nothing is complained of."""
    with opened(browser, page_path) as seen:
        yield seen
        assert seen.silent(), (seen.requests, seen.console, seen.errors)


@pytest.fixture(scope="module")
def data(page_path):
    """What is packed into the page."""
    text = page_path.read_text(encoding="utf-8")
    return json.loads(gzip.decompress(b64decode(re.search(r'id="data">([^<]*)<', text)[1])))


def marks(seen, what="#live-scenarios .mark"):
    """(condition, method) of each mark of the explorer, by their places."""
    return seen.evaluate(f"Array.from(document.querySelectorAll({what!r}), m => [+m.dataset.c, +m.dataset.m])")


def only(seen, key, value):
    seen.click(f'#filters details[data-key="{key}"] > summary')
    seen.hover(f'#filters details[data-key="{key}"] .drop > div:has(input[value="{value}"])')
    seen.click(f'#filters details[data-key="{key}"] button[aria-label="only {value}"]')
    seen.keyboard.press("Escape")


def test_filter__of_methods_holds_in_every_picture_and_table(page, data):
    assert {m for _, m in marks(page)} == set(range(len(METHODS)))
    only(page, "m", "moments")
    shown = [m["label"] for m in data["methods"]].index("moments")
    assert {m for _, m in marks(page)} == {shown}
    assert page.texts("#t-scorecard tbody th") == ["moments"]
    assert page.texts("#t-strip thead th") == ["condition", "moments"]
    assert page.texts("#live-pairwise svg[aria-label^=Bland] g > text[font-weight='600']") == ["moments"]
    assert page.texts("#shown") == ["6 conditions × 1 method"]
    assert page.fragment == "#m=moments"
    page.click('#live-scenarios button[data-key="v-values"]')
    assert set(page.texts("#t-values tbody td:nth-child(4)")) == {"moments"}
    page.click("#filters .reset")
    assert page.texts("#t-scorecard tbody th") != ["moments"]


def test_filter__of_a_factor_leaves_its_conditions(page, data):
    page.click('#filters details[data-key="f.icc"] > summary')
    page.uncheck('#filters details[data-key="f.icc"] input[value="0"]')
    kept = [i for i, c in enumerate(data["conditions"]) if "icc=0.3" in c["label"]]
    assert len(kept) == 2
    assert {c for c, _ in marks(page)} == set(kept)
    assert page.fragment == "#f.icc=0.3"
    assert page.locator('#filters details[data-key="f.icc"]').get_attribute("open") is not None  # still in hand


def test_filter__of_parameter_and_measure_shows_the_cells_of_both(page, found):
    page.select_option('#filters select[data-key="p"]', "residual:var")
    page.select_option('#filters select[data-key="q"]', "coverage")
    cell = found.cells[(found.cells["parameter"] == "residual:var") & found.cells["coverage"].notna()]
    assert len(marks(page)) == len(cell)
    assert page.texts("#live-scenarios h3") == ["Coverage of residual:var"]
    assert page.texts("#t-scorecard caption")[0].startswith("residual:var, ")
    assert page.texts("#live-intervals h3") == ["Zip plot of residual:var"]


def test_tip__says_value_and_error_under_the_mouse_the_keyboard_and_a_finger(browser, page, page_path, data, found):
    """Oracle: the measure of that cell as the tables write it."""
    row = found.cells[(found.cells["method"] == "ai") & (found.cells["parameter"] == "residual:var")].iloc[0]
    said = f"Bias: {num.plus_minus(row['bias'], row['bias_mcse'])}"
    fragment = "#p=residual:var&q=bias"
    place = [c["id"] for c in data["conditions"]].index(row["condition"])
    spot = f'#live-scenarios .mark[data-c="{place}"][data-m="0"]'
    page.select_option('#filters select[data-key="p"]', "residual:var")
    page.select_option('#filters select[data-key="q"]', "bias")
    page.hover(spot)
    assert page.inner_text("#tip").split("\n")[:2] == [f"ai · {found.label(row['condition'])}", said]
    page.mouse.move(2, 2)
    assert not page.is_visible("#tip")
    page.focus("#live-scenarios .mark[tabindex='0']")
    before = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    after = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert after != before
    assert page.inner_text("#tip") == after
    assert page.locator("#live-scenarios .mark[tabindex='0']").count() == 1  # one stop of Tab, wherever it is
    page.keyboard.press("Escape")
    assert not page.is_visible("#tip")
    with opened(browser, page_path, fragment, width=390, has_touch=True) as phone:
        phone.locator(f"{spot} path").tap()
        assert said in phone.inner_text("#tip")


def test_tip__of_the_other_pictures(page):
    for card, pattern in (
        ("#live-intervals", r"centile [\d.]+ of \|z\| · \[.+, .+\]\n(holds|misses) the truth"),
        ("#live-pairwise", r" − ai, group \d+ of 10 by size"),
        ("#live-convergence", r", iteration \d+"),
    ):
        page.locator(f"{card} .mark").first.hover(force=True)
        assert re.search(pattern, page.inner_text("#tip")), card


def numbers(seen, column):
    return seen.evaluate(
        "j => Array.from(document.querySelectorAll('#t-scorecard tbody tr'), r => r.cells[j].dataset.v)", column
    )


def test_sort__by_a_column_and_back(page):
    first = page.texts("#t-scorecard tbody th")
    head = page.locator("#t-scorecard thead th").nth(2)
    head.locator("button").click()
    up = [float(v) for v in numbers(page, 2)]
    assert up == sorted(up)
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#t-scorecard thead th").nth(2).locator("button").click()
    assert [float(v) for v in numbers(page, 2)] == sorted(up, reverse=True)
    assert page.fragment == "#sort.t-scorecard=2d"
    page.go_back()
    assert [float(v) for v in numbers(page, 2)] == up
    page.go_back()
    assert page.texts("#t-scorecard tbody th") == first
    assert page.locator("#t-scorecard [aria-sort]").count() == 0


def test_link__opens_the_same_view_and_back_goes_back(browser, page, page_path):
    only(page, "m", "em")
    page.select_option('#filters select[data-key="p"]', "residual:var")
    page.select_option('#filters select[data-key="q"]', "coverage")
    page.click('#live-scenarios button[data-key="v-heat"]')
    page.click("#t-heat tbody tr:last-child button")
    page.click('#t-strip button[aria-expanded="false"]')
    parts = ("#live-scenarios", "#live-intervals", "#live-failures", "#t-scorecard")
    here = [page.inner_text(part) for part in parts]
    assert set(re.findall(r"([a-z]+)=", page.fragment)) == {"m", "p", "q", "v", "s", "x"}
    with opened(browser, page_path, page.fragment) as other:
        assert [other.inner_text(part) for part in parts] == here
        assert other.silent()
    for _ in range(6):
        page.go_back()
    assert page.fragment == ""
    assert len(marks(page)) == len({tuple(m) for m in marks(page)}) > SIMULATED


def test_link__within_the_page_keeps_the_filters(page):
    only(page, "m", "ai")
    page.click('nav a[href="#failures"]')
    assert page.fragment == "#m=ai&t=failures"
    assert page.evaluate("document.getElementById('failures').getBoundingClientRect().top") < 300
    page.click('.verdicts a[href="#coverage"]')
    assert page.texts("#live-scenarios h3") == [f"Coverage of {FIRST}"]


def test_condition__pressed_in_a_picture_is_looked_at_below(page, data):
    condition = data["conditions"][5]
    page.locator('#live-scenarios .mark[data-c="5"]').first.click()
    assert page.fragment == f"#s={condition['id']}"
    for card in ("#live-intervals", "#live-pairwise"):
        assert page.locator(f"{card} select[data-key=s]").input_value() == condition["id"]


def test_failures__pressed_say_how_to_make_one_again(page, run_folder):
    page.locator('#t-strip button[aria-expanded="false"]').first.click()
    command = page.texts("#missing-list code")[0]
    row = re.fullmatch(r"vcbench study replay runs/quickstart --row (\d+)/(\d+)/(\S+)", command)
    assert row
    from vcbench.study.store import read_rows

    rows = read_rows(run_folder)
    named = rows[(rows["condition"] == row[1]) & (rows["replicate"] == int(row[2])) & (rows["method"] == row[3])]
    assert set(named["status"]) <= {"MAX_ITER", "TIMEOUT", "SINGULAR_V"}
    assert len(named)


def test_table__is_saved_as_it_is_shown(page, tmp_path):
    page.click('#live-scenarios button[data-key="v-values"]')
    with page.expect_download() as waiting:
        page.click("#live-scenarios .tabletools button:has-text('Save')")
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert path.name == "values.csv"
    assert rows[0][:4] == ["condition", "n_groups", "icc", "method"]
    assert len(rows) - 1 == page.locator("#t-values tbody tr").count() > SIMULATED


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_page__never_scrolls_sideways(browser, page_path, width):
    with opened(browser, page_path, width=width) as seen:
        for view in ("lolly", "nested", "heat", "values"):
            seen.click(f'#live-scenarios button[data-key="v-{view}"]')
            assert seen.evaluate("document.scrollingElement.scrollWidth") <= width, view


def test_page__is_used_on_a_telephone(browser, page_path):
    with opened(browser, page_path, width=360, height=740, has_touch=True) as phone:
        phone.tap('#filters details[data-key="m"] > summary')
        phone.tap('#filters details[data-key="m"] button[aria-label="only nuts"]')
        assert phone.texts("#t-scorecard tbody th") == ["nuts"]
        box = phone.locator('#filters details[data-key="m"] .drop').bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        phone.tap('#live-scenarios button[data-key="v-heat"]')
        assert phone.is_visible("#t-heat")
        assert phone.silent()


def luminance(colour):
    rgb = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(seen, selector, what):
    paper = luminance(seen.evaluate("getComputedStyle(document.body).backgroundColor"))
    ink = luminance(seen.evaluate(f"getComputedStyle(document.querySelector({selector!r})).{what}"))
    light, dark = sorted((paper, ink), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("system", "fragment", "dark"), [("light", "", 0), ("dark", "", 1), ("light", "#theme=dark", 1)]
)
def test_page__has_contrast_by_day_and_by_night(browser, page_path, system, fragment, dark):
    with opened(browser, page_path, fragment, color_scheme=system) as seen:
        assert (luminance(seen.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.5) == bool(dark)
        assert contrast(seen, "body", "color") >= 7
        assert contrast(seen, "#live-scenarios svg text[font-weight='600']", "fill") >= 7
        assert contrast(seen, "figure.chart text", "fill") >= 7
        for mark in range(3):
            assert contrast(seen, f"#live-convergence .k{mark}", "color") >= 3


def test_theme__goes_round_by_its_button(page):
    seen = []
    for _ in range(3):
        page.click("#theme")
        seen.append(page.evaluate("document.documentElement.dataset.theme ?? 'auto'"))
    assert seen == ["light", "dark", "auto"]


def test_policy__lets_nothing_in_and_nothing_be_made_into_code(page, page_path):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page_path.read_text(encoding="utf-8"))[1]
    assert "unsafe" not in policy
    assert "default-src" in policy
    made = "() => new Promise(said => setTimeout(() => { try { said(eval('2')); } catch (e) { said(e.name); } }))"
    assert page.evaluate(made) == "EvalError"
    asked = "() => fetch('https://example.org/').then(() => 'let through', () => 'refused')"
    assert page.evaluate(asked) == "refused"
    page.console.clear()  # the browser's own word that both were refused


def test_page__without_scripts_every_picture_and_table_remains(browser, page_path):
    with opened(browser, page_path, scripts=False) as seen:
        figures = page_path.read_text(encoding="utf-8").count('<figure class="chart')
        assert figures >= 20
        assert seen.locator("figure.chart:visible").count() == figures
        assert seen.locator("#t-scorecard tbody tr:visible").count() == len(METHODS)
        assert seen.locator("button:visible, select:visible").count() == 0
        assert seen.locator("figure.chart svg:visible").count() == figures


@pytest.mark.slow
def test_page__of_a_million_rows_is_small_and_quick(browser, tmp_path_factory):
    """From the start of the navigation to a page that answers, at a study of 1,000,000 rows."""
    page = render(write_large(tmp_path_factory.mktemp("large") / "large"))
    assert page.stat().st_size <= 3_000_000
    took = []
    for _ in range(3):
        with opened(browser, page) as seen:
            took.append(seen.evaluate("performance.getEntriesByName('interactive')[0].startTime"))
            assert seen.silent()
    assert min(took) < 2000, took


def test_page__printed_by_hand_has_every_picture_and_folds_them_away_again(page):
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    figures = page.locator("figure.chart").count()
    assert page.locator("figure.chart:visible").count() == figures >= 20
    assert page.locator(".live:visible, .bar:visible, button:not(thead button):visible, select:visible").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert page.locator("figure.chart:visible").count() < figures


def test_page__on_paper_has_pictures_and_no_controls(browser, page_path):
    with opened(browser, page_path, scripts=False) as seen:
        seen.emulate_media(media="print")
        assert seen.locator("nav:visible, button:visible, select:visible, .narrow:visible").count() == 0
        assert seen.locator("figure.chart .wide:visible").count() >= 20
