"""Several traits at once: records stacked in long form, effects and residuals correlated between traits.

    y_t = X_t β_t + Σ_k Z_tk u_tk + e_t,     (u_1k, u_2k, …) ~ N(0, Ω_k ⊗ A_k),     residuals of one record ~ N(0, R_0)

A record is a row of the data; a trait that is missing there has no equation. With a pedigree the kernel is `sparse`,
which keeps R_0's blocks apart: cost grows with the records as it does for one trait, times (number of traits)³.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from scipy.sparse import csr_matrix, diags_array, hstack

from vcbench.errors import ModelError, did_you_mean
from vcbench.model.component import Coded, Component
from vcbench.model.covariance import Covariance, blocks, scalar, un
from vcbench.model.covariance_text import parse_covariance
from vcbench.model.fixed_frame import Column, Frame
from vcbench.model.formula import Parsed, parse_formula
from vcbench.model.maternal import EFFECTS, check_intercept, incidences, labels_of
from vcbench.model.model import Model
from vcbench.model.noise import AsLevels, bind_noise
from vcbench.model.relationship import Known, Relationship
from vcbench.model.residual import Residual
from vcbench.model.residual_text import parse_residual

RESIDUAL = "un(trait, group=record)"


def multi_trait(
    formulas: Sequence[str],
    data: Any,
    *,
    cov: Mapping[str, Covariance | Known | str] | None = None,
    residual: Residual | str = RESIDUAL,
    rank: str = "drop",
    name: str | None = None,
) -> Model:
    """The model of several traits, a formula for each; data wide, one row a record, as `Model.from_formula` takes it.

        vc.genetics.multi_trait(["bwt ~ sex + (1 | animal)", "tarsus ~ sex + (1 | animal) + (1 | byear)"], data,
                                cov={"animal": vc.covariance.pedigree(P)})

    Terms of one grouping factor in several formulas are one component, whose Ω is unstructured over the traits (blocks
    that `||` keeps apart stay apart) unless `cov` says else by grouping factor. With `pedigree(P, maternal=…)` the
    effects are each trait's direct one, then each trait's maternal one. residual: a structure whose labels are `trait`,
    `record` or columns of the data; `by(trait)` keeps traits' residuals independent.

    Names: `bwt:sex2` of β, `animal:cov(bwt,tarsus)`, `residual:var(bwt)` of θ. Raises what `Model.from_formula` does,
    and ModelError for fewer than two traits or one trait twice.
    """
    if isinstance(formulas, str) or len(formulas) < 2:
        raise ModelError(
            "multi_trait() takes a formula for each of two traits or more. Use Model.from_formula for one."
        )
    frame = Frame(data)
    stack = Stack.of([parse_formula(text, data, rank=rank) for text in formulas], frame)  # type: ignore[arg-type]
    said = {k: parse_covariance(v, f"cov.{k}") if isinstance(v, str) else v for k, v in (cov or {}).items()}
    groups = list(dict.fromkeys(t.group for p in stack.parsed for t in p.random))
    for key in said:
        if key not in groups:
            raise ModelError(f"`cov` names `{key}`, which is no grouping factor.{did_you_mean(key, groups)}")
    spec = parse_residual(residual) if isinstance(residual, str) else residual
    n = len(stack.rows)
    offsets = [np.zeros(len(p.y)) if p.offset is None else p.offset for p in stack.parsed]
    return Model(
        np.concatenate([p.y for p in stack.parsed]),
        block_diag(*[p.X for p in stack.parsed]),
        [stack.component(group, said.get(group)) for group in groups],
        X_names=[f"{t}:{x}" for t, p in zip(stack.traits, stack.parsed, strict=True) for x in p.X_names],
        residual=spec,
        noise=bind_noise(spec, stack.column, n),
        offset=np.concatenate(offsets) if any(p.offset is not None for p in stack.parsed) else None,
        name=name,
        rank=rank,
        formula="; ".join(p.formula for p in stack.parsed),
        n_dropped=frame.n_rows - len(np.unique(stack.rows)),
        dropped_columns=tuple(
            f"{t}:{x}" for t, p in zip(stack.traits, stack.parsed, strict=True) for x in p.dropped_columns
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Records of all traits, trait after trait: `rows` (n,) in the data, `trait` (n,) of each."""

    traits: tuple[str, ...]
    parsed: tuple[Parsed, ...]
    frame: Frame
    rows: np.ndarray
    trait: np.ndarray

    @classmethod
    def of(cls, parsed: Sequence[Parsed], frame: Frame) -> "Stack":
        """The records of each formula's own complete rows. ModelError for a trait that is there twice."""
        traits = tuple(p.response for p in parsed)
        twice = [t for t in traits if traits.count(t) > 1]
        if twice:
            raise ModelError(f"trait `{twice[0]}` has two formulas. Say each trait once.")
        sizes = [len(p.y) for p in parsed]
        return cls(traits, tuple(parsed), frame, np.concatenate([p.rows_used for p in parsed]),
                   np.repeat(np.arange(len(parsed)), sizes))  # fmt: skip

    def column(self, label: Any) -> Column:
        """A label of the residual structure: `trait`, `record`, or a column of the data."""
        if isinstance(label, AsLevels):
            return self.column(label.label).as_factor()
        if label == "trait":
            return Column("trait", "factor", self.trait, self.traits)
        if label == "record":
            return Column("record", "number", self.rows)
        return self.of_rows(label)

    def of_rows(self, name: str) -> Column:
        """A column of the data, record by record."""
        column = self.frame.column(name)
        return replace(column, values=column.values[self.rows])

    def component(self, group: str, cov: Covariance | Known | None) -> Component:
        """The component of a grouping factor, over the effects of all traits that have it."""
        terms = {i: t for i, p in enumerate(self.parsed) for t in p.random if t.group == group}
        if isinstance(cov, Known) and cov.maternal is not None:
            return self._maternal(group, terms, cov)
        Z = block_diag(*[t.A for t in terms.values()])
        names, parts, at = [], {}, 0  # type: list[str], dict[int, list[int]], int
        for i, t in terms.items():
            names += [self.traits[i] if e == "(Intercept)" else f"{self.traits[i]}:{e}" for e in t.effects]
            for j, block in enumerate(t.blocks):
                parts.setdefault(j, []).extend(at + a for a in block)
            at += len(t.effects)
        structure = scalar() if at == 1 else un() if len(parts) == 1 else blocks(list(parts.values()))
        if isinstance(cov, Known):
            cov = cov if cov.within is not None else replace(cov, within=structure)
        wide = np.zeros((len(self.rows), at))
        wide[np.isin(self.trait, list(terms))] = Z
        return Component(wide, name=group, group=self._levels(group, terms), columns=names, cov=cov or structure)

    def _levels(self, group: str, terms: Mapping[int, Any]) -> Coded:
        """The level of every record, also of traits that do not have the term, whose rows of Z are 0."""
        labels = np.full(len(self.rows), "", object)
        if group in self.frame.names:
            labels[:] = labels_of(self.of_rows(group))
        for i, t in terms.items():
            labels[self.trait == i] = np.array(t.levels, object)[t.codes]
        levels = list(dict.fromkeys(level for t in terms.values() for level in t.levels))
        where = {level: j for j, level in enumerate(levels)}
        return Coded(np.array([where.get(label, 0) for label in labels], np.int64), tuple(levels))

    def _maternal(self, group: str, terms: Mapping[int, Any], cov: Known) -> Component:
        """Direct effects of each trait that has the term, then their maternal effects."""
        assert cov.pedigree is not None
        assert cov.maternal is not None
        for t in terms.values():
            check_intercept(t)
        here = np.flatnonzero(np.isin(self.trait, list(terms)))
        animals = np.concatenate([cov.pedigree.positions(t.levels, group)[t.codes] for t in terms.values()])
        dams = labels_of(self.of_rows(cov.maternal))
        full, pair = incidences(cov.pedigree, animals, [dams[i] for i in here], cov.maternal)
        spread = csr_matrix((np.ones(len(here)), (here, np.arange(len(here)))), shape=(len(self.rows), len(here)))
        Z = [diags_array((self.trait == i).astype(float)) @ (spread @ own) for own in pair for i in terms]
        names = [f"{self.traits[i]}:{effect}" for effect in EFFECTS for i in terms]
        relation = Relationship.of_pedigree(full, group)
        known = Known("pedigree", lambda _: relation, cov.within or un())
        return Component(hstack(Z, format="csr"), name=group, cov=known, columns=names)
