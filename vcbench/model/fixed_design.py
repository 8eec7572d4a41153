"""One model matrix: terms, coded as R codes them, over learned variables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from vcbench.model.fixed_expression import evaluate
from vcbench.model.fixed_frame import Column
from vcbench.model.fixed_terms import Terms
from vcbench.model.fixed_variables import Variable, learn_variable
from vcbench.model.rlang import Node


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows used: their columns, what transforms learned (by expression), and the variables learned so far."""

    columns: Mapping[str, Column]
    n_obs: int
    states: Mapping[Node, dict[str, Any]] = field(default_factory=dict)
    known: dict[Node, tuple[Variable, np.ndarray]] = field(default_factory=dict)

    def variable(self, node: Node) -> tuple[Variable, np.ndarray]:
        """The variable and its values, learned once for all parts of a formula."""
        if node not in self.known:
            self.known[node] = learn_variable(node, self.columns, self.states.get(node, {}))
        return self.known[node]

    def evaluate(self, node: Node) -> np.ndarray:
        return evaluate(node, self.columns, self.states.get(node, {}))


@dataclass(frozen=True, slots=True)
class Design:
    """The columns of one right-hand side. `coded`: for each term its (variable, coding) pairs."""

    variables: tuple[Variable, ...]
    coded: tuple[tuple[tuple[int, int], ...], ...]
    intercept: bool
    names: tuple[str, ...]

    @property
    def term_labels(self) -> tuple[str, ...]:
        """R's label of each term: its variables joined by colons."""
        return tuple(":".join(self.variables[v].label for v, _ in term) for term in self.coded)

    @property
    def assign(self) -> np.ndarray:
        """(d,) the term of each column, −1 for the intercept."""
        widths = [len(self._names(term)) for term in self.coded]
        return np.concatenate([np.full(int(self.intercept), -1), np.repeat(np.arange(len(widths)), widths)]).astype(int)

    def recoded(self, variables: tuple[Variable, ...], coded: tuple[tuple[tuple[int, int], ...], ...]) -> "Design":
        """The same terms in other variables or codings."""
        new = replace(self, variables=variables, coded=coded)
        return replace(new, names=new._all_names())

    def _names(self, term: tuple[tuple[int, int], ...]) -> list[str]:
        return reduce(_name_products, (self.variables[v].names(coding) for v, coding in term))

    def _all_names(self) -> tuple[str, ...]:
        return (
            *(["(Intercept)"] if self.intercept else []),
            *(name for term in self.coded for name in self._names(term)),
        )

    def matrix(self, values: Sequence[np.ndarray], n_obs: int) -> np.ndarray:
        """(n, d) columns in the order of `names`; `values[v]` as `Variable.columns` takes them."""
        X = np.empty((n_obs, len(self.names)))
        at = int(self.intercept)
        X[:, :at] = 1.0
        for term in self.coded:
            block = reduce(_row_products, (self.variables[v].columns(values[v], coding) for v, coding in term))
            X[:, at : at + block.shape[1]] = block
            at += block.shape[1]
        return X

    def evaluate(self, columns: Mapping[str, Column], n_obs: int) -> np.ndarray:
        """The same columns on other rows."""
        return self.matrix([variable.values(columns) for variable in self.variables], n_obs)


def _row_products(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Every column of A times every column of B, A's running fastest."""
    return (B[:, :, None] * A[:, None, :]).reshape(A.shape[0], -1)


def _name_products(left: list[str], right: list[str]) -> list[str]:
    """Names of those columns."""
    return [f"{a}:{b}" for b in right for a in left]


def learn_design(terms: Terms, rows: Rows) -> tuple[Design, np.ndarray]:
    """The design of `terms` and its matrix (n, d) on the rows used."""
    used = [rows.variable(node) for node in terms.variables]
    variables = tuple(variable for variable, _ in used)
    coded = tuple(tuple(term) for term in terms.coding(lambda v: variables[v].is_factor))
    design = Design(variables, coded, terms.intercept, ()).recoded(variables, coded)
    return design, design.matrix([values for _, values in used], rows.n_obs)
