"""Kernel `low_rank`: its sizes, its refusals, its fits. `test_agreement` holds its numbers to the plain formulas."""

import numpy as np
import pytest
from oracle import plain
from strategies import draw_problem

import vcbench as vc
from vcbench import kernels
from vcbench.errors import ModelError


def two_relationship_matrices(n, ranks, rng):
    """K's of low rank, one of them centred, and a random intercept: y drawn with all of them."""
    parts = [rng.normal(size=(n, k)) for k in ranks]
    parts[1] -= parts[1].mean(axis=0)
    group = np.arange(n) % 7
    y = sum(W @ rng.normal(size=W.shape[1]) for W in parts) + rng.normal(size=7)[group] + rng.normal(size=n)
    components = [vc.Component(K=W @ W.T / W.shape[1], name=f"k{j}") for j, W in enumerate(parts)]
    return vc.Model(y, None, [*components, vc.Component(np.ones(n), name="g", group=group)])


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("gamma", [None, np.array([0.3])])
@pytest.mark.parametrize("zero", [(), (0,), (1,), (0, 2)])
def test_low_rank__works_in_the_ranks_of_its_matrices(criterion, gamma, zero, rng):
    """K of rank 12 and 9 at n = 80: q = 28 columns, and the numbers of the dense kernel, inside and at the boundary."""
    model = two_relationship_matrices(80, (12, 10), rng)
    k, dense = kernels.build(model, "low_rank"), kernels.build(model, "dense")
    assert k.R.shape == (12 + 10 + 7, 12 + 10 + 7)
    theta = np.array([1.3, 0.8, 0.6, 0.9])
    theta[list(zero)] = 0.0
    got = k.evaluate(theta, kernels.protocol.NEEDS, criterion, gamma=gamma)
    want = dense.evaluate(theta, kernels.protocol.NEEDS, criterion, gamma=gamma)
    for name in ("loglik", "beta", "score", "expected", "average", "observed", "QtVinvQ"):
        size = np.abs(getattr(want, name)).max()
        assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-8, abs=1e-9 * size), name
    for name in ("F", "Wty", "XtW", "S", "f", "E0", "yty", "logdet"):
        value = getattr(want.moments, name)
        size = max(np.abs(value).max(), np.sqrt(np.trace(want.moments.F)))  # E[W] may vanish, its root mean square not
        assert getattr(got.moments, name) == pytest.approx(value, rel=1e-8, abs=1e-8 * size), name


def test_low_rank__at_the_rows_that_no_effect_reaches_sigma2_counts_alone(rng):
    model = draw_problem("two-Z", 6, 5, seed=3).model
    k = kernels.build(model, "low_rank")
    for sigma2 in (0.0, -1e-3):
        at = k.evaluate(np.array([1.0, 1.0, sigma2]), ("score",))
        assert (at.loglik, at.score) == (-np.inf, None)
    small = np.array([1.0, 1.0, 1e-7])
    want = plain(model, small, "reml")
    assert k.evaluate(small).loglik == pytest.approx(want.loglik, rel=1e-8)


@pytest.mark.parametrize("method", ["ai", "px-em-component", "fisher", "lbfgs"])
def test_fit__by_low_rank_is_the_fit_by_dense(method):
    model = draw_problem("two-Z", 8, 5, seed=11).model
    fits = [vc.fit(model, method, kernel=kernel) for kernel in ("low_rank", "dense")]
    assert [fit.kernel for fit in fits] == ["low_rank", "dense"]
    assert fits[0].loglik == pytest.approx(fits[1].loglik, abs=1e-8)
    assert fits[0].theta.to_numpy() == pytest.approx(fits[1].theta.to_numpy(), rel=1e-5, abs=1e-8)
    ours, theirs = fits[0].ranef(), fits[1].ranef()
    for name in ours:
        assert ours[name].to_numpy() == pytest.approx(theirs[name].to_numpy(), rel=1e-4, abs=1e-6)


def test_build__refuses_columns_as_many_as_observations():
    with pytest.raises(ModelError, match=r"fewer columns than there are observations; here q = \d+ and n = \d+"):
        kernels.build(draw_problem("Z-wide", seed=1).model, "low_rank")


def test_explain__gives_the_size_of_the_space():
    model = draw_problem("two-Z", 6, 5, seed=3).model
    q = sum(c.Z.shape[1] for c in model.components)
    text = model.explain()
    assert text.startswith(f"kernel `low_rank`: several terms with q = {q} columns together")
    assert f"O(q³) ≈ {2 * q**3:,} multiplications" in text
