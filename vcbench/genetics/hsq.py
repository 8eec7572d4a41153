"""GCTA's .hsq file, so that what parses GCTA's answers parses ours: names, tabs, digits and order are GCTA's.

What differs from our own tables, to keep to GCTA's numbers (read in its source):

- standard errors are average information and the delta method, on the boundary too, where our tables show none;
- logL drops the constant ½(n − d) log 2π of ℓ_REML (½n log 2π of ℓ_ML);
- Pval is half the χ² tail whatever the degrees of freedom, ½P(χ²_df ≥ LRT), 0.5 at LRT = 0.
"""

import math

import numpy as np
from scipy.special import chdtrc

from vcbench.genetics.traits import Trait, inner


def hsq_text(t: Trait) -> str:
    """The content of the file; tabs between columns, one line a quantity."""
    m = len(t.sizes)
    names = ["G"] if m == 1 else [f"G{k + 1}" for k in range(m)]
    found = t.quantities()
    shares = ["h2"] if m == 1 else [f"h2:{inner(name)}" for name in t.components]
    lines = ["Source\tVariance\tSE"]
    for name, quantity in zip([*(f"V({g})" for g in names), "V(e)", "Vp"], [*t.components, "V(e)", "Vp"], strict=True):
        lines.append(_line(name, found[quantity][0], _se(t, quantity)))
    lines += [_line(f"V({g})/Vp", found[q][0], _se(t, q)) for g, q in zip(names, shares, strict=True)]
    if m > 1:
        lines += ["", _line("Sum of V(G)/Vp", found["h2"][0], _se(t, "h2"))]
    if t.liability is not None:
        c = t.liability.factor
        lines += [
            "The estimate of variance explained on the observed scale is transformed to that on the underlying scale:",
            f"(Proportion of cases in the sample = {t.liability.cases:.6f}; User-specified disease prevalence = "
            f"{t.liability.prevalence:.6f})",
        ]
        lines += [_line(f"V({g})/Vp_L", c * found[q][0], c * _se(t, q)) for g, q in zip(names, shares, strict=True)]
        if m > 1:
            lines += ["", _line("Sum of V(G)_L/Vp", c * found["h2"][0], c * _se(t, "h2"))]
    if t.test is not None:
        dropped = 0.5 * (t.n - (t.n_fixed if t.criterion != "ml" else 0)) * math.log(2.0 * math.pi)
        lines += [
            f"logL\t{t.loglik + dropped:.3f}",
            f"logL0\t{t.loglik0 + dropped:.3f}",
            f"LRT\t{t.test.statistic:.3f}",
            f"df\t{t.test.df}",
            f"Pval\t{0.5 * float(chdtrc(t.test.df, t.test.statistic)):.4e}",
        ]
    return "\n".join([*lines, f"n\t{t.n}"]) + "\n"


def _line(name: str, value: float, se: float) -> str:
    return f"{name}\t{value:.6f}\t{se:.6f}"


def _se(t: Trait, quantity: str) -> float:
    """By average information of all parameters, at the boundary too; by what there is for other methods."""
    _, g = t.quantities()[quantity]
    cov = t.covariance() if t.unconstrained is None else t.unconstrained
    return float(np.sqrt(max(g @ cov @ g, 0.0))) if np.isfinite(cov[g != 0][:, g != 0]).all() else math.nan
