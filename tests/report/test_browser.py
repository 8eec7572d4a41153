"""In a browser: no sideways scrolling on a telephone, no error on the console, readable without scripts."""

import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to look at the page with")
PROBE = """<script>
addEventListener("load", function () {
  var scroller = document.scrollingElement, figures = Array.from(document.querySelectorAll("figure.chart"));
  parent.postMessage(JSON.stringify({
    inner: innerWidth, scroll: scroller.scrollWidth,
    shown: figures.filter(function (f) { return f.offsetHeight > 0; }).length,
    ink: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor,
    label: getComputedStyle(document.querySelector("figure.chart text")).fill,
    rows: document.querySelectorAll("#t-scorecard tbody tr").length,
    buttons: document.querySelectorAll("#t-scorecard thead button").length
  }), "*");
});
</script></body>"""
FRAME = """<!doctype html><body><script>
addEventListener("message", function (event) { document.getElementById("probe").textContent = event.data; });
</script><pre id="probe"></pre><iframe src="page.html%s" style="border:0;width:%dpx;height:900px"></iframe></body>"""


def look(page, tmp_path, width, fragment="", scripts=True):
    """Layout facts of the page in a frame of this width (a headless window is never narrower than 500 pixels)."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    if not scripts:
        text = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    (tmp_path / "page.html").write_text(text.replace("</body>", PROBE), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME % (fragment, width), encoding="utf-8")
    done = dump(frame, tmp_path, 1400)
    return json.loads(re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, flags=re.S)[1])


def dump(path, tmp_path, width, fragment=""):
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=10000",
        "--dump-dom",
        f"{path.resolve().as_uri()}{fragment}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("width", [400, 768, 1280])
def test_page__never_scrolls_sideways(page_path, tmp_path, width):
    seen = look(page_path, tmp_path, width)
    assert seen["inner"] == width
    assert seen["scroll"] <= width


def test_page__without_scripts_every_picture_and_the_scorecard_remain(page_path, tmp_path):
    seen = look(page_path, tmp_path, 1280, scripts=False)
    assert seen["shown"] == page_path.read_text(encoding="utf-8").count('<figure class="chart')
    assert seen["rows"] == 8
    assert seen["buttons"] == 0


def test_page__with_scripts_one_parameter_is_shown_and_tables_sort(page_path, tmp_path):
    seen = look(page_path, tmp_path, 1280)
    assert 0 < seen["shown"] < page_path.read_text(encoding="utf-8").count('<figure class="chart')
    assert seen["rows"] == 8
    assert seen["buttons"] == 8


def luminance(colour):
    rgb = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_page__text_and_pictures_have_contrast_in_both_themes(page_path, tmp_path, theme):
    seen = look(page_path, tmp_path, 1280, f"#theme={theme}")
    paper = luminance(seen["paper"])
    assert (paper > 0.5) == (theme == "light")
    for name in ("ink", "label"):
        light, dark = sorted((luminance(seen[name]), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 7


def test_page__obeys_its_own_content_policy(page_path, tmp_path):
    done = dump(page_path, tmp_path, 1280, "#p=1&c=003&theme=dark")
    assert "Content Security Policy" not in done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    assert 'class="scripted"' in done.stdout
    caption = re.search(r'<table id="t-scorecard".*?<span>(.*?)</span>', done.stdout, flags=re.S)[1]
    assert caption.startswith("Subject:cov((Intercept),Days), n_groups=6, icc=0.3")
