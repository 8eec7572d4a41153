"""What is ranked: every parameter, what they make together, and the likelihood of the data.

Errors that leave a parameter's rank uniform show in quantities of the data: a posterior that ignores part of y is a
correct posterior given the rest, and passes on every parameter; the log-likelihood of all of y at the truth does not
lie where it should among those at the draws (Modrák et al. 2023, Bayesian Analysis, on the choice of test quantities).

    ℓ(β, θ; y),    total variance tr V(θ)/n = Σ_j w_j θ_j,    share of component k: its part of that sum (ICC, h²)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError, ModelError
from vcbench.fitted import Facts
from vcbench.inference.quantities import Quantity, quantity_of
from vcbench.inference.variances import rows_of
from vcbench.model.model import Model
from vcbench.study.sbc_plan import Plan

LOGLIK = "log-likelihood"
Rows = Callable[[np.ndarray, np.ndarray], np.ndarray]  # θ (L, p), β (L, d) -> (L,)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One quantity. kind: "theta" (place `at` in θ), "beta" (in β), "function" of θ and β, or "loglik"."""

    name: str
    kind: str
    at: int = -1
    quantity: Quantity | None = field(default=None, repr=False)

    def values(self, theta: np.ndarray, beta: np.ndarray, loglik: Rows) -> np.ndarray:
        """The quantity at each row of θ (L, p) and β (L, d)."""
        if self.kind == "theta":
            return theta[:, self.at]
        if self.kind == "beta":
            return beta[:, self.at]
        if self.kind == "loglik":
            return loglik(theta, beta)
        assert self.quantity is not None
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            out = np.real(self.quantity.of.at(np.concatenate([theta, beta], axis=1).T))
        return np.broadcast_to(np.asarray(out, float), len(theta))


def ranked(plan: Plan) -> tuple[Ranked, ...]:
    """The quantities of a plan: its parameters, correlations, total and shares, ℓ, and what was asked for.

    Raises MethodError for an expression that is not understood, and for one that the flat β does not leave invariant.
    """
    model, facts = plan.model, Facts.of(plan.model)
    out = [Ranked(name, "theta", j) for j, name in enumerate(model.theta_names)]
    out += [Ranked(name, "beta", j) for j, name in enumerate(model.X_names or ())]
    for row in rows_of(facts.theta_names, facts.is_variance, "cor"):
        if row.name not in model.theta_names:
            out.append(Ranked(row.name, "function", -1, quantity_of(facts, row.name)))
    out += [Ranked(name, "function", -1, q) for name, q in _sums(model, facts)]
    out.append(Ranked(LOGLIK, "loglik"))
    for said in plan.said:
        q = quantity_of(facts, said)
        if plan.beta is not None and q.uses_beta and q.contrast is None:
            raise MethodError(
                f"`{q.name}` is no linear function of β: under a flat β its rank depends on the β that y is drawn "
                "with. Give β a normal prior: priors={'beta': Normal(scale)}."
            )
        out.append(Ranked(q.name, "function", -1, q))
    names = [q.name for q in out]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise MethodError(f"two quantities are called `{twice[0]}`. Name one: 'name = {twice[0]}'.")
    return tuple(out)


def _sums(model: Model, facts: Facts) -> list[tuple[str, Quantity]]:
    """The total variance and each component's share of it, where V is linear in θ."""
    parts = variance_parts(model)
    if parts is None or len(parts) < 2:
        return []
    known = dict(zip(facts.theta_names, np.eye(len(facts.theta_names)), strict=True))
    total = " + ".join(_sum(w, facts.theta_names) for w in parts.values())
    said = [("total variance", f"total variance = {total}")]
    for name, w in list(parts.items())[:-1]:
        said.append((f"share of {name}", f"share of {name} = ({_sum(w, facts.theta_names)}) / ({total})"))
    p, d = len(facts.theta_names), len(facts.beta_names)
    known = {name: np.append(w, np.zeros(d)) for name, w in known.items()}
    from vcbench.inference.derive import read_expression

    return [(name, Quantity(name, "function", p, read_expression(text, known))) for name, text in said]


def _sum(weights: np.ndarray, names: Sequence[str]) -> str:
    return " + ".join(f"{float(w)!r} * `{name}`" for w, name in zip(weights, names, strict=True) if w)


def variance_parts(model: Model) -> dict[str, np.ndarray] | None:
    """Weights w (p,) on θ of each component's mean contribution to the variance of y, `residual` last.

    None where V is not linear in θ: structures, several residual variances, tied parameters.
    """
    names = model.theta_names
    if not model.noise.is_plain or model.noise.weights is not None or model.equal:
        return None
    if not all(c.cov.is_linear for c in model.components):  # type: ignore[union-attr]
        return None
    out = {}
    for c in model.components:
        try:
            Z = [c.incidence(a) for a in range(c.n_effects)] if c.is_grouped and c.relation is None else c.factors()
        except (ModelError, NotImplementedError):
            return None
        if not (c.is_grouped and c.relation is None) and c.n_effects > 1:
            return None
        w = np.zeros(len(names))
        for name, (a, b) in zip(c.theta_names, c.index, strict=True):
            w[names.index(name)] = (1 if a == b else 2) * _product(Z[a], Z[b]) / model.n_obs
        out[c.name] = w
    w = np.zeros(len(names))
    w[-1] = 1.0
    return {**out, "residual": w}


def _product(A: Any, B: Any) -> float:
    """Σ A ∘ B, sparse or dense."""
    return float(A.multiply(B).sum()) if hasattr(A, "multiply") else float((np.asarray(A) * np.asarray(B)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """ℓ_ML(β, θ; y) at many (θ, β) by the model's own kernel, which no twin is made from, unless by way of it."""

    kernel: Any

    @classmethod
    def of(cls, model: Model) -> "Likelihood":
        """The likelihood of a design."""
        from vcbench.kernels import build

        return cls(build(model, "auto"))

    def rows(self, y: np.ndarray) -> Rows:
        """ℓ at the rows of θ (L, p) and β (L, d), for the response y (n,)."""
        kernel = self.kernel.bind(y)

        def at(theta: np.ndarray, beta: np.ndarray) -> np.ndarray:
            pairs = zip(theta, beta, strict=True)
            return np.array([kernel.evaluate(t, ("loglik",), "ml", beta=b).loglik for t, b in pairs])

        return at
