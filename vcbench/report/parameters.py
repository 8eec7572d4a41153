"""Names of parameters: which are variance parameters, and in what order a model has them."""

import re
from collections.abc import Mapping
from typing import Any

_THETA = re.compile(r":(var|cov|sd|cor|rho\w*|phi\w*|theta\w*|range\w*|nugget\w*)(\(.*\))?$")


def is_theta(parameter: str) -> bool:
    """True for a variance parameter's name, as `Subject:var(Days)` or `residual:rho`."""
    return bool(_THETA.search(parameter))


def order_parameters(run: Mapping[str, Any], present: list[str]) -> tuple[str, ...]:
    """Variance parameters first, residual last among them, then β; otherwise in the run's order."""
    listed = run.get("parameters") or []
    if isinstance(listed, Mapping):
        listed = [p for part in listed.values() for p in (part if isinstance(part, (list, tuple)) else [part])]
    order = [p for p in dict.fromkeys(str(p) for p in listed) if p in present]
    order += [p for p in present if p not in order]
    if not listed:
        order = _natural(order)
    return tuple(sorted(order, key=lambda p: (not is_theta(p), p.startswith("residual:"), order.index(p))))


def _natural(parameters: list[str]) -> list[str]:
    """Parameters read back sorted by name, as a model has them: intercepts first, Ω by columns of its lower triangle.

    The order of effects is what the names of their covariances say: cov(a,b) has a before b.
    """
    before: dict[tuple[str, str], int] = {}
    pairs: dict[str, tuple[str, str, str]] = {}
    for p in parameters:
        component, _, rest = p.partition(":")
        inner = rest[4:-1] if rest.startswith(("var(", "cov(")) and rest.endswith(")") else ""
        if rest.startswith("var(") and inner:
            pairs[p] = (component, inner, inner)
        for i in [i for i, letter in enumerate(inner) if letter == "," and rest.startswith("cov(")]:
            a, b = inner[:i], inner[i + 1 :]
            if {f"{component}:var({a})", f"{component}:var({b})"} <= set(parameters):
                pairs[p] = (component, a, b)
                before[component, b] = before.get((component, b), 0) + 1

    def key(p: str) -> tuple[str, int, int, int]:
        component, a, b = pairs.get(p, (p.partition(":")[0] if is_theta(p) else "", "", ""))
        first = 0 if p in pairs or p == "(Intercept)" else 1
        return component, first, before.get((component, a), 0), before.get((component, b), 0)

    return sorted(parameters, key=key)
