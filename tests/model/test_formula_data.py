"""Tables of any kind come in alike; rows with missing values leave by count; bad columns are named."""

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vcbench.errors import DataError, FormulaError
from vcbench.model.fixed_frame import Frame, sort_labels
from vcbench.model.formula import parse_formula


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "y": [1.0, 2.5, 3.0, 4.0, 2.0, 7.0, 1.0, 0.5],
            "n": [1, 2, 3, 4, 5, 6, 7, 9],
            "t": ["b", "a", "b", "c", "a", "b", "c", "a"],
            "c": pd.Categorical(["u", "v", "u", "w", "v", "w", "v", "u"], categories=["w", "v", "u"]),
            "b": [True, False, True, True, False, False, True, False],
            "g": [3, 3, 1, 5, 2, 2, 4, 4],
        }
    )


def as_polars(data: pd.DataFrame) -> Any:
    pl = pytest.importorskip("polars")
    return pl.from_pandas(data).with_columns(pl.col("c").cast(pl.Enum(["w", "v", "u"])))


KINDS = {
    "pandas": lambda d: d,
    "pandas with an odd index": lambda d: d.set_index(pd.Index([5, 5, 1, 0, 2, 2, 9, 9])),
    "pandas of objects": lambda d: d.astype({"y": object, "n": object, "t": object, "b": object, "g": object}),
    "pandas of nullable types": lambda d: d.astype({"y": "Float64", "n": "Int64", "t": "string", "b": "boolean"}),
    "pyarrow": lambda d: pa.Table.from_pandas(d),
    "polars": as_polars,
    "arrays": lambda d: {**{name: d[name].to_numpy() for name in d}, "c": d["c"].array},
    "lists": lambda d: {**{name: d[name].tolist() for name in d}, "c": d["c"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_frame__every_kind_of_table_gives_the_same_arrays(kind: str) -> None:
    text = "y ~ log(n) + t + c + (b | g) + (n | c:t)"
    plain, other = parse_formula(text, table()), parse_formula(text, KINDS[kind](table()))
    assert plain.X_names == other.X_names == ("(Intercept)", "log(n)", "tb", "tc", "cv", "cu")
    np.testing.assert_array_equal(plain.X, other.X)
    np.testing.assert_array_equal(plain.y, other.y)
    for mine, theirs in zip(plain.random, other.random, strict=True):
        assert (mine.group, mine.levels, mine.effects) == (theirs.group, theirs.levels, theirs.effects)
        np.testing.assert_array_equal(mine.codes, theirs.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_frame__missing_values_are_seen_in_every_kind_of_table(kind: str) -> None:
    text = "y ~ n + (1 | t) + (1 | c) + (1 | g) + offset(n * (b == TRUE))"
    data = table().astype({"n": float, "b": object, "g": float})
    for row, name in enumerate(data.columns):
        data.loc[row, name] = None
    data = KINDS[kind](pd.concat([data.iloc[:6], table()], ignore_index=True).iloc[:8])
    parsed = parse_formula(text, data)
    assert parsed.n_dropped == 6
    assert parsed.rows_used.tolist() == [6, 7]
    with pytest.raises(DataError, match="missing values in `y` 1, `n` 1, `b` 1, `t` 1, `c` 1, `g` 1"):
        parse_formula(text, data, missing="error")


def test_frame__a_polars_categorical_has_no_order_of_its_own() -> None:
    pl = pytest.importorskip("polars")
    data = pl.DataFrame({"y": [1.0, 2.0, 4.0], "f": ["c", "a", "b"]}, schema_overrides={"f": pl.Categorical})
    assert parse_formula("y ~ f", data).X_names == ("(Intercept)", "fb", "fc")
    with pytest.raises(DataError, match=r"Call \.collect\(\) first"):
        parse_formula("y ~ f", data.lazy())


def test_frame__a_missing_value_of_an_arrow_dictionary_stays_missing() -> None:
    column = pa.array(["u", "v", None, "u"]).dictionary_encode()
    frame = Frame(pa.table({"f": column}))
    assert frame.column("f").values.tolist() == [0, 1, -1, 0]


def test_missing__only_columns_of_the_formula_count() -> None:
    data = table().assign(other=np.nan)
    data.loc[2, "n"] = np.nan
    assert parse_formula("y ~ n", data).n_dropped == 1
    assert parse_formula("y ~ t + (1 | g)", data).n_dropped == 0
    assert parse_formula("y ~ t + n - n", data).n_dropped == 0


def test_missing__levels_left_without_rows_are_dropped_and_named_nowhere() -> None:
    data = table().astype({"y": float})
    data.loc[data["c"] == "w", "y"] = np.nan
    parsed = parse_formula("y ~ c + (1 | t) + (1 | g)", data)
    assert parsed.X_names == ("(Intercept)", "cu")
    assert parsed.random[1].levels == ("1", "2", "3", "4")
    with pytest.raises(DataError, match="the factor `c` has only the level `u` in the rows used"):
        parse_formula("y ~ c", data[data["c"] != "v"])


def test_missing__transforms_learn_from_all_rows_that_have_their_column_as_in_r() -> None:
    """lme4 1.1-31, first used row of X: d (18 rows) with y missing in rows 3 and 7 and z in row 5,
    lFormula(y ~ poly(x, 2) + scale(z) + (1 | g), d)$X[1, ]
    """
    i = np.arange(1.0, 19)
    y, z = np.cos(i), (i * 7) % 11 + 1
    y[[2, 6]], z[4] = np.nan, np.nan
    parsed = parse_formula("y ~ poly(x, 2) + scale(z)", {"y": y, "x": i**2 / 10, "z": z})
    assert parsed.n_dropped == 3
    np.testing.assert_allclose(parsed.X[0], [1, -0.269906631685, 0.276909464397, 0.454879250423], rtol=1e-10)
    X, _, _ = parsed.design({"x": i**2 / 10, "z": (i * 7) % 11 + 1})
    np.testing.assert_allclose(X[parsed.rows_used], parsed.X, rtol=1e-12)


# R 4.2.2 in a UTF-8 locale (ICU): sort() of these
SORTED = [" a", "_a", "#a", "1", "10", "2", "A", "a b", "a_b", "a-b", "a:b", "a.b", "a/b", "a+b", "a1", "aa", "ab",
          "aB", "Ab", "b", "B", "e", "E", "é", "É", "f", "z", "α"]  # fmt: skip


def test_levels__texts_are_sorted_as_r_sorts_them() -> None:
    assert sort_labels(sorted(SORTED)) == SORTED
    assert sort_labels(["b10", "b9", "a"]) == ["a", "b10", "b9"]
    assert parse_formula("y ~ f", {"y": [1, 2, 4], "f": ["b", "C", "a"]}).X_names == ("(Intercept)", "fb", "fC")


def test_levels__mixed_objects_are_labels() -> None:
    data = {"y": [1.0, 2.0, 4.0, 8.0], "f": pd.Series(["x", 2, "x", 1], dtype=object)}
    assert parse_formula("y ~ f", data).X_names == ("(Intercept)", "f2", "fx")


@pytest.mark.parametrize(
    ("formula", "change", "says"),
    [
        ("y ~ m", {}, "column `m` is not in the data. The columns are y, n, t, c, b, g"),
        ("y ~ n + (1 | gg)", {"group": 1}, "column `gg` is not in the data"),
        ("y ~ weigth", {"weight": 1.0}, "column `weigth` is not in the data. Did you mean `weight`"),
        ("t ~ n", {}, "the response `t` is not numeric: it holds a, b, c"),
        ("c ~ n", {}, "the response `c` is not numeric"),
        (
            "y ~ n",
            {"y": np.inf},
            r"column `y` has 8 value\(s\) that are not finite, the first \(inf\) in row 1 ",
        ),
        ("log(y - 0.5) ~ n", {}, r"`log\(y - 0.5\)` has 1 value\(s\) that are not finite, the first \(-inf\) in row 8"),
        ("y ~ n", {"n": -np.inf}, "column `n` has 8 value"),
        ("y ~ (1 | n)", {"n": np.inf}, "column `n` has 8 value"),
        ("y ~ n", {"n": np.nan}, "no row is complete: missing values in `n` 8 of 8 rows"),
        ("y ~ n + offset(t)", {}, r"column `t` has levels \(a, b, c\) and is no number"),
    ],
)
def test_data__what_cannot_be_used_is_refused_by_name(formula: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_formula(formula, table().assign(**change))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"y": [1.0, 2.0], "x": [1.0]}, "column `x` has 1 rows where the first column has 2"),
        ({"y": [], "x": []}, "the data have no rows"),
        ({}, "the data have no rows"),
        (pd.DataFrame({"y": [], "x": []}), "the data have no rows"),
        ({"y": np.zeros((2, 2)), "x": [1, 2]}, r"column `y` has shape \(2, 2\)"),
        ({"y": [1j, 2j], "x": [1, 2]}, "column `y` holds complex values"),
        ([1, 2], "data of type list cannot be read as a table"),
        (np.zeros((3, 2)), "data of type ndarray cannot be read"),
        (None, "data of type NoneType cannot be read"),
        (pd.DataFrame([[1, 2, 3]], columns=["y", "x", "x"]), "the table cannot be read: .*unique"),
    ],
)
def test_data__what_is_no_table_is_refused(data: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_formula("y ~ x", data)


def test_parse_formula__wrong_arguments_are_refused() -> None:
    with pytest.raises(FormulaError, match="a formula is a text such as"):
        parse_formula(3, table())  # type: ignore[arg-type]
    with pytest.raises(FormulaError, match='missing must be "drop" or "error", not \'omit\''):
        parse_formula("y ~ n", table(), missing="omit")  # type: ignore[arg-type]
    for text, says in {
        "y n": "unexpected `n`", "y": "has no `~`", "~ n": "has no response", "cbind(y, n) ~ 1": "fit_many",
        "poly(y, 2) ~ n": "has 2 columns", "1 ~ n": "reads no column", "y ~ n ~ g": "`~` occurs twice",
    }.items():  # fmt: skip
        with pytest.raises(FormulaError, match=says):
            parse_formula(text, table())


def test_parsed__can_be_pickled_for_a_worker() -> None:
    parsed = parse_formula("y ~ poly(n, 2) + t + (1 | g)", table())
    again = pickle.loads(pickle.dumps(parsed))
    for mine, theirs in zip(parsed.design(table())[:1], again.design(table())[:1], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert "array" not in repr(parsed)


def test_import__formulaic_is_loaded_by_an_expression_only() -> None:
    code = (
        "import sys; from vcbench.model.formula import parse_formula as p; assert 'pandas' not in sys.modules;"
        "d = {'y': [1., 2., 4.], 'x': [0., 1., 3.], 'g': ['a', 'b', 'b']};"
        "p('y ~ x + (x | g)', d); assert 'formulaic' not in sys.modules;"
        "p('y ~ I(x^2)', d); assert 'formulaic' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
