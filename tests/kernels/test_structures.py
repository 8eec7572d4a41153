"""Residual and covariance structures: ℓ is the normal density of a V written out by hand, derivatives are differences.

V is built here entry by entry from the natural parameters, by each structure's definition (MATH §9), with loops and
without anything of the package; two kernels (blocks, and all rows as one block) must agree with it.
"""
# ruff: noqa: E501 - a table of structures, one a line

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import vcbench as vc
from vcbench.kernels import build


def unbalanced(seed: int = 3, n_subjects: int = 12) -> pd.DataFrame:
    """12 subjects at up to 5 visits, rows shuffled, some missing; a covariate, a sex, unequal days, a weight."""
    rng = np.random.default_rng(seed)
    rows = [(f"s{i}", v, "mf"[i % 2]) for i in range(n_subjects) for v in range(1, 6) if rng.random() < 0.8 or v < 3]
    d = pd.DataFrame(rows, columns=["subject", "visit", "sex"]).sample(frac=1.0, random_state=seed)
    d["label"] = [f"v{v}" for v in d.visit]
    d["day"] = d.visit.map({1: 0.0, 2: 0.7, 3: 2.0, 4: 3.1, 5: 5.5})
    d["x"], d["w"] = rng.normal(size=len(d)), rng.uniform(0.5, 3.0, len(d))
    d["y"] = rng.normal(10.0, 2.0, len(d))
    return d.reset_index(drop=True)


def field(seed: int = 5) -> pd.DataFrame:
    """A field of 5 × 6 plots with two of them lost."""
    rng = np.random.default_rng(seed)
    d = pd.DataFrame([(r, c) for r in range(1, 6) for c in range(1, 7)], columns=["row", "col"]).drop([7, 20])
    d["gen"] = rng.choice(list("abcd"), len(d))
    d["y"] = rng.normal(5.0, 1.0, len(d))
    return d.sample(frac=1.0, random_state=seed).reset_index(drop=True)


LONG = ("subject", unbalanced)
MANY = ("subject", lambda: unbalanced(n_subjects=30))  # all correlations free: with 12 ℓ has no maximum
PLOT = (None, field)


def lag(d, i, j):
    return abs(int(d.visit[i]) - int(d.visit[j]))


def sd(p, d, i, column="label"):
    return np.sqrt(p[f"residual:var({d[column][i]})"])


def ante(p, d, i, j):
    a, b = sorted((int(d.visit[i]), int(d.visit[j])))
    return np.prod([p[f"residual:rho{k}"] for k in range(a, b)])


def unstructured(p, d, i, j, within=""):
    a, b = sorted((d.label[i], d.label[j]))
    return p[f"residual:var({a}{within})"] if a == b else p[f"residual:cov({a},{b}{within})"]


def banded(p, d, i, j, order):
    return p["residual:var"] * (
        1.0 if lag(d, i, j) == 0 else p[f"residual:rho{lag(d, i, j)}"] if lag(d, i, j) <= order else 0.0
    )


# structure, data, natural parameters strictly inside, entry (i, j) of R for rows of one unit
CASES = {
    "cs(group=subject)": (LONG, [2.0, -0.15], lambda p, d, i, j: p["residual:var"] * (1 if i == j else p["residual:rho"])),
    "csh(label, group=subject)": (LONG, [1, 2, 3, 2, 1.5, 0.3], lambda p, d, i, j: sd(p, d, i) * sd(p, d, j) * (1 if i == j else p["residual:rho"])),
    "un(label, group=subject)": (LONG, [3, 0.5, 0.4, 0.3, 0.1, 2, 0.6, -0.2, 0.1, 4, 0.5, 0.2, 2.5, 0.7, 3.5], unstructured),
    "un_cor(label, group=subject)": (
        MANY,
        [2.0, 0.3, 0.2, 0.1, -0.2, 0.4, -0.3, 0.2, 0.1, 0.3, -0.1],
        lambda p, d, i, j: p["residual:var"] * (1.0 if d.label[i] == d.label[j] else p["residual:cor({},{})".format(*sorted((d.label[i], d.label[j])))]),
    ),
    "toeplitz(visit, group=subject)": (LONG, [2.0, 0.5, 0.2, -0.1, 0.05], lambda p, d, i, j: banded(p, d, i, j, 4)),
    "toeplitz_h(label, group=subject)": (LONG, [1, 2, 3, 2, 1.5, 0.5, 0.2, -0.1, 0.05], lambda p, d, i, j: sd(p, d, i) * sd(p, d, j) * (1 if i == j else p[f"residual:rho{lag(d, i, j)}"])),
    "banded(2, visit, group=subject)": (LONG, [2.0, 0.3, -0.15], lambda p, d, i, j: banded(p, d, i, j, 2)),
    "ma(2, visit, group=subject)": (LONG, [2.0, 0.45, 0.2], lambda p, d, i, j: banded(p, d, i, j, 2)),
    "ar1(visit, group=subject)": (LONG, [2.0, -0.6], lambda p, d, i, j: p["residual:var"] * p["residual:rho"] ** lag(d, i, j)),
    "ar1(day, group=subject)": (LONG, [2.0, 0.6], lambda p, d, i, j: p["residual:var"] * p["residual:rho"] ** abs(d.day[i] - d.day[j])),
    "ar1h(label, group=subject)": (LONG, [1, 2, 3, 2, 1.5, -0.4], lambda p, d, i, j: sd(p, d, i) * sd(p, d, j) * p["residual:rho"] ** lag(d, i, j)),
    "arma11(visit, group=subject)": (LONG, [2.0, 0.7, -0.1], lambda p, d, i, j: p["residual:var"] * (1 if i == j else p["residual:gamma"] * p["residual:rho"] ** (lag(d, i, j) - 1))),
    "ante1(label, group=subject)": (LONG, [1, 2, 3, 2, 1.5, 0.5, -0.3, 0.2, 0.7], lambda p, d, i, j: sd(p, d, i) * sd(p, d, j) * ante(p, d, i, j)),
    "exponential(day, group=subject)": (LONG, [2.0, 1.7], lambda p, d, i, j: p["residual:var"] * np.exp(-abs(d.day[i] - d.day[j]) / p["residual:range"])),
    "gaussian(day, group=subject)": (LONG, [2.0, 1.2], lambda p, d, i, j: p["residual:var"] * np.exp(-(((d.day[i] - d.day[j]) / p["residual:range"]) ** 2))),
    "by(sex)": (LONG, [1.0, 3.0], lambda p, d, i, j: sd(p, d, i, "sex") ** 2 * (i == j)),
    "by(sex, ar1(visit, group=subject))": (LONG, [1.0, 3.0, 0.5], lambda p, d, i, j: sd(p, d, i, "sex") * sd(p, d, j, "sex") * p["residual:rho"] ** lag(d, i, j)),
    "by(sex, ar1(visit, group=subject), separate=True)": (LONG, [1.0, 0.3, 3.0, -0.5], lambda p, d, i, j: p[f"residual:var({d.sex[i]})"] * p[f"residual:rho({d.sex[i]})"] ** lag(d, i, j)),
    "weights(w) * ar1(visit, group=subject)": (LONG, [2.0, 0.5], lambda p, d, i, j: p["residual:var"] * p["residual:rho"] ** lag(d, i, j) / np.sqrt(d.w[i] * d.w[j])),
    "ar1(visit, group=subject) + nugget()": (LONG, [2.0, 0.7, 0.5], lambda p, d, i, j: p["residual:var"] * p["residual:rho"] ** lag(d, i, j) + p["residual:nugget"] * (i == j)),
    "ar1(row) * ar1(col)": (PLOT, [1.5, 0.6, -0.3], lambda p, d, i, j: p["residual:var"] * p["residual:rho_row"] ** abs(d.row[i] - d.row[j]) * p["residual:rho_col"] ** abs(d.col[i] - d.col[j])),
    "ma(1, row) * ma(1, col) + nugget": (PLOT, [1.5, 0.3, -0.4, 0.2], lambda p, d, i, j: p["residual:var"] * {0: 1, 1: p["residual:rho1_row"]}.get(abs(d.row[i] - d.row[j]), 0) * {0: 1, 1: p["residual:rho1_col"]}.get(abs(d.col[i] - d.col[j]), 0) + p["residual:nugget"] * (i == j)),
    "exponential(row, col)": (PLOT, [1.5, 2.0], lambda p, d, i, j: p["residual:var"] * np.exp(-np.hypot(d.row[i] - d.row[j], d.col[i] - d.col[j]) / p["residual:range"])),
    "by(row) * ar1(col)": (PLOT, [1, 2, 1.5, 0.7, 2.5, 0.4], lambda p, d, i, j: (d.row[i] == d.row[j]) * sd(p, d, i, "row") ** 2 * p["residual:rho_col"] ** abs(d.col[i] - d.col[j])),
}  # fmt: skip


class Rows(dict):
    """Columns as lists, by item and by attribute: the loops below read them millions of times."""

    __getattr__ = dict.__getitem__


def built(text: str, random: str = ""):
    (group, make), natural, entry = CASES[text]
    d = make()
    fixed = "y ~ x" if group else "y ~ 1"
    model = vc.Model.from_formula(fixed + random, d, residual=text)
    theta = np.array([*([1.3] if random else []), *natural], float)
    d = Rows({name: d[name].tolist() for name in d.columns})
    assert len(theta) == model.n_theta, model.theta_names
    V = covariance(d, model, theta, group, entry)
    y = 10.0 + np.linalg.cholesky(V) @ np.random.default_rng(11).standard_normal(len(V))
    return d, model.replace(y=y), theta, group, entry


def covariance(d, model, theta, group, entry):
    """V by the definitions."""
    p, n = dict(zip(model.theta_names, theta.tolist(), strict=True)), model.n_obs
    V = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            if group is None or d[group][i] == d[group][j]:
                V[i, j] = V[j, i] = entry(p, d, i, j)
    for c in model.components:
        V += theta[0] * np.equal.outer(c.codes, c.codes)
    return V


def density(y, X, V, reml):
    T = np.linalg.inv(V)
    A = X.T @ T @ X
    beta = np.linalg.solve(A, X.T @ T @ y)
    out = multivariate_normal(X @ beta, V).logpdf(y)
    return out + (0.5 * (X.shape[1] * np.log(2 * np.pi) - np.linalg.slogdet(A)[1]) if reml else 0.0)


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("with_random", [False, True])
@pytest.mark.parametrize("text", CASES)
def test_loglik__is_the_normal_density_by_two_kernels(text, with_random, criterion):
    random = (" + (1 | sex)" if CASES[text][0][0] else " + (1 | gen)") if with_random else ""
    d, model, theta, group, entry = built(text, random)
    expected = density(model.y, model.X, covariance(d, model, theta, group, entry), criterion == "reml")
    for kernel in ("grouped", "dense"):
        assert build(model, kernel).evaluate(theta, criterion=criterion).loglik == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("text", CASES)
def test_derivatives__are_differences_and_traces(text, criterion):
    """Score and observed information by central differences; expected ½tr(TV_jTV_k), average ½yᵀPV_jPV_kPy in natural θ."""
    d, model, theta, group, entry = built(text, " + (1 | sex)" if CASES[text][0][0] else "")
    kernel = build(model, "grouped" if group else "dense")
    at = kernel.evaluate(theta, ("score", "observed"), criterion)
    step = 1e-5 * np.eye(len(theta))

    def ask(at):
        return kernel.evaluate(at, ("score",), criterion)

    slope = [(ask(theta + h).loglik - ask(theta - h).loglik) / 2e-5 for h in step]
    np.testing.assert_allclose(at.score, slope, rtol=1e-6, atol=1e-6)
    bend = [-(ask(theta + h).score - ask(theta - h).score) / 2e-5 for h in step]
    np.testing.assert_allclose(at.observed, bend, rtol=1e-6, atol=1e-6)
    V = covariance(d, model, theta, group, entry)
    D = [
        (covariance(d, model, theta + h, group, entry) - covariance(d, model, theta - h, group, entry)) / 2e-5
        for h in step
    ]
    T = np.linalg.inv(V)
    P = T - T @ model.X @ np.linalg.solve(model.X.T @ T @ model.X, model.X.T @ T)
    K = P if criterion == "reml" else T
    np.testing.assert_allclose(
        at.expected, [[0.5 * np.trace(K @ a @ K @ b) for a in D] for b in D], rtol=1e-6, atol=1e-7
    )
    g = P @ model.y
    np.testing.assert_allclose(at.average, [[0.5 * g @ a @ P @ b @ g for a in D] for b in D], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["em", "px-em", "px-em-component", "ecme"])
@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("text", CASES)
def test_em__ascends_to_the_maximum_of_ai(text, criterion, method):
    _, model, _, _, _ = built(text, " + (1 | sex)" if CASES[text][0][0] and "nugget" not in text else "")
    em = vc.fit(model, method, criterion, max_iter=30, start="unit")
    path = em.trace["loglik"].to_numpy()
    assert (np.diff(path) >= -1e-9 * (1 + np.abs(path[1:]))).all()
    assert str(em.status) != "FAILED"
    best = vc.fit(model, "auto", criterion)
    assert em.loglik <= best.loglik + 1e-7 * (1 + abs(best.loglik))
