"""Numbers as text: the digits follow the SE, p is never 0.0000, times carry their unit."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcbench import numbers as num


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (1764.0496, 1432.7535, "1764.05 (1432.75)"),
        (1527.5, 19.3834, "1527.50 (19.38)"),
        (0.4185, 0.2157, "0.418 (0.216)"),
        (0.412, 0.0805, "0.4120 (0.0805)"),
        (-1.32, 2.5, "−1.32 (2.50)"),
        (None, 1.0, "–"),
        (float("nan"), 1.0, "–"),
    ],
)
def test_with_se__digits_follow_the_standard_error(value, se, text):
    assert num.with_se(value, se) == text


@pytest.mark.parametrize(
    ("value", "mcse", "text"),
    [(-0.1234, 0.2, "−0.1 ± 0.2"), (94.62, 0.71, "94.6 ± 0.7"), (12.3, 3.1, "12 ± 3"), (0.5, 0.0996, "0.5 ± 0.1")],
)
def test_plus_minus__one_digit_of_the_mcse(value, mcse, text):
    assert num.plus_minus(value, mcse) == text


def test_plus_minus__an_error_of_rounding_adds_no_digits():
    assert num.plus_minus(98.9974874213, 1e-12) == "98.9975 ± 0.0000"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0058, "0.0058"), (0.00001, "<0.001"), (0.0, "<0.001"), (1.0, "1.00"), (0.9999, "1.00"), (0.05, "0.050")],
)
def test_p_value__reads_as_printed_in_papers(p, text):
    assert num.p_value(p) == text


def test_p_value__powers_of_ten_on_request():
    assert num.p_value(2.3698e-13, smallest=0) == "2.37e−13"
    assert num.p_clause(0.0058) == "p = 0.0058"
    assert num.p_clause(1e-9) == "p < 0.001"


@given(st.floats(0, 1))
def test_p_value__is_never_zero(p):
    for smallest in (0.001, 0):
        assert num.p_value(p, smallest).strip("0.") != ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0009, "0.9 ms"),
        (0.000045, "45 µs"),
        (0.0096, "9.6 ms"),
        (0.25, "250 ms"),
        (2.4, "2.4 s"),
        (14.2, "14 s"),
        (112, "1 min 52 s"),
        (761, "12 min 41 s"),
        (11100, "3 h 05 min"),
        (0, "0 s"),
        (None, "–"),
    ],
)
def test_seconds__carry_a_unit(value, text):
    assert num.seconds(value) == text


@given(st.floats(1e-9, 1e6))
def test_seconds__never_print_sixty_seconds_or_a_thousand_ms(value):
    text = num.seconds(value)
    assert "60 s" not in text
    assert "1000 ms" not in text
    assert not text.startswith("0.0 ")


@pytest.mark.parametrize(
    ("value", "text"),
    [(6.02e-9, "6.02e−9"), (6e-9, "6e−9"), (0.0123456, "0.0123"), (-871.814136, "−872"), (0, "0"), (math.inf, "∞")],
)
def test_significant__keeps_its_digits(value, text):
    assert num.significant(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.946, "94.6 %"), (0.0002, "0.02 %"), (0, "0 %"), (1, "100 %"), (0.99998, "99.99 %"), (1e-6, "<0.01 %")],
)
def test_percent__says_all_only_of_all(share, text):
    assert num.percent(share).replace(num.THIN, " ") == text


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.floats(1e-6, 1e6))
def test_estimate__is_within_half_a_unit_of_its_last_digit(value, se):
    shown = float(num.estimate(value, se).replace(num.MINUS, "-"))
    assert abs(shown - value) <= 0.5 * 10.0 ** -num.decimals(se, 3, 2) * (1 + 1e-9) + 1e-9 * abs(value)


def test_counts_and_lists__read_as_prose():
    assert num.count(360000) == f"360{num.THIN}000"
    assert num.count(1480) == "1480"
    assert num.plural(1, "fit") == "1 fit"
    assert num.listing(["ai"]) == "ai"
    assert num.listing(["ai", "em", "newton"]) == "ai, em and newton"
    assert num.listing([]) == ""
    assert num.times(82.3) == "82 times"


def test_numbers__load_neither_altair_nor_rich():
    code = "import sys, vcbench.numbers; print(sorted({'altair', 'rich', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
