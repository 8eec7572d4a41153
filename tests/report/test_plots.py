"""Charts: the convergence plot of a fit, files, tables, families and looks."""

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from vcbench.report import families, plots, svg, tables, theme
from vcbench.report.pictures import base


def trace(rate, n=30):
    t = np.arange(n + 1)
    return pd.DataFrame({"iteration": t, "loglik": -100 - 40 * rate**t, "residual:var": 1.0, "seconds": 1e-5 * t})


def test_convergence_plot__is_an_altair_chart_of_deficit_and_value():
    import altair as alt

    chart = plots.convergence_plot({"em": trace(0.8), "ai": trace(0.01, 6)}, criterion="reml")
    assert isinstance(chart, alt.HConcatChart)
    spec = chart.to_dict()
    assert [panel["title"] for panel in spec["hconcat"]] == [
        "REML log-likelihood below the best (log scale)",
        "REML log-likelihood",
    ]
    values = spec["hconcat"][0]["data"]["values"]
    assert {v["label"] for v in values} == {"ai: 6", "em: 30"}
    assert min(v["deficit"] for v in values) == plots.FLOOR
    first = next(v for v in values if v["label"] == "em: 30")
    assert first["deficit"] == pytest.approx(40, abs=1e-9)


def test_convergence_plot__takes_one_trace_or_a_frame_with_methods(tmp_path):
    for given in (trace(0.5), pd.concat([trace(0.5).assign(method="em"), trace(0.1).assign(method="ai")])):
        path = plots.save(plots.convergence_plot(given), tmp_path / "trace.svg", "A title", "What it shows")
        root = ET.parse(path).getroot()
        assert root[0].text == "A title"
        assert root[1].text == "What it shows"


def test_convergence_plot__a_fit_that_starts_at_the_maximum_is_drawn(tmp_path):
    flat = pd.DataFrame({"iteration": [0], "loglik": [-5.0]})
    assert plots.save(plots.convergence_plot(flat), tmp_path / "flat.svg").stat().st_size > 500


def test_convergence_plot__without_log_likelihoods_says_so():
    with pytest.raises(ValueError, match="no trace has a log-likelihood"):
        plots.convergence_plot({"moments": trace(0.5).assign(loglik=np.nan)})


def test_save__writes_png_and_json_and_refuses_the_rest(tmp_path):
    chart = plots.convergence_plot(trace(0.5))
    assert plots.save(chart, tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert plots.save(chart, tmp_path / "a.json").read_text(encoding="utf-8").startswith("{")
    with pytest.raises(ValueError, match="is saved as"):
        plots.save(chart, tmp_path / "a.gif")


def test_slim__drops_nothing_that_shows():
    raw = (
        '<svg xmlns="http://www.w3.org/2000/svg" class="marks" width="9" height="9" viewBox="0 0 9 9"><rect width="9" '
        'height="9" fill="#fffffe"/><defs><clipPath id="clip0"><rect width="5" height="5"/></clipPath></defs>'
        '<g transform="translate(0,0)"><g clip-path="url(#clip0)"><path class="background" d="M0,0h0"/>'
        '<path aria-label="ai: 3" d="M1.23456,2h3" fill="#000"/></g></g></svg>'
    )
    text = svg.slim(raw, "fig", "T", "D")
    assert 'id="fig-0"' in text
    assert "url(#fig-0)" in text
    assert svg.slim(raw.replace("clip0", "clip145"), "fig", "T", "D") == text
    assert "M1.23,2h3" in text
    assert "<title>ai: 3</title>" in text
    assert "background" not in text


def test_looks__tell_sixteen_methods_apart_without_colour_alone():
    names = [
        "auto",
        "em",
        "em-simplified",
        "px-em",
        "px-em-component",
        "px-em-full",
        "ecme",
        "em-reml",
        "em-henderson",
        "newton",
        "fisher",
        "ai",
        "lbfgs",
        "moments",
        "quadrature",
        "nuts",
    ]
    looks = theme.looks(names)
    assert len({(look.colour, look.shape) for look in looks.values()}) == 16
    by_family = pd.Series({m: looks[m].shape for m in names}).groupby({m: families.family(m) for m in names})
    assert (by_family.nunique() == by_family.size()).all()


def test_theme__every_colour_has_a_dark_counterpart_with_contrast():
    def luminance(colour):
        linear = [
            v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in theme.FAMILY_COLOURS.values():
        assert (1.0 + 0.05) / (luminance(colour) + 0.05) >= 4.3, colour
        assert (luminance(theme.DARK[colour]) + 0.05) / (luminance("#171d25") + 0.05) >= 4.5, colour
    assert set(theme.STATUS_COLOURS.values()) <= set(theme.DARK)


@pytest.mark.parametrize(
    ("label", "name", "family", "climbs"),
    [
        ("px-em-full", "px-em-full", "PX-EM", True),
        ("em, unit start", "em", "EM", True),
        ("px-em (unit)", "px-em", "PX-EM", True),
        ("moments", "moments", "Moments", False),
        ("nuts", "nuts", "Posterior", False),
        ("mine", "mine", "Other", True),
    ],
)
def test_families__are_known_by_name_or_beginning(label, name, family, climbs):
    assert families.base_name(label) == name
    assert families.family(label) == family
    assert families.maximises(label) is climbs


def test_table__is_escaped_sortable_and_flags_in_symbols():
    table = tables.Table(
        "t",
        "A <caption>",
        ("method", "value"),
        ((tables.head("a|b<c"), tables.Cell("1.5", 1.5, "off")), (tables.head("_d_"), tables.Cell("–", float("nan")))),
    )
    html = table.html()
    assert "a|b&lt;c" in html
    assert 'data-v="1.5"' in html
    assert 'title="off by more than 2 MCSE">▲<' in html
    assert "<caption><span>A &lt;caption&gt;</span>" in html
    assert table.markdown().splitlines()[2:] == ["| a\\|b<c | 1.5 ▲ |", "| \\_d\\_ | – |"]


def test_cut__says_how_many_rows_it_leaves():
    table = tables.cut("t", "c", ("a",), [(tables.head(str(i)),) for i in range(9)], most=4)
    assert len(table.rows) == 4
    assert table.note == "The first 4 of 9 rows; all of them are in summary.csv."


def test_decades__cover_the_values_with_few_labels():
    assert base.decades(pd.Series([3.0, 70.0])) == ([1.0, 100.0], [1.0, 10.0, 100.0])
    domain, ticks = base.decades(pd.Series([1e-6, 1e4]))
    assert domain == [1e-6, 1e4]
    assert len(ticks) <= 7


def test_report__imports_nothing_heavy_until_asked():
    code = "import sys, vcbench.report; print(sorted({'altair', 'vl_convert', 'jinja2', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
