"""What kind of method a label names: its family (which gives it a colour), and whether it climbs a likelihood.

A label in the rows is the study's own name for a method entry (`em`, `em-unit`, `px-em, start 2`); its base name comes
from the run's method list, or is the longest registered name the label begins with.
"""

from collections.abc import Iterable, Mapping

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "Second order": ("auto", "ai", "ai-stochastic", "newton", "fisher", "lbfgs"),
    "EM": ("em", "em-simplified", "ecme", "em-reml", "em-henderson"),
    "PX-EM": ("px-em", "px-em-component", "px-em-full", "squarem", "daarem"),
    "Moments": ("moments", "moments-randomised", "minque", "anova", "scaled-lasso"),
    "Posterior": ("nuts", "quadrature", "pathfinder", "laplace", "advi"),
    "Other": ("lme4", "nlme", "statsmodels", "gemma", "glmm", "mixedlm"),
}
_FAMILY = {name: family for family, names in FAMILIES.items() for name in names}


def base_name(label: str, named: Mapping[str, str] | None = None) -> str:
    """The registered name behind a label: `named[label]`, the label itself, or the longest name it begins with."""
    if named and label in named:
        return named[label]
    if label in _FAMILY:
        return label
    starts = [name for name in _FAMILY if label.lower().startswith(name)]
    return max(starts, key=len) if starts else label


def family(label: str, named: Mapping[str, str] | None = None) -> str:
    """One of the keys of FAMILIES; `Other` for what is not known here."""
    return _FAMILY.get(base_name(label, named), "Other")


def maximises(label: str, named: Mapping[str, str] | None = None) -> bool:
    """True for methods that climb a likelihood, so that two of them under one criterion must agree."""
    return family(label, named) not in ("Moments", "Posterior")


def in_order(labels: Iterable[str], named: Mapping[str, str] | None = None) -> list[str]:
    """Labels by family, then in the order of the registry, then as given: related methods stand together."""
    rank = {name: i for i, name in enumerate(_FAMILY)}
    labels = list(labels)
    return sorted(labels, key=lambda m: (rank.get(base_name(m, named), len(rank)), labels.index(m)))
