"""A design is worked on once: new responses share it, and nothing differs from a kernel built anew."""

import numpy as np
import pytest
from hypothesis import given
from strategies import KINDS, draw_problem, problems

import vcbench as vc
from vcbench import kernels
from vcbench.errors import DataError, ModelError

NEEDS = kernels.protocol.NEEDS


def fresh(model, y):
    """The same model said again, nothing shared."""
    return vc.Model(y, model.X, model.components, offset=model.offset, X_names=model.X_names)


def same(a, b):
    """Two evaluations, to rounding: the same arithmetic in the same order."""
    assert a.loglik == pytest.approx(b.loglik, rel=1e-13)
    for name in ("beta", "gamma", "score", "expected", "average", "observed"):
        want = getattr(b, name)
        assert getattr(a, name) == pytest.approx(want, rel=1e-10, abs=1e-10 * np.abs(want).max(initial=0.0)), name
    for name in ("F", "Wty", "XtW", "S", "f", "E0", "yty", "logdet"):
        want = np.asarray(getattr(b.moments, name))
        got = np.asarray(getattr(a.moments, name))
        assert got == pytest.approx(want, rel=1e-10, abs=1e-10 * np.abs(want).max(initial=0.0)), name


@given(problems())
def test_bind__equals_building_anew(p):
    y = p.draw_y(np.random.default_rng(5)) * 3.0 + 1.0
    for name in p.kernels:
        k, want = kernels.build(p.model, name).bind(y), kernels.build(fresh(p.model, y), name)
        for criterion in ("ml", "reml"):
            same(k.evaluate(p.theta, NEEDS, criterion), want.evaluate(p.theta, NEEDS, criterion))
        assert k.layout.scale == pytest.approx(want.layout.scale, rel=1e-12)
        assert k.beta0 == pytest.approx(want.beta0, rel=1e-12)
        for u, v in zip(k.blup(p.theta, p.beta), want.blup(p.theta, p.beta), strict=True):
            assert u == pytest.approx(v, rel=1e-10, abs=1e-10 * np.abs(v).max())


@given(problems())
def test_replace__equals_building_anew(p):
    y = p.draw_y(np.random.default_rng(6))
    new = p.model.replace(y=y)
    for name in p.kernels:
        kernels.build(p.model, name)
        same(
            kernels.build(new, name).evaluate(p.theta, NEEDS),
            kernels.build(fresh(p.model, y), name).evaluate(p.theta, NEEDS),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_bind__repeats_no_design_work(kind):
    p = draw_problem(kind, seed=4)
    y = p.draw_y(np.random.default_rng(0))
    for name in p.kernels:
        k = kernels.build(p.model, name)
        for other in (k.bind(y), kernels.build(p.model.replace(y=y), name)):
            assert other.basis is k.basis
            if name == "dense":
                assert other.V is k.V
                assert other.factors is k.factors
            elif name == "sparse":
                assert other.design is k.design
            elif name == "low_rank":
                assert other.R is k.R
                assert other.U is k.U
            elif name == "crossed":
                assert other.design is k.design
            else:
                assert other.blocks.R is k.blocks.R
                assert other.blocks.X is k.blocks.X
                assert other.blocks.rotation is k.blocks.rotation
                assert other.work is k.work


def test_build__keeps_the_kernel_with_the_design():
    p = draw_problem("crossed", seed=4)
    assert kernels.build(p.model) is kernels.build(p.model)
    assert p.model.replace(y=p.model.y[::-1].copy()).design is p.model.design


def test_bind__leaves_the_first_kernel_as_it_was():
    p = draw_problem("slope-un", seed=4)
    k = kernels.build(p.model)
    before = k.evaluate(p.theta, NEEDS)
    k.bind(p.draw_y(np.random.default_rng(0)) * 100).evaluate(p.theta, NEEDS)
    same(k.evaluate(p.theta, NEEDS), before)


def test_bind__checks_the_response():
    p = draw_problem("one-way", seed=4)
    k = kernels.build(p.model)
    y = p.model.y.copy()
    y[3] = np.nan
    with pytest.raises(DataError, match="row 3"):
        k.bind(y)
    with pytest.raises(ModelError, match=f"the new y has 3 values; the model has {len(y)} observations"):
        k.bind(y[:3] * 0 + [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="constant"):
        p.model.replace(y=np.ones(len(y)))


def test_reduce__gives_the_sufficient_statistics():
    """−2ℓ_ML from `Blocks` alone, as the twin writes it: blocks, then the rows that see no random effect."""
    for kind in ("one-way", "slope-un", "slope-blocks", "K", "K-centred", "Z-narrow", "Z-wide", "slope-two-terms"):
        p = draw_problem(kind, 6, 3, offset=True, seed=9)
        b = kernels.reduce(p.model)
        gamma = b.basis.gamma(p.beta, b.beta0)
        r = b.R.shape[1]
        Omega = np.zeros((r, r))
        at = 0
        for block in p.model.Omegas(p.theta):
            Omega[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        W = b.R @ Omega @ b.R.transpose(0, 2, 1) + p.theta[-1] * np.eye(r)
        resid = b.y - b.X @ gamma
        minus2 = b.n_obs * np.log(2 * np.pi) + np.linalg.slogdet(W)[1].sum() + b.n_within * np.log(p.theta[-1])
        minus2 += np.einsum("bi,bi->", resid, np.linalg.solve(W, resid[..., None])[..., 0])
        v = np.append(-gamma, 1.0)
        minus2 += v @ b.within @ v / p.theta[-1]
        want = kernels.build(p.model, "dense").evaluate(p.theta, (), "ml", beta=p.beta).loglik
        assert -0.5 * minus2 == pytest.approx(want, rel=1e-10), kind
        # klass: blocks of one class share R
        for c in np.unique(b.klass):
            assert np.ptp(b.R[b.klass == c], axis=0).max() < 1e-10


def test_reduce__refuses_what_has_no_such_form():
    with pytest.raises(ModelError, match="several grouping factors or matrices"):
        kernels.reduce(draw_problem("crossed", seed=1).model)
