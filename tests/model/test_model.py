"""The model: built whole, checked once, frozen; one clear message for bad input, before any fit."""

import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import DataError, ModelError, VcbenchError

C = vc.Component
N = 12
Y = np.random.default_rng(1).normal(size=N)
X = np.c_[np.ones(N), np.linspace(-1, 1, N)]
GROUP = np.repeat(["b", "a", "c"], 4)


def g(name="g", n=N):
    return C(np.ones(n), name=name, group=np.resize(GROUP, n))


def test_model__says_what_it_holds():
    m = vc.Model(Y, X, [C(X, name="g", group=GROUP), C(K=np.eye(N) + 0.5, name="a")], offset=np.arange(N))
    assert (m.n_obs, m.n_fixed, m.n_theta) == (12, 2, 5)
    assert m.X_names == ("(Intercept)", "x1")
    assert m.theta_names == ("g:var(z1)", "g:cov(z1,z2)", "g:var(z2)", "a:var", "residual:var")
    Omega, sigma2 = m.Omegas(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert Omega.tolist() == [[1, 2], [2, 3]]
    assert sigma2.tolist() == [[4]]
    assert repr(m) == "Model(from arrays: n = 12, d = 2, components g, a)"


def test_model__without_X_has_an_intercept():
    m = vc.Model(Y, components=[g()])
    assert (m.X == 1).all()
    assert m.X.shape == (N, 1)
    assert m.X_names == ("(Intercept)",)


@pytest.mark.parametrize(
    ("X", "names", "want"),
    [
        (X, None, ("(Intercept)", "x1")),
        (X[:, ::-1], None, ("x1", "x2")),
        (X, ["a", "b"], ("a", "b")),
        (pd.DataFrame(X, columns=["one", "t"]), None, ("one", "t")),
        (X[:, 1], None, ("x1",)),
    ],
)
def test_model__names_the_columns_of_X(X, names, want):
    assert vc.Model(Y, X, [g()], X_names=names).X_names == want


def test_model__is_frozen():
    m = vc.Model(Y, X, [g()])
    with pytest.raises(dataclasses.FrozenInstanceError):
        m.y = Y


def test_model__replace_shares_the_design_and_changes_y_only():
    m = vc.Model(Y, X, [g()], offset=np.arange(N), name="a model")
    new = m.replace(y=Y[::-1])
    assert (new.y == Y[::-1]).all()
    assert new.design is m.design
    assert new.X is m.X or (new.X == m.X).all()
    for name in ("components", "X_names", "name", "offset", "theta_names"):
        assert getattr(new, name) is getattr(m, name) or getattr(new, name) == getattr(m, name)
    assert (m.y == Y).all()


def test_model__replace_of_a_reduced_X_warns_no_more():
    with pytest.warns(UserWarning, match="was dropped"):
        m = vc.Model(Y, np.c_[X, X[:, 1] * 2], [g()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = m.replace(y=Y[::-1])
    assert new.dropped_columns == m.dropped_columns == ("x2",)


def nan_at(i, value=np.nan):
    y = Y.copy()
    y[i] = value
    return y


BAD = {
    "y missing": (dict(y=nan_at(3)), DataError, r"y is nan in row 3 \(1 values are not finite\)\. Remove or impute"),
    "y infinite": (dict(y=nan_at(0, -np.inf)), DataError, r"y is -inf in row 0"),
    "y constant": (dict(y=np.full(N, 3.5)), DataError, r"y is constant \(3.5 in all 12 rows\)"),
    "y of text": (dict(y=list("abcdefghijkl")), DataError, "y is not numeric"),
    "y a matrix": (dict(y=np.ones((N, 2))), DataError, r"y has shape \(12, 2\); it must be a vector"),
    "y of one": (dict(y=[1.0]), DataError, r"y has shape \(1,\)"),
    "X of other rows": (dict(X=X[:5]), ModelError, r"`X` has shape \(5, 2\); y has 12 values, so X must be \(12, d\)"),
    "X of three dimensions": (dict(X=np.ones((N, 1, 1))), ModelError, r"`X` has shape \(12, 1, 1\)"),
    "X not finite": (
        dict(X=np.where(np.arange(2 * N).reshape(N, 2) == 9, np.nan, X)),
        DataError,
        "`X` is nan in row 4, column 1",
    ),
    "X names": (dict(X_names=["a"]), ModelError, "X has 2 columns but 1 names"),
    "X saturated": (dict(X=np.eye(N), components=()), ModelError, "X has 12 independent columns for 12 observations"),
    "offset of another length": (dict(offset=np.ones(3)), DataError, r"`offset` must hold 12 finite numbers; .*\(3,\)"),
    "offset not finite": (dict(offset=nan_at(2)), DataError, "`offset` must hold 12 finite numbers"),
    "no Component": (dict(components=[np.eye(N)]), ModelError, "every item must be a vcbench.Component"),
    "component of other rows": (dict(components=[g("h", 9)]), ModelError, "component `h` covers 9 rows but y has 12"),
    "K of other rows": (
        dict(components=[C(K=np.eye(9) + 1, name="a")]),
        ModelError,
        "component `a` covers 9 rows but y",
    ),
    "names twice": (
        dict(components=[g(), C(np.ones(N), name="g", group=np.arange(N) % 3)]),
        ModelError,
        r"two components share the parameter name `g:var\(\(Intercept\)\)`",
    ),
    "a level for each row": (
        dict(components=[C(np.ones(N), name="id", group=np.arange(N))]),
        ModelError,
        "component `id` has 12 levels for 12 observations: its variance cannot be told from the residual's",
    ),
    "a column for each row": (
        dict(components=[C(np.eye(N)[::-1] * 2, name="id")]),
        ModelError,
        "component `id` has 12 levels for 12 observations",
    ),
    "rank": (dict(rank="keep"), ModelError, '`rank` is \'keep\'; it must be "drop" or "error"'),
}


@pytest.mark.parametrize("case", BAD)
def test_model__bad_input_gets_one_clear_message(case):
    change, error, message = BAD[case]
    with pytest.raises(error, match=message) as caught:
        vc.Model(**{"y": Y, "X": X, "components": [g()], **change})
    assert isinstance(caught.value, VcbenchError)


def test_model__as_many_levels_as_observations_is_fine_for_a_known_K(rng):
    W = rng.normal(size=(N, 30))
    assert vc.Model(Y, X, [C(K=W @ W.T / 30, name="a")]).n_theta == 2
    assert vc.Model(Y, X, [C(np.eye(N), K=W @ W.T / 30, name="a")]).n_theta == 2
    assert vc.Model(Y, X, [C(rng.normal(size=(N, N)), name="z")]).n_theta == 2


class TestRank:
    """X of less than full rank: one warning that names the later columns, or an error."""

    deficient = np.c_[X, X[:, 0] - 3 * X[:, 1], np.arange(N) ** 2, X[:, 1] / 7]
    names = ("(Intercept)", "x", "sum", "square", "again")

    def test_rank__later_columns_are_dropped_with_one_warning_that_names_them(self):
        with pytest.warns(UserWarning, match="was dropped") as caught:
            m = vc.Model(Y, self.deficient, [g()], X_names=self.names)
        assert len(caught) == 1
        text = str(caught[0].message)
        assert "`X` has rank 3 but 5 columns" in text
        assert "`sum`, `again`" in text
        assert 'Pass `rank="error"` to stop here' in text
        assert m.X_names == ("(Intercept)", "x", "square")
        assert m.dropped_columns == ("sum", "again")
        assert np.array_equal(m.X, self.deficient[:, [0, 1, 3]])

    def test_rank__error_stops(self):
        with pytest.raises(ModelError, match=r"rank 3 but 5 columns: `sum`, `again` .*pass `rank=\"drop\"`"):
            vc.Model(Y, self.deficient, [g()], X_names=self.names, rank="error")

    def test_rank__a_column_of_zeros_is_dropped(self):
        with pytest.warns(UserWarning, match="rank 2 but 3 columns: `nil`"):
            m = vc.Model(Y, np.c_[X, np.zeros(N)], [g()], X_names=["1", "x", "nil"])
        assert m.X_names == ("1", "x")

    def test_rank__more_columns_than_rows_of_low_rank_is_reduced(self):
        wide = np.hstack([self.deficient] * 3)
        with pytest.warns(UserWarning, match="rank 3 but 15 columns"):
            assert vc.Model(Y, wide, [g()]).n_fixed == 3

    @pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
    def test_rank__does_not_depend_on_the_unit_of_a_column(self, scale):
        m = vc.Model(Y, X * [1.0, scale], [g()])
        assert m.n_fixed == 2

    def test_rank__the_likelihood_is_that_of_the_reduced_X(self):
        with pytest.warns(UserWarning, match="was dropped"):
            a = vc.fit(vc.Model(Y, self.deficient, [g()]))
        b = vc.fit(vc.Model(Y, self.deficient[:, [0, 1, 3]], [g()]))
        assert a.loglik == b.loglik
        assert (a.beta.to_numpy() == b.beta.to_numpy()).all()


class TestFromFormula:
    """The bridge from a parsed formula to components; the grammar has tests of its own."""

    data = pd.DataFrame({"y": Y, "x": X[:, 1], "g": GROUP, "h": np.arange(N) % 3})

    @pytest.mark.parametrize(
        ("formula", "names"),
        [
            ("y ~ x + (1 | g)", ["g:var((Intercept))"]),
            ("y ~ x + (x | g)", ["g:var((Intercept))", "g:cov((Intercept),x)", "g:var(x)"]),
            ("y ~ x + (x || g)", ["g:var((Intercept))", "g:var(x)"]),
            ("y ~ x + (1 | g) + (0 + x | g)", ["g:var((Intercept))", "g:var(x)"]),
            ("y ~ x + (0 + x | g)", ["g:var(x)"]),
            ("y ~ x + (1 | g) + (1 | h)", ["g:var((Intercept))", "h:var((Intercept))"]),
        ],
    )
    def test_from_formula__makes_components_of_terms(self, formula, names):
        m = vc.Model.from_formula(formula, self.data)
        assert sorted(m.theta_names[:-1]) == sorted(names)
        assert m.X_names == ("(Intercept)", "x")
        assert m.formula == formula

    def test_from_formula__counts_dropped_rows(self):
        data = self.data.copy()
        data.loc[3, "x"] = np.nan
        m = vc.Model.from_formula("y ~ x + (1 | g)", data)
        assert (m.n_obs, m.n_dropped) == (11, 1)
        assert m.components[0].codes.tolist() == np.delete(m.components[0].codes, []).tolist()
        assert "1 dropped" in vc.fit(m).summary()
        with pytest.raises(DataError, match="x"):
            vc.Model.from_formula("y ~ x + (1 | g)", data, missing="error")

    def test_from_formula__takes_a_structure_by_group(self):
        m = vc.Model.from_formula("y ~ x + (x | g)", self.data, cov={"g": vc.covariance.diag()})
        assert m.theta_names == ("g:var((Intercept))", "g:var(x)", "residual:var")
        with pytest.raises(ModelError, match="`cov` names `G`, which is no grouping factor of"):
            vc.Model.from_formula("y ~ x + (x | g)", self.data, cov={"G": vc.covariance.diag()})

    @pytest.mark.parametrize("value", [np.inf, -np.inf])
    def test_from_formula__an_infinite_response_is_named(self, value):
        data = self.data.copy()
        data.loc[3, "y"] = value
        with pytest.raises(DataError, match="inf"):
            vc.Model.from_formula("y ~ x + (1 | g)", data)

    def test_from_formula__an_unknown_column_is_named(self):
        with pytest.raises(VcbenchError, match="group"):
            vc.Model.from_formula("y ~ x + (1 | group)", self.data)
