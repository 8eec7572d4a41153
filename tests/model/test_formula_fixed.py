"""The fixed side: R's columns, R's names, R's rank."""

import itertools
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcbench.errors import DataError, FormulaError, ModelError
from vcbench.model.fixed_contrasts import helmert, polynomial, sas, sums, treatment
from vcbench.model.fixed_rank import independent_columns
from vcbench.model.formula import Parsed, RankWarning, parse_formula


def frame() -> pd.DataFrame:
    """What R makes with
    d <- expand.grid(b = factor(1:3), a = factor(c("p","q")), o = ordered(c("lo","mi","hi"), c("lo","mi","hi")))
    d$x <- (1:18)^2 / 10; d$z <- ((1:18) * 7) %% 11 + 1; d$l <- d$z > 5; d$s <- rep(c("beta","Alpha","gamma"), 6)
    d$`my var` <- d$x / 2; d$x.1 <- d$z; d$y <- cos(1:18)
    """
    cells = list(itertools.product(["lo", "mi", "hi"], ["p", "q"], [1, 2, 3]))
    i = np.arange(1, 19)
    z = (i * 7) % 11 + 1
    return pd.DataFrame(
        {
            "b": pd.Categorical([b for _, _, b in cells]),
            "a": pd.Categorical([a for _, a, _ in cells]),
            "o": pd.Categorical([o for o, _, _ in cells], categories=["lo", "mi", "hi"], ordered=True),
            "x": i**2 / 10,
            "z": z,
            "l": z > 5,
            "s": ["beta", "Alpha", "gamma"] * 6,
            "my var": i**2 / 20,
            "x.1": z,
            "y": np.cos(i),
        }
    )


def fixed(rhs: str, data: Any = None) -> Parsed:
    """Parsed, the columns that R's model.matrix has but a fit drops put up with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        return parse_formula(f"y ~ {rhs}", frame() if data is None else data)


# R 4.2.2: colnames(model.matrix(as.formula(paste("~", rhs)), d)), joined by " | "; all columns, rank not yet known
R_NAMES = {
    "x + a": "(Intercept) | x | aq",
    "a*b": "(Intercept) | aq | b2 | b3 | aq:b2 | aq:b3",
    "a:b": "(Intercept) | ap:b1 | aq:b1 | ap:b2 | aq:b2 | ap:b3 | aq:b3",
    "-1 + a + b": "ap | aq | b2 | b3",
    "a + b - 1": "ap | aq | b2 | b3",
    "a + 0 + b": "ap | aq | b2 | b3",
    "0 + a:b": "ap:b1 | aq:b1 | ap:b2 | aq:b2 | ap:b3 | aq:b3",
    "a/b": "(Intercept) | aq | ap:b2 | aq:b2 | ap:b3 | aq:b3",
    "(a + b)/o": (
        "(Intercept) | aq | b2 | b3 | ap:b1:olo | aq:b1:olo | ap:b2:olo | aq:b2:olo | ap:b3:olo"
        " | aq:b3:olo | ap:b1:omi | aq:b1:omi | ap:b2:omi | aq:b2:omi | ap:b3:omi | aq:b3:omi"
        " | ap:b1:ohi | aq:b1:ohi | ap:b2:ohi | aq:b2:ohi | ap:b3:ohi | aq:b3:ohi"
    ),
    "(a + b + o)^2 - a:o": (
        "(Intercept) | aq | b2 | b3 | o.L | o.Q | aq:b2 | aq:b3 | b2:o.L | b3:o.L | b2:o.Q | b3:o.Q"
    ),
    "a + b %in% a": "(Intercept) | aq | ap:b2 | aq:b2 | ap:b3 | aq:b3",
    "b:a + a": "(Intercept) | aq | b2:ap | b3:ap | b2:aq | b3:aq",
    "a + b:a": "(Intercept) | aq | ap:b2 | aq:b2 | ap:b3 | aq:b3",
    "a*b - a": "(Intercept) | b2 | b3 | aq:b1 | aq:b2 | aq:b3",
    "a*b*o - a:b:o": (
        "(Intercept) | aq | b2 | b3 | o.L | o.Q | aq:b2 | aq:b3 | aq:o.L | aq:o.Q | b2:o.L | b3:o.L | b2:o.Q | b3:o.Q"
    ),
    "a:b:o + a": (
        "(Intercept) | aq | ap:b1:olo | aq:b1:olo | ap:b2:olo | aq:b2:olo | ap:b3:olo | aq:b3:olo"
        " | ap:b1:omi | aq:b1:omi | ap:b2:omi | aq:b2:omi | ap:b3:omi | aq:b3:omi | ap:b1:ohi"
        " | aq:b1:ohi | ap:b2:ohi | aq:b2:ohi | ap:b3:ohi | aq:b3:ohi"
    ),
    "x:a": "(Intercept) | x:ap | x:aq",
    "x + x:a": "(Intercept) | x | x:aq",
    "-1 + x:a + b": "b1 | b2 | b3 | x:ap | x:aq",
    "o": "(Intercept) | o.L | o.Q",
    "0 + o": "olo | omi | ohi",
    "o:x + o": "(Intercept) | o.L | o.Q | olo:x | omi:x | ohi:x",
    "a*b - 1": "ap | aq | b2 | b3 | aq:b2 | aq:b3",
    "l": "(Intercept) | lTRUE",
    "0 + l": "lFALSE | lTRUE",
    "a:l": "(Intercept) | ap:lFALSE | aq:lFALSE | ap:lTRUE | aq:lTRUE",
    "l:x": "(Intercept) | lFALSE:x | lTRUE:x",
    "`my var` + x.1": "(Intercept) | `my var` | x.1",
    "s": "(Intercept) | sbeta | sgamma",
    "I(x^2) + I(x > 2)": "(Intercept) | I(x^2) | I(x > 2)TRUE",
    "I(-x^2) + I((-x)^-1)": "(Intercept) | I(-x^2) | I((-x)^-1)",
    "I(x * 1e5) + I(x*0.10) + I(x - (1 - z))": "(Intercept) | I(x * 1e+05) | I(x * 0.1) | I(x - (1 - z))",
    "poly(x, 2)": "(Intercept) | poly(x, 2)1 | poly(x, 2)2",
    "poly(x,1)": "(Intercept) | poly(x, 1)",
    "poly(x, 2, raw = TRUE):a": (
        "(Intercept) | poly(x, 2, raw = TRUE)1:ap | poly(x, 2, raw = TRUE)2:ap"
        " | poly(x, 2, raw = TRUE)1:aq | poly(x, 2, raw = TRUE)2:aq"
    ),
    "scale(x) + log(z, 2) + log10(z)": "(Intercept) | scale(x) | log(z, 2) | log10(z)",
    "sin(2*pi*x) + exp(-x/2) + sqrt(abs(x))": "(Intercept) | sin(2 * pi * x) | exp(-x/2) | sqrt(abs(x))",
    "factor(z > 5) + as.factor(b)": "(Intercept) | factor(z > 5)TRUE | as.factor(b)2 | as.factor(b)3",
    "ordered(b)": "(Intercept) | ordered(b).L | ordered(b).Q",
    'relevel(b, ref = "2")': '(Intercept) | relevel(b, ref = "2")1 | relevel(b, ref = "2")3',
    'factor(b, levels = c("3","1","2"))': (
        '(Intercept) | factor(b, levels = c("3", "1", "2"))1 | factor(b, levels = c("3", "1", "2"))2'
    ),
    "C(b, contr.sum) + C(a, contr.helmert)": (
        "(Intercept) | C(b, contr.sum)1 | C(b, contr.sum)2 | C(a, contr.helmert)1"
    ),
    "C(b, contr.treatment, base = 2)": (
        "(Intercept) | C(b, contr.treatment, base = 2)1 | C(b, contr.treatment, base = 2)3"
    ),
    "C(b, contr.SAS):x": "(Intercept) | C(b, contr.SAS)1:x | C(b, contr.SAS)2:x | C(b, contr.SAS)3:x",
    "C(a, contr.treatment) + C(b, treatment)": (
        "(Intercept) | C(a, contr.treatment)2 | C(b, treatment)2 | C(b, treatment)3"
    ),
    "C(a, 'contr.SAS')": '(Intercept) | C(a, "contr.SAS")p',
    "C(b, contr.treatment(3, base = 2))": (
        "(Intercept) | C(b, contr.treatment(3, base = 2))1 | C(b, contr.treatment(3, base = 2))3"
    ),
    "C(o, contr.treatment)": "(Intercept) | C(o, contr.treatment)2 | C(o, contr.treatment)3",
    "interaction(a, b)": (
        "(Intercept) | interaction(a, b)q.1 | interaction(a, b)p.2 | interaction(a, b)q.2"
        " | interaction(a, b)p.3 | interaction(a, b)q.3"
    ),
    "x %% 2 + x %/% 2": "(Intercept) | x%%2 | x%/%2",
    "z == 5": "(Intercept) | z == 5TRUE",
    "(x + a)*poly(z, 2)": (
        "(Intercept) | x | aq | poly(z, 2)1 | poly(z, 2)2 | x:poly(z, 2)1 | x:poly(z, 2)2"
        " | aq:poly(z, 2)1 | aq:poly(z, 2)2"
    ),
    "x + offset(z) + b": "(Intercept) | x | b2 | b3",
    "x - x": "(Intercept)",
    "0 - 0 + x": "(Intercept) | x",
    "a + b - 1 + 1": "(Intercept) | aq | b2 | b3",
    "(a - 1)*x": "ap | aq | x | aq:x",
    "!l": "(Intercept) | !lTRUE",
}


@pytest.mark.parametrize("rhs", R_NAMES)
def test_fixed__columns_have_the_names_and_order_of_r(rhs: str) -> None:
    assert " | ".join(fixed(rhs).spec.design.names) == R_NAMES[rhs]


# R 4.2.2: unname(model.matrix(as.formula(rhs), d)[rows, ]), rows counted from 1
R_ROWS = {
    "o*a": {
        1: [1, -7.07106781187e-01, 0.408248290464, 0, 0, 0],
        8: [1, 0, -0.816496580928, 0, 0, 0],
        18: [1, 7.07106781187e-01, 0.408248290464, 1, 0.707106781187, 0.408248290464],
    },
    "poly(x, 3)": {
        1: [1, -0.2699066316850, 0.276909464397, -0.280700850931],
        9: [1, -0.0840311894916, -0.181628341668, 0.279884156303],
        18: [1, 0.4805654661708, 0.531920476252, 0.472962299646],
    },
    "scale(x) + I(x^2) + log(z, 2)": {
        1: [1, -1.11285355149, 0.01, 3],
        9: [1, -0.34646947012, 65.61, 3.16992500144],
        18: [1, 1.98142217705, 1049.76, 2.58496250072],
    },
    "C(b, contr.sum):x": {1: [1, 0.1, 0, 0], 2: [1, 0, 0.4, 0], 18: [1, 0, 0, 32.4]},
}


@pytest.mark.parametrize("rhs", R_ROWS)
def test_fixed__columns_have_the_values_of_r(rhs: str) -> None:
    X = fixed(rhs).X
    for row, values in R_ROWS[rhs].items():
        np.testing.assert_allclose(X[row - 1], values, rtol=1e-10, atol=1e-12)  # twelve digits were printed


def test_contrasts__are_those_of_r() -> None:
    """R 4.2.2: contr.poly(6), contr.helmert(3), contr.sum(3), contr.SAS(3), contr.treatment(3, base = 2)."""
    matrix, names = polynomial("abcdef")
    assert names == (".L", ".Q", ".C", "^4", "^5")
    np.testing.assert_allclose(
        matrix[:3],
        [
            [-0.597614304667, 0.545544725590, -0.37267799625, 0.188982236505, -0.0629940788349],
            [-0.358568582800, -0.109108945118, 0.52174919475, -0.566946709514, 0.3149703941744],
            [-0.119522860933, -0.436435780472, 0.29814239700, 0.377964473009, -0.6299407883487],
        ],
        rtol=1e-11,
    )
    np.testing.assert_array_equal(helmert("abc")[0], [[-1, -1], [1, -1], [0, 2]])
    np.testing.assert_array_equal(sums("abc")[0], [[1, 0], [0, 1], [-1, -1]])
    np.testing.assert_array_equal(sas("abc")[0], [[1, 0], [0, 1], [0, 0]])
    assert treatment(("a", "b", "c"), 2)[1] == ("a", "c")


@pytest.mark.parametrize("k", range(2, 12))
def test_polynomial_contrasts__are_orthonormal_and_rise(k: int) -> None:
    matrix, _ = polynomial(tuple(map(str, range(k))))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(k - 1), atol=1e-12)  # machine precision, k small
    np.testing.assert_allclose(matrix.sum(axis=0), 0, atol=1e-12)
    assert (matrix[-1] > 0).all()


# lme4 1.1-31: colnames(lFormula(y ~ ... + (1 | g), d)$X) with d$x2 <- 2 * d$x; d$ab <- interaction(d$a, d$b)
R_KEPT = {
    "x + x2 + a": ["(Intercept)", "x", "aq"],
    "a:b": ["(Intercept)", "ap:b1", "aq:b1", "ap:b2", "aq:b2", "ap:b3"],
    "a*b + ab": ["(Intercept)", "aq", "b2", "b3", "abq.1", "abp.2"],
    "x + I(x + z) + z": ["(Intercept)", "x", "I(x + z)"],
    "poly(x, 2) + x + I(x^2)": ["(Intercept)", "poly(x, 2)1", "poly(x, 2)2"],
}


@pytest.mark.parametrize("rhs", R_KEPT)
def test_rank__the_columns_lme4_keeps_are_kept(rhs: str) -> None:
    data = frame().assign(x2=lambda d: 2 * d["x"])
    levels = ["p.1", "q.1", "p.2", "q.2", "p.3", "q.3"]
    data["ab"] = pd.Categorical(data["a"].astype(str) + "." + data["b"].astype(str), categories=levels)
    with pytest.warns(RankWarning) as caught:
        parsed = parse_formula(f"y ~ {rhs}", data)
    assert len(caught) == 1
    assert list(parsed.X_names) == R_KEPT[rhs]
    assert np.linalg.matrix_rank(parsed.X) == parsed.X.shape[1]
    assert len(parsed.dropped_columns) + len(parsed.X_names) == len(parsed.spec.design.names)
    assert all(name in str(caught[0].message) for name in parsed.dropped_columns)


def test_rank__one_warning_names_what_is_dropped_and_what_it_combines() -> None:
    data = frame().assign(sum=lambda d: d["x"] + 3 * d["z"], zero=0.0)
    says = (
        "`X` has rank 3 but 5 columns: `sum` is a combination of `x`, `z`; `zero` is zero in all rows used. "
        'These 2 columns were dropped. Pass rank="error" to stop here.'
    )
    with pytest.warns(RankWarning) as caught:
        parsed = parse_formula("y ~ x + z + sum + zero", data)
    assert [str(w.message) for w in caught] == [says]
    assert caught[0].filename == __file__
    assert parsed.dropped_columns == ("sum", "zero")
    with pytest.raises(ModelError, match="`X` has rank 3 but 5 columns: `sum` is a combination of `x`, `z`"):
        parse_formula("y ~ x + z + sum + zero", data, rank="error")


def test_rank__near_dependence_above_the_tolerance_of_r_stays() -> None:
    """R 4.2.2: qr(cbind(1, x, x + e * noise))$rank is 3 for e = 1e-5 and 2 for e = 1e-9, tol = 1e-7."""
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(2, 40))
    for size, kept in ((1e-5, 3), (1e-9, 2)):
        assert independent_columns(np.column_stack([np.ones(40), x, x + size * noise]))[0].size == kept


def test_rank__more_columns_than_rows_leaves_as_many_as_rows() -> None:
    rng = np.random.default_rng(2)
    assert independent_columns(rng.normal(size=(4, 7)))[0].tolist() == [0, 1, 2, 3]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_rank__kept_columns_span_the_space_and_are_the_first_that_do(seed: int, rank: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    basis = rng.integers(-3, 4, size=(12, rank)).astype(float)
    X = np.column_stack([basis, basis @ rng.integers(-2, 3, size=(rank, extra))])[:, rng.permutation(rank + extra)]
    kept = independent_columns(X)[0].tolist()
    assert len(kept) == np.linalg.matrix_rank(X)
    for j in range(X.shape[1]):  # a column is kept exactly when it adds to those before it
        before = np.linalg.matrix_rank(X[:, :j]) if j else 0
        assert (j in kept) == (np.linalg.matrix_rank(X[:, : j + 1]) > before)


CROSSED = ["a*b", "a/b", "a:b", "a + a:b", "b + a:b", "0 + a*b", "0 + a:b", "(a + b)^2", "a + b %in% a", "b:a + a"]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=8, max_size=40),
    st.sampled_from(CROSSED),
)
def test_fixed__crossed_factors_span_the_cell_means(cells: list[tuple[int, int]], rhs: str) -> None:
    """Every way of writing a full crossing has the column space of the cells' indicators, whatever cells there are."""
    a, b = np.array(cells).T
    if len(set(a)) < 2 or len(set(b)) < 2:
        return
    data = {"y": np.arange(len(cells)), "a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b]}
    X = fixed(rhs, data).X
    _, cell = np.unique(a * 10 + b, return_inverse=True)
    indicators = np.eye(cell.max() + 1)[cell]
    assert X.shape[1] == indicators.shape[1]
    projected = X @ np.linalg.lstsq(X, indicators, rcond=None)[0]
    np.testing.assert_allclose(projected, indicators, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["a + b", "a*x", "a + x:a", "o + a", "a/x", "0 + a + o"]))
def test_fixed__spans_what_formulaic_spans(seed: int, rhs: str) -> None:
    """Another program's coding of the same terms: other columns, the same space."""
    from formulaic import model_matrix

    rng = np.random.default_rng(seed)
    data = pd.DataFrame({name: pd.Categorical(rng.permutation(list("ppqqrrss"))) for name in "abo"})
    data = pd.concat([data] * 3, ignore_index=True).assign(x=rng.normal(size=24), y=0.0)
    X = fixed(rhs, data).X
    theirs = np.asarray(model_matrix(rhs, data, na_action="raise"), dtype=float)
    assert np.linalg.matrix_rank(theirs) == X.shape[1]
    np.testing.assert_allclose(X @ np.linalg.lstsq(X, theirs, rcond=None)[0], theirs, atol=1e-9)


def test_fixed__sleepstudy_has_two_plain_columns() -> None:
    data = {"Reaction": [250.0, 260.0, 251.0], "Days": [0, 1, 2]}
    parsed = parse_formula("Reaction ~ Days", data)
    np.testing.assert_array_equal(parsed.X, [[1, 0], [1, 1], [1, 2]])
    assert parsed.X_names == ("(Intercept)", "Days")
    assert parsed.y.dtype == parsed.X.dtype == np.float64
    assert (parsed.response, parsed.offset, parsed.random, parsed.n_dropped) == ("Reaction", None, (), 0)


def test_fixed__response_may_be_an_expression() -> None:
    data = frame()
    parsed = parse_formula("log(x) + 1 ~ a", data)
    np.testing.assert_allclose(parsed.y, np.log(data["x"]) + 1)
    assert parsed.response == "log(x) + 1"
    np.testing.assert_array_equal(parse_formula("l ~ x", data).y, data["l"].astype(float))


def test_fixed__offsets_are_summed_and_make_no_column() -> None:
    data = frame()
    parsed = parse_formula("y ~ x + offset(log(z)) + offset(2 * x)", data)
    assert parsed.X_names == ("(Intercept)", "x")
    np.testing.assert_allclose(parsed.offset, np.log(data["z"]) + 2 * data["x"])


def test_fixed__texts_and_conditions_compare() -> None:
    data = frame()
    parsed = fixed('I(s == "beta") + I(s %in% c("beta", "gamma") & x > 3)')
    np.testing.assert_array_equal(parsed.X[:, 1], data["s"] == "beta")
    np.testing.assert_array_equal(parsed.X[:, 2], data["s"].isin(["beta", "gamma"]) & (data["x"] > 3))


def test_fixed__functions_compute_what_r_computes() -> None:
    x, z = frame()["x"].to_numpy(), frame()["z"].to_numpy().astype(float)
    for text, value in {
        "log2(x)": np.log2(x), "log10(x)": np.log10(x), "log(x, base = 3)": np.log(x) / np.log(3),
        "tan(pi * x)": np.tan(np.pi * x), "x %% 3": x % 3, "x %/% 3": x // 3, "pmin(x, z)": np.minimum(x, z),
        "ifelse(x > 3, x, -z)": np.where(x > 3, x, -z), "round(x)": np.round(x), "I(2^z)": 2**z,
        "I(x - mean(x))": x - x.mean(), "I(x / sd(x))": x / x.std(ddof=1), "as.numeric(z)": z,
        "scale(x, scale = FALSE)": x - x.mean(), "I((x > 3) * 2)": (x > 3) * 2.0, "poly(x, 2, raw = T)": x,
    }.items():  # fmt: skip
        np.testing.assert_allclose(fixed(text).X[:, 1], value, err_msg=text)


def test_design__new_rows_get_the_same_columns_contrasts_and_transforms() -> None:
    data = frame()
    text = (
        "y ~ a*x + o + s + poly(z, 2) + scale(x) + I(z - mean(z)) + C(b, contr.sum) + relevel(b, ref = '2'):x"
        " + interaction(a, b) + I(x > 3) + factor(x.1) + l + offset(log(z))"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        parsed = parse_formula(text, data)
    for rows in ([3], [17, 0, 5], list(range(18))):
        new = data.iloc[rows].drop(columns="y").astype({"a": str, "b": str, "o": str})
        X, offset, groups = parsed.design(new)
        np.testing.assert_allclose(X, parsed.X[rows], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(offset, parsed.offset[rows])
        assert groups == {}


def test_design__refuses_levels_it_does_not_know_and_missing_values() -> None:
    parsed = parse_formula("y ~ a + x", frame())
    with pytest.raises(DataError, match=r"`a` has the level\(s\) r that the model was not built with; it knows p, q"):
        parsed.design({"a": ["p", "r"], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match="the new data have missing values: `x` 1"):
        parsed.design({"a": ["p", "q"], "x": [1.0, np.nan]})
    with pytest.raises(DataError, match="column `x` is not in the data"):
        parsed.design({"a": ["p", "q"]})


@pytest.mark.parametrize(
    ("rhs", "says"),
    [
        (".", r"`\.` \(all other columns\) is not supported"),
        ("x^2", r"`x\^2` is just `x` in a formula.*I\(x\^2\)"),
        ("(a + b)^0.5", "must be a whole number"),
        ("x + 2", "the number 2 is no term"),
        ("'x'", 'the text "x" is no term'),
        ("TRUE", "`TRUE` is a constant"),
        ("a %o% b", "the operator `%o%` is not known"),
        ("y + x", "the response `y` is also a term"),
        ("x ~ z", "`~` occurs twice"),
        ("x:offset(z)", r"offset\(\) can only be added"),
        ("x - offset(z)", r"offset\(\) can only be added"),
        ("lgo(x)", "a formula has no function `lgo`. Did you mean `log`"),
        ("ns(x, 3)", "a formula has no function `ns`. Use poly"),
        ("np.log(x)", r"Write log\(x\)"),
        ("eval(x)", "a formula has no function `eval`. Known: "),
        ("exp(1)", "reads no column"),
        ("mean(x)", "is one number for all rows"),
        ("log(s)", "`log.s.` cannot be computed: column `s` has levels"),
        ("I(s + 1)", "not numbers"),
        ("poly(x, 30)", "poly.. of degree 30 needs more than 30 distinct values; there are 18"),
        ("poly(x, 2, row = TRUE)", "unexpected keyword argument 'row'"),
        ("I(a:b)", "cannot stand inside a function"),
        ("I(factor(a) + 1)", "makes a factor"),
        ("C(b, contr.some)", "unknown contrasts `contr.some`.*Did you mean `contr.sum`"),
        ("C(b, contr.sum(4))", "there are 3 levels, not 4"),
        ("C(b, contr.treatment, base = 9)", "base = 9 is not the number of a level"),
        ("relevel(b)", "relevel.. needs the reference level"),
        ("factor(b, labels = c(1))", "the argument `labels` of factor.. is not supported"),
    ],
)
def test_fixed__what_cannot_be_meant_is_refused_with_a_remedy(rhs: str, says: str) -> None:
    with pytest.raises(FormulaError, match=says):
        parse_formula(f"y ~ {rhs}", frame())


@pytest.mark.parametrize(
    ("rhs", "says"),
    [
        (
            "log(x - 5)",
            r"`log\(x - 5\)` has 7 value\(s\) that are not finite, the first \(nan\) in row 1 of the 18 rows",
        ),
        ("relevel(b, ref = '7')", "there is no level `7`; there are 1, 2, 3"),
        ("factor(b, levels = c(1, 2))", r"leaves out the level\(s\) 3, which have rows"),
        ("one", "the factor `one` has only the level `k`"),
        ("when", "column `when` is no number"),
    ],
)
def test_fixed__data_that_cannot_be_used_are_refused_by_name(rhs: str, says: str) -> None:
    data = frame().assign(one="k", when=pd.date_range("2020-01-01", periods=18))
    with pytest.raises(DataError, match=says):
        parse_formula(f"y ~ {rhs}", data)


def test_fixed__nothing_but_the_listed_functions_is_ever_called() -> None:
    for text in ("__import__('os')", "open('x')", "getattr(x, 'y')", "x.__class__(x)", "I(x.__class__)", "exec('1')"):
        with pytest.raises((FormulaError, DataError)):
            parse_formula(f"y ~ {text}", frame())
