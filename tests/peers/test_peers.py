"""Other programs as methods: their answers are ours to their own precision, and what they cannot do is said.

Every program is an oracle of every other here; those that are not installed are skipped. R takes half a second to a
second to start, so that what one process can answer is asked of one.
"""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.methods import METHODS
from vcbench.status import Status

DATA = Path(__file__).resolve().parents[2] / "models" / "data"
CLASSICS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "dyestuff": "Yield ~ 1 + (1 | Batch)",
    "penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    "oats": "yield ~ nitro + (1 | Block/Variety)",
}
SLOW = pytest.mark.slow
THETA, LOGLIK = 1e-4, 1e-6  # what optimisers of ℓ without derivatives leave: √(1e-8 of ℓ), and ℓ
PRECISION = {  # of θ, relative, where it is not THETA: finite-difference optimisers that stop sooner
    "nlme": 5e-4, "statsmodels": 2e-3,
}  # fmt: skip


def _r_has(package: str) -> bool:
    program = shutil.which("Rscript")
    if program is None:
        return False
    asked = ["-e", f"quit(status = !nzchar(system.file(package = '{package}')))"]
    return subprocess.run([program, "--vanilla", *asked], capture_output=True).returncode == 0


THERE = {
    **{name: _r_has(name) for name in ("lme4", "nlme")},
    "gemma": shutil.which("gemma") is not None,
    **{name: importlib.util.find_spec(name) is not None for name in ("statsmodels", "glmm", "mixedlm")},
}


def need(name: str) -> None:
    if not THERE[name]:
        pytest.skip(f"{name} is not installed")


def classic(name: str) -> vc.Model:
    data = pd.read_csv(DATA / f"{name}.csv")
    for column in ("Subject", "Block"):
        if column in data:
            data[column] = data[column].astype(str)
    return vc.Model.from_formula(CLASSICS[name.rstrip("2")], data)


def check_same(theirs: vc.Fit, ours: vc.Fit, method: str) -> None:
    assert theirs.status is ours.status is Status.CONVERGED, theirs.message
    assert theirs.theta.to_numpy() == pytest.approx(ours.theta.to_numpy(), rel=PRECISION.get(method, THETA))
    assert theirs.beta.to_numpy() == pytest.approx(ours.beta.to_numpy(), rel=1e-5)
    assert theirs.beta_se.to_numpy() == pytest.approx(ours.beta_se.to_numpy(), rel=5e-4)
    assert theirs.loglik == pytest.approx(ours.loglik, abs=LOGLIK)
    if method == "lme4":  # central differences of its deviance against our exact observed information
        assert theirs.theta_se.to_numpy() == pytest.approx(ours.theta_se.to_numpy(), rel=1e-3)
    assert list(theirs.theta.index) == list(ours.theta.index)
    assert theirs.cpu_seconds > 0
    assert theirs.extra["program"] == method
    assert theirs.extra["version"]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(method, name, marks=[SLOW] if method == "lme4" and name in ("dyestuff", "oats") else [])
        for method in ("lme4", "nlme", "statsmodels", "glmm", "mixedlm")
        for name in CLASSICS
    ],
)
def test_classics__every_program_gives_our_reml_answer(method, name):
    need(method)
    model = classic(name)
    check_same(vc.fit(model, method), vc.fit(model), method)


@pytest.mark.parametrize("method", ["lme4", "nlme", "statsmodels", "glmm", "mixedlm"])
def test_maximum_likelihood__uncorrelated_slopes_and_a_batch(method):
    """Two terms on one factor, by ML; three responses in one call are those of three calls."""
    need(method)
    data = pd.read_csv(DATA / "sleepstudy.csv").astype({"Subject": str})
    random = "(1 | Subject)" if method == "glmm" else "(Days || Subject)"  # glmm has no slope without its intercept
    model = vc.Model.from_formula(f"Reaction ~ Days + {random}", data)
    Y = model.y[:, None] + 15 * np.random.default_rng(4).standard_normal((180, 3))
    Y[:, 0] = model.y
    many = vc.fit_many(model, Y, method, "ml")
    for fit, y in zip(many, Y.T, strict=True):
        check_same(fit, vc.fit(model.replace(y=y), criterion="ml"), method)
    alone = vc.fit(model.replace(y=Y[:, 2]), method, "ml")
    assert np.array_equal(alone.theta_values, many.theta[2])
    assert alone.loglik == many.loglik[2]


def test_nlme__standard_errors_of_variances_by_apvar():
    """nlme's finite differences are good where no correlation is near 0: Oats, relative 1e-3."""
    need("nlme")
    model = classic("oats")
    assert vc.fit(model, "nlme").theta_se.to_numpy() == pytest.approx(vc.fit(model).theta_se.to_numpy(), rel=1e-3)


def test_inference__on_a_programs_maximum_is_that_on_ours():
    """Profile limits, tests and predictions need a maximum, not our way to it."""
    need("nlme")
    model = classic("dyestuff")
    fit, ours = vc.fit(model, "nlme"), vc.fit(model)
    assert fit.confint("profile")["upper"].to_numpy() == pytest.approx(ours.confint("profile")["upper"], rel=1e-3)
    assert fit.test_fixed()["se"].to_numpy() == pytest.approx(ours.test_fixed()["se"], rel=1e-4)
    assert fit.ranef()["Batch"].to_numpy() == pytest.approx(ours.ranef()["Batch"].to_numpy(), rel=1e-4)
    assert "profile likelihood" in fit.summary()


@pytest.mark.parametrize("method", ["lme4", "nlme", "statsmodels", "glmm", "mixedlm"])
def test_singular_fits__are_at_the_boundary(method):
    """Dyestuff2: variance 0, and no standard error of it."""
    need(method)
    model = classic("dyestuff2")
    fit, ours = vc.fit(model, method), vc.fit(model)
    assert fit.status is Status.AT_BOUNDARY
    assert fit.theta.iloc[0] < 1e-5 * fit.theta.iloc[1]
    if method != "statsmodels":  # which prints 1.235 here
        assert np.isnan(fit.theta_se.iloc[0])
    assert fit.loglik == pytest.approx(ours.loglik, abs=1e-6)
    assert fit.message


def test_a_failing_fit__fails_alone_with_the_programs_words():
    """lme fails on a response without noise; its neighbours in the batch stand."""
    need("nlme")
    model = classic("sleepstudy")
    Y = np.column_stack([model.y, 3 + 2 * model.X[:, 1], model.y])
    many = vc.fit_many(model, Y, "nlme")
    assert many.status == [Status.CONVERGED, Status.FAILED, Status.CONVERGED]
    assert "convergence" in many.message[1]
    assert np.isnan(many.theta[1]).all()
    assert np.array_equal(many.theta[0], many.theta[2])


@pytest.mark.parametrize("method", [pytest.param("lme4", marks=SLOW), "nlme", "mixedlm"])
def test_names__with_spaces_and_colons_come_back_as_ours(method):
    need(method)
    rng = np.random.default_rng(6)
    lab = np.repeat([f"lab {i}: north, 100 %" for i in range(8)], 12)
    dose = pd.Categorical(np.tile(["0 mg", "5:mg (a)", "10 'mg'"], 32), ["0 mg", "5:mg (a)", "10 'mg'"])
    y = np.repeat(rng.standard_normal(8), 12) + np.tile([0.0, 1.0, 2.0], 32) + rng.standard_normal(96)
    slope = rng.standard_normal(96)
    model = vc.Model.from_formula(
        "y ~ `the dose` + x + (1 + x | `the lab`)", {"y": y, "the lab": lab, "the dose": dose, "x": slope}
    )
    fit, ours = vc.fit(model, method), vc.fit(model)
    assert list(fit.beta.index) == list(ours.beta.index)
    assert "5:mg (a)" in fit.beta.index[1]
    assert fit.loglik == pytest.approx(ours.loglik, abs=1e-4)
    assert fit.theta.to_numpy() == pytest.approx(ours.theta.to_numpy(), rel=2e-2, abs=2e-3)  # at a flat maximum
    assert fit.beta.to_numpy() == pytest.approx(ours.beta.to_numpy(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("method", [pytest.param("lme4", marks=SLOW), "nlme", "statsmodels", "mixedlm"])
def test_three_effects__covariances_are_not_mixed_up(method):
    """Ω of three effects has an order by row and one by column; all six entries differ."""
    need(method)
    rng = np.random.default_rng(12)
    group, A = np.repeat(np.arange(60), 8), rng.standard_normal((480, 3))
    L = np.array([[1.5, 0, 0], [0.8, 1.2, 0], [-0.6, 0.4, 0.9]])
    y = (A * (rng.standard_normal((60, 3)) @ L.T)[group]).sum(axis=1) + 0.5 * rng.standard_normal(480)
    model = vc.Model(y, components=[vc.Component(A, name="g", group=group, columns=["a", "b", "c"])])
    fit, ours = vc.fit(model, method), vc.fit(model)
    assert fit.loglik == pytest.approx(ours.loglik, abs=1e-5)
    assert fit.theta.to_numpy() == pytest.approx(ours.theta.to_numpy(), rel=2e-3, abs=2e-3)


def _related(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    G = rng.integers(0, 3, (n, 300)).astype(float)
    K = (G - G.mean(axis=0)) @ (G - G.mean(axis=0)).T / 300
    X = np.column_stack([np.ones(n), rng.standard_normal(n)])
    u = np.linalg.cholesky(K + 1e-9 * np.eye(n)) @ rng.standard_normal(n)
    return X @ [1.0, 0.5] + u + rng.standard_normal(n), X, K


@pytest.mark.parametrize("method", ["lme4", "nlme", "statsmodels", "gemma"])
def test_arrays__a_relationship_matrix_and_an_offset(method):
    """V = σ_a² K + σ² I from arrays, y less a known offset. GEMMA prints six digits, statsmodels' β SEs are its own."""
    need(method)
    y, X, K = _related()
    offset = np.linspace(0, 3, len(y))
    model = vc.Model(y + offset, X, components=[vc.Component(K=K, name="a")], offset=offset)
    fit, ours = vc.fit(model, method), vc.fit(model)
    assert fit.status is Status.CONVERGED
    assert fit.theta.to_numpy() == pytest.approx(ours.theta.to_numpy(), rel=PRECISION.get(method, THETA))
    assert fit.beta.to_numpy() == pytest.approx(ours.beta.to_numpy(), rel=1e-4)
    assert fit.loglik == pytest.approx(ours.loglik, abs=6e-4 if method == "gemma" else LOGLIK)
    if method in ("lme4", "gemma"):
        assert fit.beta_se.to_numpy() == pytest.approx(ours.beta_se.to_numpy(), rel=1e-4)


def test_lme4__known_weights_and_more_columns_than_rows():
    """weights(w) are lme4's; a Z of 90 columns for 60 rows is passed as a root of ZZᵀ."""
    need("lme4")
    y, X, _ = _related()
    rng = np.random.default_rng(2)
    Z = rng.standard_normal((60, 90)) / 9
    model = vc.Model(
        y + 2 * Z @ rng.standard_normal(90), X, components=[vc.Component(Z, name="z")],
        residual=vc.residual.weights(rng.uniform(0.5, 2, 60)),
    )  # fmt: skip
    check_same(vc.fit(model, "lme4"), vc.fit(model), "lme4")


RESIDUALS = (
    "ar1(Days, group=Subject)", "cs(group=Subject)", "by(half)", "by(half, ar1(Days, group=Subject))",
    "arma11(Days, group=Subject)", "ma(2, Days, group=Subject)", "exponential(Days, group=Subject)",
    "csh(half, group=Subject)", "un(three, group=block)", "un_cor(three, group=block)", "weights(w)",
)  # fmt: skip


def _sleep() -> pd.DataFrame:
    data = pd.read_csv(DATA / "sleepstudy.csv").astype({"Subject": str})
    data["half"] = np.where(data["Days"] < 5, "early", "late")
    data = data[data["Days"] < 9].copy()
    data["three"] = (data["Days"] % 3).map("d{}".format)
    data["block"] = data["Subject"] + "/" + (data["Days"] // 3).astype(str)
    data["w"] = np.random.default_rng(3).uniform(0.5, 2, len(data))
    return data


@pytest.mark.parametrize("residual", RESIDUALS[:1] + tuple(pytest.param(r, marks=SLOW) for r in RESIDUALS[1:]))
@pytest.mark.parametrize("random", ["", pytest.param(" + (1 | Subject)", marks=SLOW)])
def test_nlme__residual_structures(residual, random):
    """gls, and lme with an intercept for each subject: θ and ℓ are ours."""
    need("nlme")
    if random and residual.startswith("cs"):
        pytest.skip("an intercept for each subject beside a common correlation within it is one parameter too many")
    model = vc.Model.from_formula(f"Reaction ~ Days{random}", _sleep(), residual=residual)
    fit, ours = vc.fit(model, "nlme"), vc.fit(model)
    assert fit.loglik == pytest.approx(ours.loglik, abs=1e-6)
    assert fit.theta.to_numpy() == pytest.approx(ours.theta.to_numpy(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("method", "formula", "residual", "why"),
    [
        ("lme4", "Reaction ~ Days + (1 | Subject)", "ar1(Days, group=Subject)", "independent residuals only"),
        ("lme4", "Reaction ~ Days", None, "needs a random term"),
        ("nlme", "Reaction ~ Days + (Days | Subject) + (1 | half)", None, "factors that cross have one variance"),
        ("nlme", "Reaction ~ Days", "toeplitz(Days, group=Subject)", "no residual structure like Toeplitz"),
        ("nlme", "Reaction ~ Days", "ar1(Days, group=Subject) + nugget", "nugget"),
        ("nlme", "Reaction ~ Days + (1 | block)", "ar1(Days, group=Subject)", "not within its innermost group"),
        ("gemma", "Reaction ~ 0 + Days + (1 | Subject)", None, "intercept"),
        ("gemma", "Reaction ~ Days + (1 | Subject) + (1 | half)", None, "one variance besides"),
    ],
)
def test_what_a_program_cannot_express__is_said(method, formula, residual, why):
    need(method)
    model = vc.Model.from_formula(formula, _sleep(), residual=residual)
    with pytest.raises(MethodError, match=why):
        vc.fit(model, method)


def test_structured_and_tied_components__are_said():
    need("lme4")
    data = _sleep()
    for options, why in (({"cov": {"Subject": "cs()"}}, "covariance `cs`"), ({"equal": [["Subject", "half"]]}, "ties")):
        random = "(Days | Subject)" if "cov" in options else "(1 | Subject) + (1 | half)"
        model = vc.Model.from_formula(f"Reaction ~ Days + {random}", data, **options)
        with pytest.raises(MethodError, match=why):
            vc.fit(model, "lme4")


@pytest.mark.parametrize("method", ["lme4", "nlme", "gemma"])
def test_an_absent_program__is_said_before_any_work(method, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MethodError, match="on the PATH"):
        vc.fit(classic("dyestuff"), method)


@pytest.mark.parametrize("method", ["statsmodels", "glmm", "mixedlm"])
def test_an_absent_package__is_said_before_any_work(method, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, method, None)
    monkeypatch.setitem(__import__("sys").modules, f"{method}.regression.mixed_linear_model", None)
    with pytest.raises(MethodError, match=f"needs the Python package {method}"):
        vc.fit(classic("dyestuff"), method)


def test_a_slow_program__ends_as_timeout():
    need("nlme")
    fit = vc.fit(classic("dyestuff"), "nlme", timeout=1e-3)
    assert fit.status is Status.TIMEOUT
    assert "longer than" in fit.message


SPEC = """
title = "Peers"
question = "Are they there?"
seed = 3
replicates = 5
methods = ["ai", "nlme", { name = "nlme", label = "nlme, toeplitz", data = "b" }]

[[data]]
name = "a"
generator = "one_way"
n_groups = 6
group_size = 4
icc = 0.4
"""


def test_a_study__skips_an_absent_program_with_a_line_and_runs_one_that_is_there(tmp_path, monkeypatch):
    from vcbench.report import agreement
    from vcbench.report.evidence import load
    from vcbench.study.store import read_provenance
    from vcbench.study.study import Study
    from vcbench.study.summary import end_lines, summarise

    text = SPEC.replace(', { name = "nlme", label = "nlme, toeplitz", data = "b" }', ', "gemma"').replace(
        'name = "a"\n', ""
    )
    quiet = {"workers": 1, "progress": "none", "report": False}
    monkeypatch.setenv("PATH", "")
    run = Study.from_text(text, "absent").run(tmp_path / "absent", **quiet)
    rows = run.rows[run.rows["method"] == "gemma"]
    assert set(rows["status"]) == {"SKIPPED"}
    assert rows["message"].str.contains("none on the PATH").all()
    assert rows["estimate"].isna().all()
    assert len(rows) == 5 * 3
    said = [line for line in end_lines(summarise(tmp_path / "absent")) if "skipped:" in line]
    assert said == [
        " nlme was skipped: `nlme` needs R: there is no Rscript on the PATH. Install R and its package nlme.",
        " gemma was skipped: `gemma` needs the program gemma, and there is none on the PATH.",
    ]
    monkeypatch.undo()
    need("nlme")
    rows = Study.from_text(text, "there").run(tmp_path / "there", **quiet).rows
    assert any(" · R version" in record.get("nlme", "") for record in read_provenance(tmp_path / "there"))
    here = rows[rows["parameter"] == "residual:var"].pivot(index="replicate", columns="method", values="estimate")
    np.testing.assert_allclose(here["nlme"], here["ai"], rtol=1e-3)
    evidence = load(tmp_path / "there")
    table = agreement.summarise(agreement.distances(evidence, evidence.conditions[0].id), evidence).set_index("method")
    assert abs(table.loc["nlme", "deficit"]) < 1e-6  # it has one, for it climbs our likelihood
    assert list(table["against"].unique()) == ["reml"]


def test_compare__lists_programs_beside_ours_and_says_what_was_not_run():
    need("nlme")
    model = classic("oats")
    table = vc.compare(model, methods=["ai", "nlme", "gemma"])
    assert list(table.fits) == ["ai", "nlme"]
    text = str(table)
    assert "nlme" in text.splitlines()[1]
    assert "at the same maximum" in text
    assert "not run  gemma" in text
    assert table.agree


def test_registry__has_the_programs_as_peers():
    peers = {name for name, method in METHODS.items() if method.kind == "peer"}
    assert {"lme4", "nlme", "statsmodels", "gemma", "glmm", "mixedlm"} <= peers
    with pytest.raises(MethodError, match="exists under reml only"):
        vc.fit(classic("dyestuff"), "gemma", "ml")
    with pytest.raises(MethodError, match="has no option `optimiser`"):
        vc.fit(classic("dyestuff"), "lme4", optimiser="bobyqa")
