"""Numbers as people read them: digits follow the standard error, p is never 0.0000, times carry their unit.

Light on purpose (standard library only): summaries, the command line and the report share it.
A value that is absent (None or NaN) is an en dash. Negative numbers carry a real minus sign (U+2212).
"""

from math import ceil, floor, inf, isfinite, log10

ABSENT = "–"
MINUS = "−"
THIN = "\u202f"


def is_absent(value: float | None) -> bool:
    """True for None and NaN."""
    return value is None or value != value


def decimals(se: float | None, digits: int = 2, least: int = 0, most: int = 12) -> int:
    """Decimals that show `digits` significant digits of `se`, between `least` and `most`.

    The number of decimals is digits − 1 − ⌊log₁₀ se⌋, taken after rounding, so that 0.0996 counts as 0.10.
    An `se` that is absent, zero or infinite gives `least`.
    """
    if se is None or not isfinite(se) or se == 0:
        return least
    size = floor(log10(abs(se)))
    if round(abs(se) / 10.0 ** (size - digits + 1)) >= 10**digits:
        size += 1
    return min(max(digits - 1 - size, least), most)


def fixed(value: float | None, places: int) -> str:
    """`value` with `places` decimals; never a negative zero."""
    if value is None or value != value:
        return ABSENT
    if not isfinite(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:.{places}f}"
    if text.startswith("-"):
        text = text[1:] if float(text) == 0 else MINUS + text[1:]
    return text


def significant(value: float | None, digits: int = 3) -> str:
    """`value` to `digits` significant digits, as a power of ten below 1e-4 and from 1e7: 0.0123, 4.6e-9."""
    if value is None or value != value or not isfinite(value):
        return fixed(value, 0)
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        return fixed(value, decimals(value, digits))
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(power)}".replace("-", MINUS)


def estimate(value: float | None, se: float | None = None, digits: int = 3, least: int = 2) -> str:
    """An estimate whose decimals follow its SE: three digits of it, two decimals at least: 1764.05, 0.418, 0.0805.

    Without an SE: five significant digits.
    """
    if is_absent(value):
        return ABSENT
    if is_absent(se) or se == 0:
        return significant(value, 5)
    return fixed(value, decimals(se, digits, least))


def with_se(value: float | None, se: float | None, digits: int = 3, least: int = 2) -> str:
    """`1764.05 (1432.75)`: estimate and its SE with the same decimals."""
    if is_absent(value):
        return ABSENT
    return f"{estimate(value, se, digits, least)} ({estimate(se, se, digits, least)})"


def plus_minus(value: float | None, mcse: float | None, digits: int = 1, least: int = 0) -> str:
    """`−0.12 ± 0.05`: a measure and its Monte Carlo standard error, `digits` significant digits of the latter."""
    if is_absent(value):
        return ABSENT
    if is_absent(mcse):
        return significant(value, 3)
    if value is not None and mcse is not None and max(abs(value), abs(mcse)) >= 1e7:
        return f"{significant(value, 2)} ± {significant(mcse, digits)}"
    places = min(decimals(mcse, digits, least), decimals(value, 6, 1)) if mcse else max(least, 1)
    return f"{fixed(value, places)} ± {fixed(mcse, places)}"


def interval(lower: float | None, upper: float | None, se: float | None = None) -> str:
    """`[245.15, 10214.36]`; the decimals follow `se`, or the width where there is none."""
    if is_absent(lower) and is_absent(upper):
        return ABSENT
    scale = se
    if is_absent(scale) and lower is not None and upper is not None and isfinite(upper - lower):
        scale = (upper - lower) / 4
    low, high = ("0" if value == 0 else estimate(value, scale) for value in (lower, upper))  # 0 is a bound: no rounding
    return f"[{low}, {high}]"


def p_value(p: float | None, smallest: float = 0.001) -> str:
    """A p-value with two significant digits, `<0.001` below `smallest`; `smallest=0` gives powers of ten instead.

    Never 0.0000, and 1.00 only for what rounds to it.
    """
    if p is None or p != p:
        return ABSENT
    if p < smallest:
        return f"<{smallest:g}"
    if p == 0:
        return "<1e−300"
    if p < 1e-4:
        return significant(p, 3)
    return fixed(p, max(2, decimals(p, 2))) if p < 0.995 else "1.00"


def p_clause(p: float | None, smallest: float = 0.001) -> str:
    """`p = 0.0058` or `p < 0.001`, for a sentence."""
    text = p_value(p, smallest)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def seconds(value: float | None) -> str:
    """A duration with its unit: 45 µs, 0.9 ms, 2.4 s, 12 min 41 s, 3 h 05 min."""
    if value is None or value != value or not isfinite(value):
        return ABSENT
    if value < 0:
        return MINUS + seconds(-value)
    if value == 0:
        return "0 s"
    if value < 9.5e-5:
        return f"{max(value * 1e6, 0.1):.{0 if value >= 9.5e-6 else 1}f} µs"
    if value < 0.9995:
        return f"{fixed(value * 1e3, decimals(value * 1e3, 2, 0, 1))} ms"
    if value < 59.5:
        return f"{fixed(value, 1 if value < 9.95 else 0)} s"
    total = round(value)
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    minutes = ceil(value / 60 - 0.5)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(value: float | None, separator: str = THIN) -> str:
    """A whole number in groups of three from 10 000 on."""
    if value is None or value != value or abs(value) == inf:
        return ABSENT
    whole = round(value)
    text = f"{abs(whole):,}".replace(",", separator) if abs(whole) >= 10_000 else str(abs(whole))
    return MINUS + text if whole < 0 else text


def percent(share: float | None, places: int | None = None) -> str:
    """A proportion in per cent: 94.6 %, 0.02 %, 0 %, 100 % only where it is all of them, `<0.01 %` for a trace."""
    if share is None or share != share:
        return ABSENT
    if share in (0, 1):
        return f"{100 * share:.0f}{THIN}%"
    value = 100 * share
    if places is None:
        near = min(abs(value), abs(100 - value))
        places = 1 if near >= 0.1 else 2
    if 0 < value < 0.5 * 10**-places:
        return f"<{10**-places:g}{THIN}%"
    text = fixed(value, places)
    if value < 100 and float(text.replace(MINUS, "-")) >= 100:
        text = f"{100 - 10**-places:.{places}f}"
    return f"{text}{THIN}%"


def times(ratio: float | None) -> str:
    """A factor for a sentence: 1.4 times, 82 times, 3 400 times."""
    if ratio is None or ratio != ratio or not isfinite(ratio):
        return ABSENT
    return f"{fixed(ratio, 1) if ratio < 9.95 else count(float(f'{ratio:.2g}'))} times"


def plural(n: float, one: str, many: str | None = None) -> str:
    """`1 fit`, `3 fits`, `12 000 fits`."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def listing(words: list[str], most: int = 8) -> str:
    """`a`, `a and b`, `a, b and c`; beyond `most` the rest is counted."""
    words = list(words)
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} more"]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""
