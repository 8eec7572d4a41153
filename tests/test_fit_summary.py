"""The text of a fit, as people read it: golden pages for the classics (times aside), and tables for other programs."""

import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy
from strategies import KINDS, draw_problem

import vcbench as vc
from vcbench.errors import MethodError

WIDTH = 100


def page(fit):
    """The summary with its time replaced by T."""
    return re.sub(r", [\d.]+ (µs|ms|s)\b", ", T", fit.summary())


DYESTUFF = """\
Linear mixed model, REML                                            vcbench 0.1.0
Yield ~ 1 + (1 | Batch)
30 rows used (0 dropped) · Batch: 6 levels
CONVERGED  method newton, 0 iterations, T · logLik (REML) −159.8271 · AIC 325.65 · BIC 329.86

Variance components                                         95% CI: profile likelihood
  component                     estimate       SE              95% CI  % total      SD
  Batch       var((Intercept))   1764.05  1432.75  [245.15, 10214.36]     41.8  42.001
  residual    var                2451.25   707.61  [1461.54, 4577.56]     58.2  49.510
  total                          4215.30  1534.02                        100.0  64.925
  ICC(Batch)                       0.418    0.216      [0.069, 0.819]

  without (1 | Batch):  LRT 6.369,  p = 0.0044  (exact RLRT, a function of F_{5, 24})

Fixed effects                              95% CI: t, Satterthwaite df
               estimate     SE              95% CI   df      t       p
  (Intercept)   1527.50  19.38  [1477.67, 1577.33]  5.0  78.80  <0.001

SE is the standard error of the variance (SD is its square root, not an SE).
The variance Batch var((Intercept)) is poorly determined: a Wald interval would be [−1044, 4572] and
is not shown.
More: fit.tidy() · fit.confint("profile") · fit.plot("profile") · fit.explain()"""

DYESTUFF2 = """\
Linear mixed model, REML                                            vcbench 0.1.0
Yield ~ 1 + (1 | Batch)
30 rows used (0 dropped) · Batch: 6 levels
BOUNDARY   method newton, N iterations, T · logLik (REML) −80.9141 · AIC 167.83 · BIC 172.03
           Batch:var((Intercept)) is 0 at the maximum. This is a valid fit on the edge of the
           parameter space, not a failure.
           Slope of the log-likelihood in Batch:var((Intercept)) at 0: −0.359; method of moments,
           which may go below 0: −1.32.
           What to do: (1) report 0 with its upper limit 6.32; (2) keep the term if it is part of
           the design; (3) for shrinkage away from 0, a prior: method="nuts" or "quadrature".
           → vcbench explain VC-BOUNDARY

Variance components                                              95% CI: profile likelihood
  component                     estimate    SE         95% CI  % total      SD
  Batch       var((Intercept))         0     –      [0, 6.32]      0.0       0  at boundary
  residual    var                  13.81  3.63  [8.59, 24.24]    100.0  3.7157
  total                           13.806     –                   100.0  3.7157
  ICC(Batch)                           0     –    [0, 0.3194]

  without (1 | Batch):  LRT 0.000,  p = 1.00  (exact RLRT, a function of F_{5, 24})

Fixed effects                          95% CI: t, Satterthwaite df
               estimate     SE          95% CI    df     t       p
  (Intercept)     5.666  0.678  [4.278, 7.053]  29.0  8.35  <0.001

SE is the standard error of the variance (SD is its square root, not an SE).
Batch:var((Intercept)) is on the boundary and held there: degrees of freedom are those without.
More: fit.tidy() · fit.confint("profile") · fit.plot("profile") · fit.explain()"""


def test_summary__of_dyestuff():
    """Batch 1764.05 (1432.75), Residual 2451.25 (707.61), shares 41.8 and 58.2: the figures of UX."""
    assert page(vc.fit(dyestuff(), "newton")) == DYESTUFF


def test_summary__of_dyestuff2_on_the_boundary():
    assert re.sub(r"\d+ iterations", "N iterations", page(vc.fit(dyestuff2(), "newton"))) == DYESTUFF2


def test_summary__of_moments_reports_the_raw_value_and_the_other_name_of_its_likelihood():
    text = page(vc.fit(dyestuff2(), "moments"))
    assert "Linear mixed model, method of moments" in text
    assert "CONVERGED  method moments, T · REML logLik at the estimate −80.6046" in text
    assert "negative estimate of `Batch:var((Intercept))`, reported raw." in text
    assert re.search(r"Batch +var\(\(Intercept\)\) +−1\.32 +1\.36", text)


def test_summary__of_random_slopes_shows_no_share_where_units_differ():
    text = vc.fit(sleepstudy()).summary()
    rows = [line.split() for line in text.splitlines() if line.startswith("  Subject") or line.startswith("  residual")]
    assert [r[2] for r in rows] == ["612.09", "9.60", "35.07", "654.94"]
    assert [r[-1] for r in rows if r[1] != "cov((Intercept),Days)"] == ["24.740", "5.9221", "25.592"]
    assert "41.8" not in text


def test_summary__of_a_fit_that_stopped_says_where_to_read_on():
    fit = vc.fit(sleepstudy(), "em", max_iter=3)
    text = page(fit)
    assert "MAX_ITER   method em, 3 iterations" in text
    assert "stopped at 3 iterations" in text
    assert "The estimates below are where it stopped." in text
    assert f"vcbench explain {fit.code}" in text
    assert fit.code == "VC-MAX-ITER"


def test_summary__counts_dropped_rows():
    data = frame("sleepstudy")
    data.loc[[4, 7], "Days"] = np.nan
    fit = vc.fit(vc.Model.from_formula("Reaction ~ Days + (1 | Subject)", data))
    assert "178 rows used (2 dropped) · Subject: 18 levels" in fit.summary()


@pytest.mark.parametrize("kind", KINDS)
def test_summary__is_never_wider_than_100_and_has_no_nan(kind):
    """(Tables of a y of size 0.001 or 1000 may be: a variance is printed with all its decimals.)"""
    for method, seed, log10_scale in product(("newton", "moments", "em"), (1, 2), (0, 2)):
        p = draw_problem(kind, zero=seed == 2, log10_scale=log10_scale, seed=seed)
        fit = vc.fit(p.model, method, **({"max_iter": 5} if method == "em" else {}))
        for text in (fit.summary(), fit.explain()):
            assert max(len(line) for line in text.splitlines()) <= WIDTH, text
        assert str(fit) == fit.summary()
        assert not re.search(r"\bnan\b|e\+|\b0\.0000\b", fit.summary(), re.I), fit.summary()


def test_repr__is_one_line_with_the_estimates():
    assert repr(vc.fit(dyestuff())).startswith(
        "Fit(auto, reml, CONVERGED, loglik = -159.827138: Batch:var((Intercept))"
    )


def test_explain__names_the_ending_and_the_kernel():
    text = vc.fit(dyestuff2()).explain()
    assert "valid fit on the edge of the" in text
    assert "kernel `grouped`" in text


def tables(fit):
    return [("1764.05", "1432.75"), ("2451.25", "707.61"), ("1527.50", "19.38")]


def test_markdown__is_two_well_formed_tables():
    fit = vc.fit(dyestuff())
    blocks = [b.splitlines() for b in fit.to_markdown().split("\n\n") if b.startswith("|")]
    assert len(blocks) == 2
    for lines in blocks:
        n = lines[0].count("|")
        assert set(lines[1]) <= set("| -:")
        assert all(line.startswith("|") and line.endswith("|") and line.count("|") == n for line in lines)
    text = fit.to_markdown()
    for estimate, se in tables(fit):
        assert f"| {estimate} | {se} |" in text
    assert "| Batch | var((Intercept)) | 1764.05 | 1432.75 |" in text


def test_markdown__a_bar_in_a_name_is_escaped():
    data = frame("dyestuff").assign(**{"a|b": np.arange(30.0) % 7})
    m = vc.Model(data["Yield"], pd.DataFrame({"one": 1.0, "a|b": data["a|b"]}), dyestuff().components)
    assert "| a\\|b |" in vc.fit(m).to_markdown()


def test_latex__is_two_well_formed_tabulars():
    data = frame("dyestuff").rename(columns={"Batch": "batch_id"})
    fit = vc.fit(vc.Model.from_formula("Yield ~ 1 + (1 | batch_id)", data))
    text = fit.to_latex()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 2
    for block in re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end", text, re.S):
        columns, body = block
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert all(line.count("&") == len(columns) - 1 for line in rows)
    assert r"batch\_id & var((Intercept)) & 1764.05 & 1432.75 \\" in text
    assert "_id" not in text.replace(r"\_id", "")


def test_latex__has_no_characters_that_tex_does_not_read():
    text = vc.fit(dyestuff2(), "moments").to_latex()
    assert text.isascii()
    assert "$-$1.32 & 1.36" in text


def test_html__is_two_tables_with_escaped_names():
    m = vc.Model(dyestuff().y, pd.DataFrame({"1 < 2": np.ones(30)}), dyestuff().components)
    text = vc.fit(m)._repr_html_()
    assert text.count("<table>") == text.count("</table>") == 2
    assert "1 &lt; 2" in text
    assert "<td>1432.75</td>" in text


def test_plot__says_what_there_is():
    fit = vc.fit(dyestuff())
    with pytest.raises(MethodError, match=r'unknown plot `profiles`.*"trace", "ranef".*Did you mean `profile`'):
        fit.plot("profiles")
    with pytest.raises(MethodError, match="method `auto` kept no trace"):
        vc.fit(dyestuff(), trace=False).plot()
    with pytest.raises(MethodError, match="method `moments` kept no trace"):
        vc.fit(dyestuff(), "moments").plot()
