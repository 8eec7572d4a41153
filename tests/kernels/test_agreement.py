"""Every kernel gives the numbers of the plain multivariate normal, to 1e-8 of their own size, whatever the structure.

Sizes: a score is compared in units of √I_jj (the change of ℓ in one standard error), an information in √(I_ii I_jj).
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import derivatives, incidence, pairs, plain, posterior, relationship
from strategies import COLUMNS, KINDS, RELATED, draw_problem, problems

import vcbench as vc
from vcbench import kernels

REL = 1e-8
EVERY = KINDS + COLUMNS + RELATED
MANY = settings(max_examples=2 * settings.default.max_examples)  # an example costs milliseconds


def near(got, want, size=None):
    """|got − want| ≤ 1e-8·size; the size of an array is its largest entry unless given."""
    want = np.asarray(want)
    size = np.abs(want).max(initial=0.0) if size is None else size
    assert np.all(np.abs(np.asarray(got) - want) <= REL * size), f"{got}\nis not\n{want}"


def check_likelihood(at, want, model):
    assert at.loglik == pytest.approx(want.loglik, rel=REL, abs=REL)
    near(at.beta, want.beta, np.abs(want.beta) + np.sqrt(np.diag(want.beta_cov)))
    unit = np.sqrt(np.diag(want.expected))
    near(at.score, want.score, unit + np.abs(want.score))
    units = np.outer(unit, unit)
    near(at.expected, want.expected, units)
    # yᵀPV_iPV_jPy and what is made of it grow with y far from θ
    wide = units + np.sqrt(np.outer(np.diag(want.average), np.diag(want.average)))
    near(at.average, want.average, wide)
    near(at.observed, want.observed, wide)


@MANY
@given(problems(EVERY))
def test_kernels__agree_with_the_normal_density_and_its_informations(p):
    for name in p.kernels:
        k = kernels.build(p.model, name)
        for criterion in ("ml", "reml"):
            at = k.evaluate(p.theta, kernels.protocol.NEEDS, criterion)
            check_likelihood(at, plain(p.model, p.theta, criterion), p.model)
            T = k.basis.T
            want = plain(p.model, p.theta, criterion).beta_cov
            near(np.linalg.inv(T) @ np.linalg.inv(at.QtVinvQ) @ np.linalg.inv(T).T, want)


@MANY
@given(problems(EVERY))
def test_kernels__agree_at_a_given_beta(p):
    want = plain(p.model, p.theta, "ml", p.beta)
    for name in p.kernels:
        k = kernels.build(p.model, name)
        at = k.evaluate(p.theta, ("score", "expected", "average", "observed"), "ml", beta=p.beta)
        check_likelihood(at, want, p.model)
        # ∂ℓ/∂γ = QᵀV⁻¹r, γ = Tβ: ∂ℓ/∂β = Tᵀ ∂ℓ/∂γ = XᵀV⁻¹r, in units of the information of β
        unit = np.sqrt(np.diag(np.linalg.inv(want.beta_cov)))
        near(k.basis.T.T @ at.score_gamma, want.score_beta, unit + np.abs(want.score_beta))


@MANY
@given(problems(EVERY))
def test_kernels__a_given_beta_means_the_ml_likelihood_under_either_criterion(p):
    """A criterion integrates β or keeps it: with β given there is nothing to integrate."""
    for name in p.kernels:
        k = kernels.build(p.model, name)
        reml, ml = (k.evaluate(p.theta, ("score",), c, beta=p.beta) for c in ("reml", "ml"))
        assert reml.loglik == ml.loglik
        assert (reml.score == ml.score).all()


@MANY
@given(problems(EVERY))
def test_kernels__average_is_half_of_observed_and_expected(p):
    k = kernels.build(p.model)
    for criterion in ("ml", "reml"):
        at = k.evaluate(p.theta, ("expected", "average", "observed"), criterion)
        near(at.average, (at.observed + at.expected) / 2)


def moments_of(model, theta, criterion, beta, basis):
    """The expected statistics of `protocol.Moments` from the posterior of the stacked effects."""
    mean, cov, beta, cov_bu, cov_b = posterior(model, theta, criterion, beta)
    reml = criterion == "reml"
    y = model.y - (0.0 if model.offset is None else model.offset)
    r = y - model.X @ beta
    y0 = y - basis.Q @ (basis.Q.T @ y)
    Zs, slices, comp, at = [], [], [], 0
    for k, c in enumerate(model.components):
        for Z in incidence(c):
            Zs.append(Z)
            slices.append(slice(at, at + Z.shape[1]))
            comp.append(k)
            at += Z.shape[1]
    feats = [(a, b) for a in range(len(Zs)) for b in range(len(Zs)) if comp[a] == comp[b]]
    second = cov + np.outer(mean, mean)
    W = np.column_stack([Zs[a] @ mean[slices[b]] for a, b in feats])
    F = np.array([[np.sum(Zs[a].T @ Zs[c] * second[slices[b], slices[e]]) for c, e in feats] for a, b in feats])
    f = W.T @ r
    E0 = r @ r
    if reml:
        f = f - np.array([np.trace(model.X @ cov_bu[:, slices[b]] @ Zs[a].T) for a, b in feats])
        E0 = E0 + np.trace(model.X.T @ model.X @ cov_b)
    S = np.zeros((len(Zs), len(Zs)))
    for a, c in enumerate(comp):
        for b, e in enumerate(comp):
            if c == e:
                A = relationship(model.components[c], Zs[a].shape[1])
                # the divisor is the rank: uᵀA⁺u has that many terms
                S[a, b] = np.sum(np.linalg.pinv(A, rcond=1e-6, hermitian=True) * second[slices[a], slices[b]])
    V = plain(model, theta, "ml").V
    logdet = np.linalg.slogdet(V)[1] - model.n_obs * np.log(theta[-1])
    return {"features": feats, "F": F, "Wty": W.T @ y0, "XtW": basis.Q.T @ W, "S": S, "yty": y0 @ y0, "f": f, "E0": E0,
            "logdet": logdet}  # fmt: skip


@MANY
@given(problems(EVERY))
def test_kernels__e_step_moments_are_those_of_the_posterior(p):
    for name in p.kernels:
        k = kernels.build(p.model, name)
        for criterion, beta in (("ml", None), ("ml", p.beta), ("reml", None)):
            got = k.evaluate(p.theta, ("moments",), criterion, beta=beta).moments
            want = moments_of(p.model, p.theta, criterion, beta, k.basis)
            assert got.features.tolist() == [list(pair) for pair in want["features"]]
            # E[W] of one feature may vanish: its size is √F_jj, the root mean square of W_j
            size = np.sqrt(np.diag(want["F"]))
            near(got.F, want["F"], np.outer(size, size))
            near(got.Wty, want["Wty"], size * np.sqrt(want["yty"]))
            near(got.XtW, want["XtW"], size)
            near(got.f, want["f"], size * np.sqrt(want["E0"]))
            near([got.yty, got.E0], [want["yty"], want["E0"]], np.array([want["yty"], want["E0"]]))
            assert got.logdet == pytest.approx(want["logdet"], rel=REL, abs=REL)
            at = 0
            for c in p.model.components:
                for a, b in pairs(c):
                    size = np.sqrt(want["S"][at + a, at + a] * want["S"][at + b, at + b])
                    near(got.S[at + a, at + b], want["S"][at + a, at + b], size)
                at += len(c.effects)


@MANY
@given(problems(EVERY))
def test_kernels__blups_are_posterior_means(p):
    mean, *_ = posterior(p.model, p.theta, "ml", p.beta)
    for name in p.kernels:
        at = 0
        blups = kernels.build(p.model, name).blup(p.theta, p.beta)
        for c, u in zip(p.model.components, blups, strict=True):
            r, N = len(c.effects), incidence(c)[0].shape[1]
            want = mean[at : at + r * N].reshape(r, N).T
            assert u.shape == ((N,) if c.is_plain else (N, r))
            near(u.reshape(N, r), want)
            at += r * N


@MANY
@given(problems(EVERY), st.sampled_from([0.0, -0.03, -1.0]))
def test_kernels__without_a_positive_definite_V_the_likelihood_is_minus_infinity(p, share):
    """The residual variance alone does not decide: with a K of full rank V(θ) may be definite at σ² ≤ 0."""
    theta = p.theta.copy()
    theta[-1] *= share
    V = np.tensordot(theta, derivatives(p.model.components, p.model.n_obs), axes=1)
    lowest = np.linalg.eigvalsh(V)[0] / np.linalg.norm(V, 2)
    assume(abs(lowest) > 1e-6)  # not within rounding of singular
    for name in p.kernels:
        at = kernels.build(p.model, name).evaluate(theta, ("score", "expected", "average", "observed"), "reml")
        if lowest > 0 and not (name == "sparse" and theta[-1] <= 0):  # whose M is in units of σ²
            check_likelihood(at, plain(p.model, theta, "reml"), p.model)
        else:
            assert (at.loglik, at.score, at.expected) == (-np.inf, None, None)


@pytest.mark.parametrize("share", [1e-8, 1e-16, 1e-20, 1e-30, 0.0])
def test_moments__where_rounding_leaves_no_posterior_there_is_no_likelihood(share, rng):
    """More effects than rows and σ² → 0: V stays definite, the E-step's precision matrix does not. No crash."""
    K = np.cov(rng.normal(size=(24, 60)))
    group = np.repeat(np.arange(6), 4)
    model = vc.Model(
        rng.normal(size=24), None, [vc.Component(np.ones(24), name="g", group=group), vc.Component(K=K, name="a")]
    )
    theta = np.array([1.0, 1.0, share])
    at = kernels.build(model).evaluate(theta, ("moments",), "reml")
    if at.loglik == -np.inf:
        assert at.moments is None
        assert share < 1e-12
    else:
        want = moments_of(model, theta, "reml", None, kernels.build(model).basis)
        assert np.allclose(at.moments.F, want["F"], rtol=1e-4)


@pytest.mark.parametrize("kernel", ["dense", "spectral"])
def test_moments__do_not_exist_without_residual_variance(kernel):
    p = draw_problem("K", seed=3)
    theta = p.theta * [1.0, 0.0]
    k = kernels.build(p.model, kernel)
    assert np.isfinite(k.evaluate(theta).loglik)
    at = k.evaluate(theta, ("moments",))
    assert (at.loglik, at.moments) == (-np.inf, None)


def test_grouped__padding_and_free_rows_may_cancel():
    """n = B·r, yet some rows see no random effect: their sum of squares counts all the same."""
    p = draw_problem("slope-blocks", 7, 3, n_covariates=0, seed=556437)
    c = p.model.components[0]
    assert p.model.n_obs == len(c.levels) * 3
    assert sorted(np.bincount(c.codes)) == [1, 1, 3, 3, 4, 4, 5]
    got = kernels.build(p.model, "grouped").evaluate(p.theta, ("score",), "ml")
    assert got.loglik == pytest.approx(plain(p.model, p.theta, "ml").loglik, rel=REL)


@MANY
@given(problems(EVERY, zero=True))
def test_kernels__agree_at_a_variance_of_zero(p):
    """At the truth, whose first Ω is 0 or singular: nothing inverts Ω."""
    for name in p.kernels:
        k = kernels.build(p.model, name)
        for criterion in ("ml", "reml"):
            at = k.evaluate(p.truth, kernels.protocol.NEEDS, criterion)
            check_likelihood(at, plain(p.model, p.truth, criterion), p.model)
            want = moments_of(p.model, p.truth, criterion, None, k.basis)
            size = np.abs(want["F"]).max() + 1e-6 * want["E0"]  # F is 0 where Ω is
            near(at.moments.F, want["F"], size)
            near(at.moments.f, want["f"], np.sqrt(size * want["E0"]))


@MANY
@given(problems(EVERY))
def test_kernels__answer_only_what_is_asked(p):
    for name in p.kernels:
        at = kernels.build(p.model, name).evaluate(p.theta)
        assert (at.score, at.expected, at.average, at.observed, at.moments, at.score_gamma) == (None,) * 6
