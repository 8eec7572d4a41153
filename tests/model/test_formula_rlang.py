"""R's expressions read and printed as R reads and prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcbench.errors import FormulaError
from vcbench.model.rlang import Call, Name, Node, Num, Str, deparse, format_number, names_in, parse

# R 4.2.2: deparse(quote(...)) of the same text without the blanks
DEPARSED = """
a%%2 + b%/%c - (d %in% e) * -3^-2/!x && y || z & w | q
f(x, a = 1, "s", T, 1L, -1)
x <= 2 & !y != 3
-x^2
(-x)^2
2^3^4
(2^3)^4
a - (b - c)
a - b - c
-a:b
a/(b * c)
1e+05 * 0.00012 + 1234567 + 1e-20 + 0.1
`a b` + `if` + .x
""".strip().splitlines()


@pytest.mark.parametrize("text", DEPARSED)
def test_deparse__prints_what_r_prints(text: str) -> None:
    squeezed = "".join(text.split()) if "`a b`" not in text else text
    squeezed = squeezed.replace("%in%", " %in% ")
    assert deparse(parse(squeezed)) == text


# R 4.2.2: as.character() and deparse() of a double agree on these
@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e5, "1e+05"), (123456.0, "123456"), (1e-4, "1e-04"), (0.001, "0.001"), (1e15, "1e+15"),
     (123456789.123, "123456789.123"), (1234567890123.0, "1234567890123"), (0.1 + 0.2, "0.3"), (100.0, "100"),
     (1 / 3, "0.333333333333333"), (3e5, "3e+05"), (1200000.0, "1200000"), (0.00012, "0.00012"), (1e300, "1e+300"),
     (-2.5, "-2.5"), (0.0, "0")],
)  # fmt: skip
def test_format_number__has_fifteen_digits_and_the_shorter_form(value: float, text: str) -> None:
    assert format_number(value) == text


def test_parse__follows_the_precedence_of_r() -> None:
    a, b, c = Name("a"), Name("b"), Name("c")
    assert parse("a + b * c") == Call("+", (a, Call("*", (b, c))))
    assert parse("a * b:c") == Call("*", (a, Call(":", (b, c))))
    assert parse("-a:b") == Call(":", (Call("-", (a,)), b))
    assert parse("-a^2") == Call("-", (Call("^", (a, Num(2.0))),))
    assert parse("a | b / c") == Call("|", (a, Call("/", (b, c))))
    assert parse("a ** b") == parse("a ^ b")
    assert parse("y ~ a - b # a comment") == Call("~", (Name("y"), Call("-", (a, b))))
    assert parse("a\n + b") == parse("a + b")
    assert parse("a %in% b * c") == Call("*", (Call("%in%", (a, b)), c))


def test_parse__keeps_names_of_arguments_and_odd_names_of_columns() -> None:
    assert parse("f(x, raw = TRUE, \"k\" = 0x1F, 't')") == Call(
        "f", (Name("x"), Name("TRUE"), Num(31.0), Str("t")), ("", "raw", "k", "")
    )
    assert list(names_in(parse("I(`my var` + x.1) + größe + poly(.b, 2)"))) == ["my var", "x.1", "größe", ".b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("y ~ (x", r"the `\(` at character 5 is never closed"),
        ("y ~ x)", r"the `\)` at character 6 closes nothing"),
        ("y ~ 'x", "the quote ' is never closed"),
        ("y ~ x +", "ends where a variable or a number was expected"),
        ("y ~ x z", "unexpected `z` .character 7.; expected an operator"),
        ("y ~ x * / z", "unexpected `/` .character 9.; expected a variable"),
        ("y ~ a < b < c", "unexpected `<`"),
        ("y ~ d$x", r"`\$` .character 6. is not supported. Compute the column"),
        ("y ~ x[1]", "is not supported"),
        ("y ~ stats::poly(x)", "`::` .character 10. is not supported"),
        ("y ~ x € z", "`€` has no meaning in a formula"),
        ("", "the formula is empty"),
        ("y ~ ``", "an empty name"),
    ],
)
def test_parse__names_the_place_that_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(FormulaError, match=says):
        parse(text)


LEAVES = st.one_of(
    st.sampled_from(["x", "a.b", "two words", ".z", "if"]).map(Name),
    st.floats(0, 1e6).map(lambda v: Num(float(f"{v:.6g}"))),
    st.sampled_from(["lo", 'say "hi"']).map(Str),
)


def _extend(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    closed = inner.map(lambda node: Call("(", (node,)) if isinstance(node, Call) and node.fn != "f" else node)
    return st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/", "^", ":", "%in%", "<", "&", "|"]), closed, closed).map(
            lambda t: Call(t[0], t[1:])
        ),
        st.tuples(st.sampled_from("-!"), closed).map(lambda t: Call(t[0], t[1:])),
        st.lists(inner, min_size=1, max_size=3).map(lambda args: Call("f", tuple(args))),
        inner.map(lambda node: Call("f", (node, Num(2.0)), ("", "raw"))),
    )


@given(st.recursive(LEAVES, _extend, max_leaves=12))
def test_deparse__then_parse_is_the_same_tree(node: Node) -> None:
    assert parse(deparse(node)) == node
