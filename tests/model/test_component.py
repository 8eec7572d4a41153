"""Components: what is given, what is derived, and one clear message for what cannot be."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import vcbench as vc
from vcbench import kernels
from vcbench.errors import DataError, ModelError

C, cov = vc.Component, vc.covariance
GROUP = np.repeat(["b", "a", "c"], 4)
ONE, X = np.ones(12), np.linspace(-1, 1, 12)


def wishart(n, p, seed=1):
    W = np.random.default_rng(seed).normal(size=(n, p))
    return W @ W.T / p


def spectrum(values, seed=1):
    """A symmetric matrix with these eigenvalues."""
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))[0]
    K = (Q * np.asarray(values, float)) @ Q.T
    return (K + K.T) / 2


@pytest.mark.parametrize(
    ("arguments", "names", "q", "kind"),
    [
        ({"Z": ONE, "group": GROUP}, ["a:var((Intercept))"], 3, "scalar"),
        ({"Z": X, "group": GROUP, "columns": ["x"]}, ["a:var(x)"], 3, "scalar"),
        (
            {"Z": np.c_[ONE, X], "group": GROUP, "columns": ["(Intercept)", "x"]},
            ["a:var((Intercept))", "a:cov((Intercept),x)", "a:var(x)"],
            3,
            "un",
        ),
        ({"Z": np.c_[ONE, X], "group": GROUP, "cov": cov.diag()}, ["a:var(z1)", "a:var(z2)"], 3, "diag"),
        (
            {"Z": np.c_[ONE, X, X**2], "group": GROUP, "cov": cov.blocks([[0, 2], [1]])},
            ["a:var(z1)", "a:cov(z1,z3)", "a:var(z3)", "a:var(z2)"],
            3,
            "blocks",
        ),
        ({"Z": np.c_[ONE, X, X**2]}, ["a:var"], 3, "scalar"),
        ({"Z": np.c_[ONE, X], "cov": cov.diag()}, ["a:var(z1)", "a:var(z2)"], 1, "diag"),
        ({"Z": np.c_[ONE, X], "cov": cov.un()}, ["a:var(z1)", "a:cov(z1,z2)", "a:var(z2)"], 1, "un"),
        ({"K": wishart(12, 30)}, ["a:var"], 12, "scalar"),
        ({"K": wishart(12, 5)}, ["a:var"], 5, "scalar"),
        ({"K": wishart(3, 9), "Z": np.eye(3)[[0, 1, 2] * 4]}, ["a:var"], 3, "scalar"),
        ({"K": wishart(12, 5), "q": 40}, ["a:var"], 40, "scalar"),
    ],
)
def test_component__derives_names_structure_and_the_em_divisor(arguments, names, q, kind):
    c = C(name="a", **arguments)
    assert c.theta_names == names
    assert c.n_levels == q
    assert c.cov.kind == kind
    assert c.n_obs == 12
    assert len(c.index) == len(names)


def test_component__is_frozen():
    c = C(ONE, name="a", group=GROUP)
    with pytest.raises(dataclasses.FrozenInstanceError):
        c.name = "b"


def test_component__levels_are_sorted_and_a_categorical_keeps_its_order():
    c = C(ONE, name="g", group=GROUP)
    assert c.levels == ("a", "b", "c")
    assert c.codes.tolist() == [1] * 4 + [0] * 4 + [2] * 4
    c = C(ONE, name="g", group=pd.Categorical(GROUP, categories=["c", "a", "b"]))
    assert c.levels == ("c", "a", "b")
    assert c.codes.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    c = C(ONE, name="g", group=pd.Series([10, 9, 2] * 4))
    assert c.levels == ("2", "9", "10")


def test_component__a_sparse_Z_is_its_dense_matrix():
    Z = np.eye(3)[[0, 1, 2] * 4]
    assert (C(sparse.csr_matrix(Z), name="a").Z == Z).all()


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_component__K_may_be_asymmetric_up_to_1e_6_of_its_largest_entry(share):
    K = wishart(8, 20)
    K[2, 5] += share * 1e-6 * np.abs(K).max()
    if share < 1:
        c = C(K=K, name="a")
        assert (c.K == c.K.T).all()
        assert c.K[2, 5] == pytest.approx((K[2, 5] + K[5, 2]) / 2, rel=1e-14)
        return
    with pytest.raises(
        ModelError, match=r"`K` of component `a` is not symmetric: K\[2, 5\] = .* but K\[5, 2\] = "
    ) as e:
        C(K=K, name="a")
    assert "(K + K.T) / 2" in str(e.value)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_component__eigenvalues_of_K_may_be_negative_down_to_1e_4_of_the_largest(share):
    K = spectrum([5.0, 3.0, 1.0, -0.2e-4, -share * 5e-4])
    if share > 1:
        with pytest.raises(ModelError, match=r"not positive semi-definite: its eigenvalues run from -0\.00055 to 5"):
            C(K=K, name="a")
        return
    c = C(K=K, name="a")
    assert c.n_clipped == 2
    assert c.n_levels == 3
    assert (c.K_values >= 0).all()
    model = vc.Model(np.arange(5.0) ** 2, components=[c])
    assert "2 eigenvalue(s) of K slightly below 0 were set to 0" in model.explain()


def test_component__clipped_eigenvalues_of_K_are_zero_in_the_likelihood(rng):
    """V is formed with max(λ, 0): as if the positive part had been given."""
    values = np.array([4.0, 2.0, 1.0, 1.0, 0.5, 0.2, -1e-4, -2e-4])
    y = rng.normal(size=8)
    ells = []
    for K in (spectrum(values), spectrum(np.maximum(values, 0))):
        model = vc.Model(y, components=[C(K=K, name="a")])
        for kernel in ("dense", "spectral"):
            ells.append(kernels.build(model, kernel).evaluate([2.0, 0.3]).loglik)
    assert np.ptp(ells) < 1e-10


def test_component__rank_of_K_counts_eigenvalues_above_1e_6_of_the_largest():
    assert C(K=spectrum([2.0, 1.0, 2.2e-6, 1.8e-6, 1e-9]), name="a").n_levels == 3


def test_component__rounding_is_not_a_clipped_eigenvalue():
    """A centred relationship matrix has eigenvalues of ±1e-17: nothing was wrong with it."""
    W = np.random.default_rng(3).normal(size=(40, 15))
    W -= W.mean(axis=0)
    c = C(K=W @ W.T / 15, name="a")
    assert c.n_clipped == 0
    assert c.n_levels == 15
    assert "slightly below" not in vc.Model(np.arange(40.0) ** 2, components=[c]).explain()


BAD = {
    "no name": (dict(Z=ONE), ModelError, r"a component has no name\. Pass `name=`"),
    "nothing": (dict(name="a"), ModelError, "component `a` has neither Z nor K"),
    "Z of three dimensions": (
        dict(Z=np.ones((2, 2, 2)), name="a"),
        ModelError,
        r"`Z` of component `a` has shape \(2, 2, 2\)",
    ),
    "Z empty": (dict(Z=np.ones((4, 0)), name="a"), ModelError, r"`Z` of component `a` has shape \(4, 0\)"),
    "Z not finite": (
        dict(Z=np.where(np.arange(12) == 7, np.inf, X), name="a"),
        DataError,
        "`Z` of component `a` is inf in row 7, column 0",
    ),
    "Z column of zeros": (
        dict(Z=np.c_[ONE, np.zeros(12)], name="a"),
        DataError,
        "column 1 of `Z` of component `a` is all zero: a level without observations",
    ),
    "grouped effect of zeros": (
        dict(Z=np.c_[ONE, np.zeros(12)], name="a", group=GROUP, columns=["(Intercept)", "x"]),
        DataError,
        "effect `x` of component `a` is zero in every row",
    ),
    "group of another length": (
        dict(Z=ONE, name="a", group=GROUP[:5]),
        ModelError,
        "component `a`: `group` has 5 values but `Z` has 12 rows",
    ),
    "group without Z": (dict(name="a", K=np.eye(12), group=GROUP), ModelError, "component `a`: `group` goes with `Z`"),
    "group missing": (
        dict(Z=ONE, name="a", group=pd.Series([*GROUP[:-1], None])),
        DataError,
        "grouping factor `a` is missing in row 11",
    ),
    "empty group": (
        dict(Z=ONE, name="a", group=pd.Categorical(GROUP, categories=["a", "b", "c", "d"])),
        DataError,
        "grouping factor `a`: level `d` is an empty group .*remove_unused_categories",
    ),
    "names": (
        dict(Z=np.c_[ONE, X], name="a", group=GROUP, columns=["x"]),
        ModelError,
        "component `a` has 2 effects but 1 names in `columns`",
    ),
    "scalar for two": (
        dict(Z=np.c_[ONE, X], name="a", group=GROUP, cov=cov.scalar()),
        ModelError,
        "`scalar` holds one effect, not 2",
    ),
    "no partition": (
        dict(Z=np.c_[ONE, X], name="a", group=GROUP, cov=cov.blocks([[0], [0, 1]])),
        ModelError,
        "no partition of the 2 effects",
    ),
    "q": (dict(K=np.eye(12), name="a", q=0), ModelError, "`q` of component `a` is 0; it must be at least 1"),
    "K not square": (
        dict(K=np.ones((3, 4)), name="a"),
        ModelError,
        r"`K` of component `a` has shape \(3, 4\); it must be square",
    ),
    "K of one dimension": (dict(K=np.ones(3), name="a"), ModelError, r"`K` of component `a` has shape \(3,\)"),
    "K not finite": (
        dict(K=np.where(np.eye(3) == 1, np.nan, 0.0), name="a"),
        DataError,
        r"`K` of component `a` is nan at \[0, 0\]",
    ),
    "K of zeros": (
        dict(K=np.zeros((4, 4)), name="a"),
        ModelError,
        "`K` of component `a` is not positive semi-definite",
    ),
    "K negative": (dict(K=-np.eye(4), name="a"), ModelError, "`K` of component `a` is not positive semi-definite"),
    "Z and K": (
        dict(Z=np.eye(3)[[0, 1, 2] * 4], K=np.eye(4), name="a"),
        ModelError,
        r"Z has 3 columns but K is \(4, 4\)",
    ),
    "K with a structure": (dict(K=np.eye(4), name="a", cov=cov.diag()), ModelError, "a known K takes one variance"),
}


@pytest.mark.parametrize("case", BAD)
def test_component__bad_input_gets_one_clear_message(case):
    arguments, error, message = BAD[case]
    with pytest.raises(error, match=message):
        C(**arguments)
