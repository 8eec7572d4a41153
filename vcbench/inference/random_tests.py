"""Tests of random terms: the model without each of them in turn, fitted again and compared by its likelihood.

As lmerTest's `ranova` (A. Kuznetsova, P. B. Brockhoff & R. H. B. Christensen, "lmerTest package", J. Statist. Softw. 82
(2017) no. 13): (x | g) is reduced to (1 | g), (x + z | g) to (z | g) and (x | g), a factor's indicators (0 + f | g) to
(1 | g), and (1 | g) is left out; each part of (x || g) is a term. Other than there, each test has its own null
distribution (`likelihood_ratio`), not χ².
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, VcbenchError, did_you_mean
from vcbench.inference.likelihood_ratio import LikelihoodRatio, check_comparable, least_squares_loglik, lrt
from vcbench.model import residual as residual_structures
from vcbench.model.component import Component
from vcbench.model.covariance import Block, Covariance, blocks, diag, scalar, un
from vcbench.model.model import Model
from vcbench.model.noise import bind_noise, column_reader
from vcbench.status import Status

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A model without one random term: the component, the term within it (its own name where all of it goes), a label
    such as `Days in (Days | Subject)`."""

    component: str
    term: str
    label: str
    model: Model = field(repr=False)


def reductions(model: Model) -> list[Reduction]:
    """Every model with one random term less; a residual structure is a term too, and tied components are one."""
    out = []
    done: set[str] = set()
    for k, c in enumerate(model.components):
        tied = next((set(group) for group in model.equal if c.name in group), {c.name})
        if tied <= done or c.cov.value is not None:  # type: ignore[union-attr]
            continue
        done |= tied
        if len(tied) == 1 and c.n_effects > 1 and c.cov.is_linear and c.codes is not None:  # type: ignore[union-attr]
            for term, said, smaller in _reduced(c, _terms(model, k)):
                others = [smaller if d is c else d for d in model.components]
                label = f"({said})" if term == said else f"{term} in ({said})"
                out.append(Reduction(c.name, term, label, rebuilt(model, [d for d in others if d is not None])))
            continue
        name = " = ".join(d.name for d in model.components if d.name in tied)
        kept = [d for d in model.components if d.name not in tied]
        label = f"(1 | {name})" if c.effects == ("(Intercept)",) else name
        out.append(Reduction(c.name, c.name, label, rebuilt(model, kept)))
    if not model.noise.is_plain:
        out.append(Reduction("residual", "residual", f"residual {model.residual}", independent(model)))
    return out


def without(model: Model, component: str, term: str | None = None) -> Model:
    """The model without a component, or without one term of it (`Days` of (Days | Subject)); "residual" makes residuals
    independent. MethodError for a name that it does not have."""
    if term is None and component != "residual":
        tied = next((set(group) for group in model.equal if component in group), {component})
        kept = [c for c in model.components if c.name not in tied]
        if len(kept) < len(model.components):
            return rebuilt(model, kept)
    found = [r for r in reductions(model) if r.component == component and term in (None, r.term)]
    if found:
        return found[0].model
    names = [c.name for c in model.components] + ([] if model.noise.is_plain else ["residual"])
    if component not in names:
        raise MethodError(
            f"`{component}` is no random term of this model.{did_you_mean(component, names)} It has: "
            f"{', '.join(names)}."
        )
    own = [r.term for r in reductions(model) if r.component == component]
    raise MethodError(f"`{term}` is no term of `{component}`.{did_you_mean(term or '', own)} It has: {', '.join(own)}.")


def component_test(
    fit: Any, component: str, term: str | None = None, method: str = "auto", n_sim: int | None = None, seed: int = 0
) -> LikelihoodRatio:
    """See `Fit.test_component`."""
    check_comparable(fit, fit)
    model = without(fit._need_model("test_component()"), component, term)
    return lrt(refit_smaller(fit, model), fit, method, n_sim, seed)


def ranova(fit: Any, method: str = "auto", n_sim: int | None = None, seed: int = 0) -> "pd.DataFrame":
    """See `Fit.ranova`."""
    import pandas as pd

    check_comparable(fit, fit)
    first = {"term": "<none>", "n_parameters": fit.n_parameters, "loglik": fit.loglik, "aic": fit.aic}
    rows: list[dict[str, Any]] = [first]
    notes: dict[str, str] = {}
    failed: list[VcbenchError] = []
    for r in reductions(fit._need_model("ranova()")):
        smaller = refit_smaller(fit, r.model)
        row = {"term": r.label, "n_parameters": smaller.n_parameters, "loglik": smaller.loglik, "aic": smaller.aic}
        rows.append(row)
        try:
            test = lrt(smaller, fit, method, n_sim, seed)
        except VcbenchError as error:  # no distribution holds for this term: others may have theirs
            row |= {"statistic": 2.0 * (fit.loglik - smaller.loglik), "df": fit.n_parameters - smaller.n_parameters}
            notes[r.label], failed = str(error), [*failed, error]
            continue
        row |= {"statistic": test.statistic, "df": test.df, "p": test.p, "null": test.null, "method": test.method}
        if test.notes:
            notes[r.label] = "; ".join(test.notes)
    if failed and len(failed) == len(rows) - 1:
        raise failed[0]
    columns = ["n_parameters", "loglik", "aic", "statistic", "df", "p", "null", "method"]
    table = pd.DataFrame(rows).set_index("term").reindex(columns=columns)
    table.attrs.update(criterion=fit.criterion, notes=notes)
    return table


def refit_smaller(fit: Any, model: Model) -> Any:
    """The smaller model fitted as the larger one was; by least squares where it has no random component."""
    from vcbench.fit import fit as fit_one

    if model.components or not model.noise.is_plain:
        return fit_one(model, fit.method, fit.criterion)
    w = np.ones(model.n_obs) if model.noise.weights is None else model.noise.weights
    y = model.y if model.offset is None else model.y - model.offset
    root = np.sqrt(w)
    beta = np.linalg.lstsq(np.asarray(model.X) * root[:, None], y * root, rcond=None)[0]
    m = model.n_obs - (model.n_fixed if fit.criterion == "reml" else 0)
    return replace(
        fit,
        model=model,
        facts=type(fit.facts).of(model),
        theta_values=np.array([w @ (y - model.X @ beta) ** 2 / m]),  # type: ignore[operator]
        beta_values=beta,
        loglik=float(least_squares_loglik(model, model.y[:, None], fit.criterion)[0]),
        status=Status.CONVERGED,
        message="least squares",
        n_iter=0,
        n_eval=0,
        kernel="auto",
        rank=np.ones(1, np.int64),
        trace_rows=None,
        extra={},
        cache={},
    )


def rebuilt(model: Model, components: Sequence[Component]) -> Model:
    """The model with other components of the same rows."""
    names = {c.name for c in components}
    return Model(
        model.y, model.X, list(components), X_names=model.X_names, residual=model.residual, noise=model.noise,
        offset=model.offset, equal=[group for group in model.equal if set(group) <= names], name=model.name,
    )  # fmt: skip


def independent(model: Model) -> Model:
    """The model with independent residuals of one variance; known weights stay."""
    w, read = model.noise.weights, column_reader(None, None, model.n_obs)
    spec = residual_structures.iid() if w is None else residual_structures.weights(w)
    return Model(
        model.y, model.X, model.components, X_names=model.X_names, residual=spec, offset=model.offset,
        noise=bind_noise(spec, read, model.n_obs), equal=model.equal, name=model.name,
    )  # fmt: skip


def _terms(model: Model, k: int) -> list[str]:
    """The term of each effect of component k: `(Intercept)`, R's label of a formula's term, or the effect's name."""
    c = model.components[k]
    if model.parsed is None:
        return list(c.effects)
    out: list[str] = []
    for design in model.parsed.spec.random[k].designs:
        out += ["(Intercept)" if at < 0 else design.term_labels[at] for at in design.assign]
    return out


def _reduced(c: Component, terms: list[str]) -> Iterator[tuple[str, str, Component | None]]:
    """(term left out, the bar it stands in, the component without it) for each block of effects in turn."""
    for block in c.partition:
        own = list(dict.fromkeys(terms[a] for a in block))
        free = [t for t in own if t != "(Intercept)"]
        left = free if "(Intercept)" in own and free else ["1" if "(Intercept)" in own else "0", *free]
        said = f"{' + '.join(left)} | {c.name}"
        others = [a for b in c.partition for a in b if b != block]
        if len(own) == 1:
            Z = np.asarray(c.Z)[:, list(block)]
            if len(block) > 1 and np.allclose(Z.sum(axis=1), 1.0):  # indicators: (1 | g) lies within
                yield own[0], said, _with_intercept(c, others)
            else:
                yield said, said, _with_effects(c, others)
            continue
        for term in free:
            yield term, said, _with_effects(c, [a for a in range(c.n_effects) if not (a in block and terms[a] == term)])


def _with_effects(c: Component, kept: list[int]) -> Component | None:
    """The component with some of its effects; None without any."""
    if not kept:
        return None
    new = {a: i for i, a in enumerate(sorted(kept))}
    partition = tuple(b for b in (tuple(new[a] for a in block if a in new) for block in c.partition) if b)
    return _copied(c, np.asarray(c.Z)[:, sorted(kept)], tuple(c.effects[a] for a in sorted(kept)), partition)


def _with_intercept(c: Component, kept: list[int]) -> Component:
    """The component with an intercept of its own block in the place of the others."""
    smaller = _with_effects(c, kept)
    Z, one = np.asarray(c.Z), np.ones((c.n_obs, 1))
    if smaller is None:
        return _copied(c, one, ("(Intercept)",), ((0,),))
    Z = np.hstack([one, Z[:, sorted(kept)]])
    partition = ((0,), *(tuple(a + 1 for a in block) for block in smaller.partition))
    return _copied(c, Z, ("(Intercept)", *smaller.effects), partition)


def _copied(c: Component, Z: np.ndarray, effects: tuple[str, ...], partition: tuple[Block, ...]) -> Component:
    """The component with other effects on the same levels and relationship."""
    new = copy.copy(c)
    for key, value in (
        ("Z", np.ascontiguousarray(Z)), ("effects", effects), ("partition", partition), ("columns", effects),
        ("cov", _structure(partition)),
    ):  # fmt: skip
        object.__setattr__(new, key, value)
    return new


def _structure(partition: tuple[Block, ...]) -> Covariance:
    """The structure with these blocks of correlated effects."""
    if len(partition) == 1:
        return un() if len(partition[0]) > 1 else scalar()
    return diag() if all(len(block) == 1 for block in partition) else blocks(partition)
