"""The page: one file, nothing loaded, the same bytes again, every picture with its table."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from report.synthetic import METHODS, PARAMETERS, write_run

from vcbench.errors import StoreError
from vcbench.report import render

LIGHT = {"replicates": 2, "real": (), "n_groups": (6,), "icc": (0.3,), "methods": ("ai", "em")}
LOADS = {"src", "srcset", "poster", "data", "action", "formaction", "background", "cite", "longdesc", "xlink:href"}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.stack: list[str] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag in self.stack:
            while self.stack.pop() != tag:
                pass

    def handle_data(self, data):
        if self.stack:
            self.texts.setdefault(self.stack[-1], []).append(data)


@pytest.fixture(scope="module")
def page(page_path):
    return page_path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_render__returns_the_page_and_writes_pictures_and_summary(page_path):
    folder = page_path.parent
    assert page_path.name == "index.html"
    assert (folder / "summary.csv").is_file()
    svg = {p.stem for p in (folder / "figures").glob("*.svg")}
    assert svg == {p.stem for p in (folder / "figures").glob("*.png")}
    assert {"agreement", "speed", "endings", "nested-iterations", "bias-residual-var", "se-residual-var"} <= svg
    assert {"coverage-residual-var", "zip-residual-var", "convergence-random-slope-data", "real-one-way-data"} <= svg


def test_render__twice_gives_the_same_bytes(run_folder, page_path, tmp_path):
    again = render(run_folder, tmp_path / "again")
    files = sorted(p.relative_to(page_path.parent) for p in page_path.parent.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again.parent) for p in again.parent.rglob("*") if p.is_file())
    for name in files:
        assert (again.parent / name).read_bytes() == (page_path.parent / name).read_bytes(), name


def test_page__loads_nothing(page, parsed):
    for tag, name, value in parsed.attributes:
        assert name not in LOADS, (tag, name, value)
        assert not name.startswith("on"), (tag, name)
        assert name != "style", (tag, value)
        if name == "href":
            assert re.match(r"#|figures/[a-z0-9-]+\.(svg|png)$|summary\.csv$", value), value
    css = "".join(parsed.texts["style"])
    assert "url(" not in css
    assert "@import" not in css
    assert set(re.findall(r"https?://[^\s\"'<>)]+", page)) <= {"http://www.w3.org/2000/svg"}
    policy = next(v for t, n, v in parsed.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_page__is_small_and_has_no_rows_of_the_study(page, found):
    assert len(page.encode()) < 3_000_000
    estimates = found.evidence.rows("003")
    simulated = estimates[estimates["truth"].notna() & estimates["estimate"].notna()]
    digits = [str(v) for v in simulated["estimate"].head(500) if len(str(v)) > 10]
    assert len(digits) > 300
    assert [text for text in digits if text[:9] in page] == []


def test_page__says_its_language_title_and_identity(page, parsed):
    assert ("html", "lang", "en") in parsed.attributes
    assert "".join(parsed.texts["title"]).startswith("Which method")
    assert "● COMPLETE" in page
    for value in ("20261121", "7f3a9c0", "4 × 40 replicates"):
        assert value in page


def test_page__every_link_has_its_target(page, parsed, page_path):
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids)), sorted({i for i in ids if ids.count(i) > 1})
    for _, name, value in parsed.attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids, value
        elif name == "href":
            assert (page_path.parent / value).is_file(), value
        elif name in ("aria-labelledby", "data-csv"):
            assert set(value.split()) <= set(ids), value
        for anchor in re.findall(r"url\(#([^)]*)\)", value):
            assert anchor in ids


def test_page__each_picture_has_a_caption_a_description_and_a_table(page):
    figures = re.findall(r"<figure class=\"chart.*?</figure>", page, flags=re.S)
    assert len(figures) >= 20
    for figure in figures:
        assert re.search(r"<figcaption>\w.{20,}</figcaption>", figure, flags=re.S)
        assert "<table" in figure
        assert len(re.findall(r"<svg", figure)) == (1 if "chart pan" in figure else 2)
        for svg in re.findall(r"<svg.*?</svg>", figure, flags=re.S):
            assert 'role="img"' in svg
            assert "<title" in svg
            assert "<desc" in svg


def test_page__the_scorecards_are_data_for_every_parameter_and_condition(page):
    text = re.search(r'<script type="application/json" id="cards">(.*?)</script>', page, flags=re.S)[1]
    cards = json.loads(text)
    assert cards["first"] == "all"
    assert set(cards["tables"]) == {
        f"{p}/{c}" for p in range(len(PARAMETERS)) for c in ("all", "002", "003", "004", "005")
    }
    shown = [row[0][0] for row in cards["tables"]["0/all"]["rows"]]
    assert shown == ["ai", "newton", "fisher", "em", "em-reml", "px-em", "moments", "nuts"]
    assert set(shown) == set(METHODS)


def test_figures__are_documents_of_their_own_without_scripts(page_path):
    for path in (page_path.parent / "figures").glob("*.svg"):
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        names = {element.tag.split("}")[1] for element in root.iter()}
        assert names <= {"svg", "g", "path", "text", "tspan", "line", "rect", "title", "desc", "defs", "clipPath"}, (
            names
        )
        assert "href" not in path.read_text(encoding="utf-8")


def test_page__a_partial_run_says_so(tmp_path):
    page = render(write_run(tmp_path / "r", **LIGHT, planned=5000)).read_text(encoding="utf-8")
    assert "PARTIAL" in page
    assert "● COMPLETE" not in page


@pytest.mark.parametrize(
    "options",
    [
        {"real": (), "methods": ("ai", "em"), "icc": (0.0,)},
        {"n_groups": (), "icc": ()},
        {"real": (), "n_groups": (6,), "icc": (0.3,)},
        {"methods": ("moments",), "icc": (0.3,)},
        {"methods": ("ai",), "replicates": 1, "icc": (0.3,), "n_groups": (6,)},
    ],
    ids=["simulated only", "real only", "one condition", "no maximiser", "one fit"],
)
def test_render__reports_what_there_is(tmp_path, options):
    page = render(write_run(tmp_path / "r", **{"replicates": 3, **options})).read_text(encoding="utf-8")
    assert "What this study shows" in page
    assert ">nan" not in page.lower()


def test_page__names_are_text_not_markup(tmp_path):
    page = render(write_run(tmp_path / "r", **LIGHT, title='<b>"Q" & A</b>')).read_text(encoding="utf-8")
    assert "<b>&#34;Q&#34;" not in page
    assert "&lt;b&gt;" in page


def test_render__a_folder_without_rows_is_refused(tmp_path):
    folder = write_run(tmp_path / "r", replicates=1)
    for path in (folder / "rows").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="no rows yet"):
        render(folder)


def test_ademp__is_told_as_the_run_has_kept_it(tmp_path):
    folder = write_run(tmp_path / "r", **LIGHT)
    run = json.loads((folder / "run.json").read_text())
    kept = [["Aims", "To see."], ["Data-generating mechanisms", "Rows from a hat."]]
    (folder / "run.json").write_text(json.dumps({**run, "ademp": kept}))
    page = render(folder).read_text(encoding="utf-8")
    assert "<dt>Data-generating mechanisms</dt><dd>Rows from a hat.</dd>" in page
    assert "more than 2 MCSE from its target" in page
