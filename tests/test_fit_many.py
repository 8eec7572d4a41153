"""Many responses at once are the fits one by one: estimates, standard errors, endings, counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import GROUPED, KINDS, SPECTRAL, draw_problem, problems

import vcbench as vc
from vcbench import METHODS, Status
from vcbench.errors import DataError, MethodError
from vcbench.solvers.registry import ACCELERATIONS
from vcbench.solvers.run import CHECK_EVERY

PAIRS = [
    (name, criterion)
    for name, method in METHODS.items()
    if method.kind == "solver"
    for criterion in method.criteria
    if name != "lbfgs"
]
PLAIN = [pair for pair in PAIRS if pair[0] not in ACCELERATIONS]  # an extrapolation multiplies the last bits
SECOND = ("auto", "ai", "newton", "fisher")


def responses(p, seed=1):
    """At the truth; without random effects, where a variance of 0 is likely; in other units."""
    rng = np.random.default_rng(seed)
    none = np.append(np.zeros(p.model.n_theta - 1), p.truth[-1])
    at_truth, flat = p.draw_y(rng, 2), p.draw_y(rng, 2, none)
    return np.column_stack([at_truth, flat, 1e3 * at_truth[:, 0], 1e-4 * flat[:, 0]])


def check_same(many, one_by_one, rel=1e-10, accelerated=False):
    """rel of the estimate or its standard error, whichever is larger.

    An accelerated EM multiplies the last bits by the length of its leaps: the stop rule, looked at every tenth
    iteration, may tip once, and then both ends are within tol = 1e-6 standard errors of the maximum.
    """
    assert len(many) == len(one_by_one)
    assert many.status == [f.status for f in one_by_one]
    if accelerated and many.n_iter.tolist() != [f.n_iter for f in one_by_one]:
        assert (np.abs(many.n_iter - [f.n_iter for f in one_by_one]) <= CHECK_EVERY).all()
        rel = 2e-6
    else:
        assert many.n_iter.tolist() == [f.n_iter for f in one_by_one]
        assert many.n_eval.tolist() == [f.n_eval for f in one_by_one]
    for i, f in enumerate(one_by_one):
        assert f.status is Status.MAX_ITER or many.message[i] == f.message  # its message holds rounded digits
        with np.errstate(invalid="ignore"):
            for got, want, se in (
                (many.theta[i], f.theta_values, f.theta_se.to_numpy()),
                (many.beta[i], f.beta_values, f.beta_se.to_numpy()),
                (many.theta_se[i], f.theta_se.to_numpy(), f.theta_se.to_numpy()),
                (many.beta_se[i], f.beta_se.to_numpy(), f.beta_se.to_numpy()),
            ):
                assert (np.isnan(got) == np.isnan(want)).all()
                size = np.abs(np.nan_to_num(want)) + np.nan_to_num(se)
                assert (np.abs(np.nan_to_num(got - want)) <= rel * size).all(), (got, want)
        assert many.loglik[i] == pytest.approx(f.loglik, rel=rel, abs=rel, nan_ok=True)


@given(problems(GROUPED + SPECTRAL), st.sampled_from(PLAIN))
def test_fit_many__equals_fits_one_by_one(p, pair):
    """The responses are reduced by another product of the same matrices: the start differs in its last bits, and 12
    steps of an EM towards a singular Ω may carry that to 1e-10, hundreds of steps further."""
    method, criterion = pair
    Y = responses(p)
    options = {} if method in SECOND else {"max_iter": 12}
    many = vc.fit_many(p.model, Y, method, criterion, **options)
    check_same(many, [vc.fit(p.model.replace(y=Y[:, j]), method, criterion, **options) for j in range(Y.shape[1])])


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kind", ["one-way", "K"])
def test_fit_many__equals_fits_one_by_one_to_the_end(kind, pair):
    method, criterion = pair
    p = draw_problem(kind, 9, 6, seed=21)
    Y = responses(p)
    many = vc.fit_many(p.model, Y, method, criterion, max_iter=2000)
    leaps = method in ACCELERATIONS
    one_by_one = [vc.fit(p.model.replace(y=y), method, criterion, max_iter=2000) for y in Y.T]
    check_same(many, one_by_one, rel=1e-7 if leaps else 1e-9, accelerated=leaps)


def test_fit_many__meets_boundaries_and_says_so():
    p = draw_problem("one-way", 6, 4, zero=True, seed=5)
    Y = responses(p)
    many = vc.fit_many(p.model, Y)
    assert Status.AT_BOUNDARY in many.status
    assert Status.CONVERGED in many.status
    at = [s is Status.AT_BOUNDARY for s in many.status]
    assert (many.theta[at, 0] == 0).all()
    assert np.isnan(many.theta_se[at, 0]).all()
    assert np.isfinite(many.theta_se[:, 1]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["auto", "lbfgs", "moments"])
def test_fit_many__equals_fits_one_by_one_for_every_structure(kind, method):
    p = draw_problem(kind, seed=8, offset=True)
    Y = responses(p)[:, :5]
    check_same(vc.fit_many(p.model, Y, method), [vc.fit(p.model.replace(y=y), method) for y in Y.T])


@pytest.mark.parametrize("kernel", ["dense", "grouped"])
def test_fit_many__takes_the_options_of_fit(kernel):
    p = draw_problem("slope-un", 8, 5, seed=3)
    Y = responses(p)[:, :3]
    start = {"residual:var": 2.0 * p.truth[-1]}
    for options in ({"start": "unit"}, {"start": start}, {"tol": 1e-2}, {"max_iter": 1}, {"max_iter": 0}):
        many = vc.fit_many(p.model, Y, "fisher", "ml", kernel=kernel, **options)
        check_same(many, [vc.fit(p.model.replace(y=y), "fisher", "ml", kernel=kernel, **options) for y in Y.T])


def test_fit_many__a_row_is_a_fit():
    p = draw_problem("slope-un", 8, 5, seed=3, offset=True)
    Y = responses(p)[:, :4]
    many = vc.fit_many(p.model, Y)
    for i in (0, 1, -1):
        one, want = many[i], vc.fit(p.model.replace(y=Y[:, i]))
        assert (one.model.y == Y[:, i]).all()
        assert one.theta.to_dict() == pytest.approx(want.theta.to_dict(), rel=1e-10)
        assert one.theta_se.to_dict() == pytest.approx(want.theta_se.to_dict(), rel=1e-8, nan_ok=True)
        assert one.ranef()["g"].to_numpy() == pytest.approx(want.ranef()["g"].to_numpy(), rel=1e-8)
        assert one.predict() == pytest.approx(want.predict(), rel=1e-8)
        assert one.aic == pytest.approx(want.aic)
        assert vc.Fit.from_json(one.to_json()).theta_values.tolist() == one.theta_values.tolist()
    assert [f.loglik for f in many] == many.loglik.tolist()
    with pytest.raises(IndexError):
        many[4]


def test_fit_many__frame_has_a_row_a_response():
    p = draw_problem("one-way", seed=3)
    many = vc.fit_many(p.model, responses(p))
    frame = many.frame
    assert len(frame) == len(many) == 6
    assert list(frame.columns) == [*p.model.theta_names, *p.model.X_names, "loglik", "status", "n_iter"]
    assert (frame[list(p.model.theta_names)].to_numpy() == many.theta).all()


def test_fit_many__keeps_paths_when_asked():
    p = draw_problem("one-way", seed=3)
    Y = responses(p)[:, :3]
    many = vc.fit_many(p.model, Y, "em", trace=True)
    for i in range(3):
        trace = many[i].trace
        assert len(trace) == many.n_iter[i] + 1
        assert trace["loglik"].iloc[-1] == pytest.approx(many.loglik[i], rel=1e-12)
        assert trace["loglik"].is_monotonic_increasing or trace["loglik"].diff().min() > -1e-9
    assert len(vc.fit_many(p.model, Y, "em")[0].trace) == 0


def test_fit_many__no_response_is_no_fit():
    p = draw_problem("one-way", seed=3)
    assert len(vc.fit_many(p.model, np.empty((p.model.n_obs, 0)))) == 0


def test_fit_many__leaves_the_model_as_it_was():
    p = draw_problem("one-way", seed=3)
    before = vc.fit(p.model).loglik
    vc.fit_many(p.model, responses(p))
    assert vc.fit(p.model).loglik == before


def bad_column(value):
    Y = np.random.default_rng(1).normal(size=(24, 3))
    Y[4 if np.ndim(value) == 0 else slice(None), 1] = value
    return Y


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (np.ones((5, 2)), r"Y has shape \(5, 2\); it must be \(24, R\): one column a response"),
        (np.arange(24.0), r"Y has shape \(24,\)"),
        (bad_column(np.nan), "column 1 of Y: y is nan in row 4"),
        (bad_column(np.inf), "column 1 of Y: y is inf in row 4"),
        (bad_column(np.full(24, 2.0)), r"column 1 of Y: y is constant \(2 in all 24 rows\)"),
    ],
)
def test_fit_many__bad_responses_are_named_before_any_fit(Y, message):
    p = draw_problem("one-way", 6, 4, seed=3)
    for method in ("auto", "moments", "lbfgs"):
        with pytest.raises(DataError, match=message):
            vc.fit_many(p.model, Y, method)


def test_fit_many__a_start_for_beta_is_refused():
    p = draw_problem("one-way", 6, 4, seed=3)
    with pytest.raises(MethodError, match="names variance parameters only"):
        vc.fit_many(p.model, responses(p), "em", "ml", start={"(Intercept)": 3.0})
