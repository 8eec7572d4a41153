"""Random terms: lme4's groups, effects and order; blocks that say what is correlated."""

import itertools
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcbench.errors import DataError, FormulaError
from vcbench.model.formula import Parsed, RankWarning, parse_formula


def frame() -> pd.DataFrame:
    """What R makes with
    d <- expand.grid(b = factor(1:3), a = factor(c("p","q")), o = ordered(c("lo","mi","hi"), c("lo","mi","hi")))
    d$x <- (1:18)^2 / 10; d$z <- ((1:18) * 7) %% 11 + 1; d$l <- d$z > 5; d$y <- cos(1:18)
    d$g <- factor(rep(c("u","v","w"), each = 6)); d$h <- factor(c(1,1,2,2,10,10)); d$`g g` <- d$g
    """
    cells = list(itertools.product(["lo", "mi", "hi"], ["p", "q"], [1, 2, 3]))
    i = np.arange(1, 19)
    z = (i * 7) % 11 + 1
    group = np.repeat(["u", "v", "w"], 6)
    return pd.DataFrame(
        {
            "a": [a for _, a, _ in cells],
            "b": pd.Categorical([b for _, _, b in cells]),
            "o": pd.Categorical([o for o, _, _ in cells], categories=["lo", "mi", "hi"], ordered=True),
            "x": i**2 / 10,
            "z": z,
            "l": z > 5,
            "y": np.cos(i),
            "g": group,
            "h": [1.0, 1.0, 2.0, 2.0, 10.0, 10.0] * 3,
            "g g": group,
        }
    )


def parsed(random: str) -> Parsed:
    return parse_formula(f"y ~ z + {random}", frame())


# lme4 1.1-31: with r <- lFormula(y ~ z + ..., d)$reTrms, the names and elements of r$cnms
LME4 = {
    "(1 | g)": "g[(Intercept)]",
    "(x | g)": "g[(Intercept), x]",
    "(x || g)": "g[(Intercept)]; g[x]",
    "(0 + x | g)": "g[x]",
    "(-1 + x | g)": "g[x]",
    "(x - 1 | g)": "g[x]",
    "(1 | g/h)": "h:g[(Intercept)]; g[(Intercept)]",
    "(1 | g:h)": "g:h[(Intercept)]",
    "(x | g/h)": "h:g[(Intercept), x]; g[(Intercept), x]",
    "(1 | g/h/a)": "a:(h:g)[(Intercept)]; h:g[(Intercept)]; g[(Intercept)]",
    "(1 | g/h:a)": "h:a:g[(Intercept)]; g[(Intercept)]",
    "(a | g)": "g[(Intercept), aq]",
    "(0 + a | g)": "g[ap, aq]",
    "(a || g)": "g[(Intercept)]; g[ap, aq]",
    "(0 + a || g)": "g[ap, aq]",
    "(x * a || g)": "g[(Intercept)]; g[x]; g[ap, aq]; g[x:ap, x:aq]",
    "(o | g)": "g[(Intercept), o.L, o.Q]",
    "(l | g)": "g[(Intercept), lTRUE]",
    "(a * x | g)": "g[(Intercept), aq, x, aq:x]",
    "(0 + a:x | g)": "g[ap:x, aq:x]",
    "(I(x^2) + poly(z, 2) | g)": "g[(Intercept), I(x^2), poly(z, 2)1, poly(z, 2)2]",
    "(1 | g) + (0 + x | g)": "g[(Intercept)]; g[x]",
    "(1 | g) + (1 | h)": "g[(Intercept)]; h[(Intercept)]",
    "(1 | `g g`)": "g g[(Intercept)]",
    "(1 | `g g`:a)": "`g g`:a[(Intercept)]",
}


@pytest.mark.parametrize("random", LME4)
def test_random__blocks_are_the_terms_of_lme4(random: str) -> None:
    blocks = [
        f"{term.group}[{', '.join(term.effects[i] for i in block)}]"
        for term in parsed(random).random
        for block in term.blocks
    ]
    assert "; ".join(blocks) == LME4[random]


@pytest.mark.parametrize("random", LME4)
def test_random__blocks_partition_the_effects_and_codes_point_into_levels(random: str) -> None:
    for term in parsed(random).random:
        assert sorted(i for block in term.blocks for i in block) == list(range(len(term.effects)))
        assert term.A.shape == (18, len(term.effects))
        assert term.codes.dtype == np.int64
        assert set(term.codes) == set(range(len(term.levels)))  # no level without a row


def test_random__effects_of_one_group_are_merged_and_stay_uncorrelated() -> None:
    for text in ("(1 | g) + (0 + x | g)", "(x || g)", "((1 | g)) + (x - 1 | g)"):
        (term,) = parsed(text).random
        assert (term.group, term.effects, term.blocks) == ("g", ("(Intercept)", "x"), ((0,), (1,)))
        np.testing.assert_array_equal(term.A, np.column_stack([np.ones(18), frame()["x"]]))
    (term,) = parsed("(a || g)").random
    assert (term.effects, term.blocks) == (("(Intercept)", "ap", "aq"), ((0,), (1, 2)))


def test_random__overlapping_effects_of_one_group_are_terms_of_their_own() -> None:
    first, second, third = parsed("(x | g) + (1 | g) + (z + 1 | g)").random
    assert (first.group, second.group, third.group) == ("g", "g.1", "g.2")
    first, second = parsed("(1 | g) + (1 | h) + (1 | g) + (0 + x | g)").random[::2]
    assert (first.group, first.effects, second.group) == ("g", ("(Intercept)", "x"), "g.1")


def test_random__groups_are_in_the_order_of_the_formula() -> None:
    terms = parsed("(1 | h) + x + (x | g/a)").random
    assert [term.group for term in terms] == ["h", "a:g", "g"]


def test_random__levels_are_ordered_and_named_like_r() -> None:
    """lme4 1.1-31: levels(lFormula(y ~ z + (1 | g/h), d)$reTrms$flist[[1]]) and as.integer() of it."""
    nested, outer = parsed("(1 | g/h)").random
    assert nested.levels == ("1:u", "1:v", "1:w", "2:u", "2:v", "2:w", "10:u", "10:v", "10:w")
    assert (nested.codes + 1).tolist() == [1, 1, 4, 4, 7, 7, 2, 2, 5, 5, 8, 8, 3, 3, 6, 6, 9, 9]
    assert outer.levels == ("u", "v", "w")
    (term,) = parsed("(1 | g:h:a)").random  # only the cells that occur
    assert " ".join(term.levels[:5]) == "u:1:p u:2:p u:2:q u:10:q v:1:p"
    assert len(term.levels) == 12


def test_random__numbers_are_labels() -> None:
    data = {
        "y": np.arange(6.0),
        "n": [3.0, 1.0, 3.0, 1.0, 2.0, 2.0],
        "r": [0.5, 0.1, 0.5, 1.0, 1e-7, 2.0],
        "b": [True, False] * 3,
    }
    for group, levels in {"n": ("1", "2", "3"), "r": ("1e-07", "0.1", "0.5", "1", "2"), "b": ("FALSE", "TRUE")}.items():
        assert parse_formula(f"y ~ (1 | {group})", data).random[0].levels == levels
    big = {"y": [1.0, 2.0], "id": np.array([2**53 + 1, 2**53 + 2])}
    assert parse_formula("y ~ (1 | id)", big).random[0].levels == ("9007199254740993", "9007199254740994")


def test_random__groups_may_be_made_by_factor() -> None:
    (term,) = parsed("(1 | factor(h))").random
    assert (term.group, term.levels) == ("factor(h)", ("1", "2", "10"))


def test_random__a_formula_of_random_terms_alone_has_an_intercept() -> None:
    assert parse_formula("y ~ (1 | g)", frame()).X_names == ("(Intercept)",)
    assert parse_formula("y ~ (1 | g) - 1 + x", frame()).X_names == ("x",)
    assert parse_formula("y ~ (x + (1 | g)) + (z)", frame()).X_names == ("(Intercept)", "x", "z")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from("pqr")), min_size=2, max_size=30))
def test_random__codes_of_combinations_tell_rows_apart_as_their_factors_do(rows: list[tuple[int, int, str]]) -> None:
    g, h, a = zip(*rows, strict=True)
    term = parse_formula("y ~ (1 | g:h:a)", {"y": np.arange(len(rows)), "g": g, "h": h, "a": list(a)}).random[0]
    labels = [term.levels[code] for code in term.codes]
    assert labels == [f"{i}:{j}:{k}" for i, j, k in rows]
    assert len(set(term.levels)) == len(term.levels) == len(set(rows))
    order = [(int(i), int(j), k) for i, j, k in (label.split(":") for label in term.levels)]
    assert order == sorted(order)


def test_design__groups_may_have_new_levels_and_effects_are_coded_as_before() -> None:
    model = parsed("(a*x + poly(z, 2) || g) + (o | h:a)")
    X, offset, groups = model.design(frame())
    np.testing.assert_array_equal(X, model.X)
    assert offset is None
    for term in model.random:
        A, labels = groups[term.group]
        np.testing.assert_allclose(A, term.A, rtol=1e-13)
        assert labels.tolist() == [term.levels[code] for code in term.codes]
    new = frame().iloc[[4, 0]].assign(g=["new", "u"], h=[99.0, 1.0]).drop(columns="y")
    _, _, groups = model.design(new)
    assert groups["g"][1].tolist() == ["new", "u"]
    assert groups["h:a"][1].tolist() == ["99:q", "1:p"]
    np.testing.assert_allclose(groups["g"][0], model.random[0].A[[4, 0]], rtol=1e-13)
    X, _, groups = model.design(new[["z"]], random=False)
    np.testing.assert_array_equal(X, model.X[[4, 0]])
    assert groups == {}
    with pytest.raises(DataError, match="column `h` is not in the data"):
        model.design(new.drop(columns="h"))


@pytest.mark.parametrize(
    ("rhs", "says"),
    [
        ("x + 1 | g", r"the random term `\(x \+ 1 \| g\)` stands where it cannot. Put parentheses around it"),
        ("x * (1 | g)", "A random term is joined to the rest with `.`"),
        ("x - (1 | g)", "A random term is joined to the rest"),
        ("x:(1 | g)", "A random term is joined to the rest"),
        ("(x + (1 | h) | g)", "must stand in parentheses and be joined"),
        ("(1 | g + h)", r"`g \+ h` is no grouping factor.*\(1 \| g\) \+ \(1 \| h\).*\(1 \| g:h\)"),
        ("(1 | g * h)", "is no grouping factor"),
        ("(1 | a %in% g)", r"`%in%` is not read right of a bar. For a nested in g write \(1 \| g/a\)"),
        ("(1 | log(x))", r"`log\(x\)` is no grouping factor; expected a column, a:b, a/b or factor"),
        ("(1 | 3)", "`3` is no grouping factor"),
        ("(1 | (g/h):a)", "`g/h` is no grouping factor"),
        ("(0 | g)", r"has no effect. Write \(1 \| g\)"),
        ("(2 | g)", "the number 2 is no term"),
        ("(offset(x) | g)", "offset.. cannot stand in the random term"),
        ("(1 | g", r"the `\(` at character 5 is never closed"),
    ],
)
def test_random__what_cannot_be_meant_is_refused_with_a_remedy(rhs: str, says: str) -> None:
    with pytest.raises(FormulaError, match=says):
        parse_formula(f"y ~ {rhs}", frame())


def test_random__a_logical_or_inside_a_function_is_no_bar() -> None:
    model = parse_formula("y ~ I(x > 3 | z > 9) + (1 | g)", frame())
    assert model.X_names == ("(Intercept)", "I(x > 3 | z > 9)TRUE")


PIECES = [
    "x",
    "z",
    "a",
    "o",
    "1",
    "0",
    "-1",
    "x:a",
    "a*x",
    "I(x^2)",
    "(1 | g)",
    "(x | h)",
    "(a || g/h)",
    "offset(z)",
    "(1 |",
    ")",
]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), st.sampled_from([" + ", " - ", "*", " | ", ":"]))
def test_parse_formula__reads_or_refuses_any_formula_and_never_crashes(pieces: list[str], joint: str) -> None:
    text = re.sub(r"\+ -", "-", "y ~ " + joint.join(pieces))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        try:
            model = parse_formula(text, frame())
        except FormulaError:
            return
    assert np.linalg.matrix_rank(model.X) == model.X.shape[1] == len(model.X_names)
