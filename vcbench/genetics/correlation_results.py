"""What `genetic_correlation` returns: all pairs, as a frame, square matrices, a page of text and JSON."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench import numbers as num
from vcbench.errors import MethodError
from vcbench.genetics.matrices import Matrix
from vcbench.genetics.pairs import Pair
from vcbench.summary import columns

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class GeneticCorrelation:
    """Correlations of all pairs. `result["a", "b"]` is one `Pair`; `frame` one row a pair; `matrix()` a square of
    them."""

    pairs: tuple[Pair, ...]
    names: tuple[str, ...]
    method: str
    level: float
    seconds: float
    matrices: tuple[Matrix, ...] = field(repr=False, default=())

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Any:
        return iter(self.pairs)

    def __getitem__(self, key: int | tuple[str, str]) -> Pair:
        if isinstance(key, int):
            return self.pairs[key]
        for pair in self.pairs:
            if {pair.first, pair.second} == set(key):
                return pair
        raise MethodError(f"there is no pair {key!r}. Phenotypes are {', '.join(self.names)}.")

    @property
    def frame(self) -> "pd.DataFrame":
        """One row a pair: ρ_g, ρ_e with standard errors and limits, heritabilities, θ, tests, status and why."""
        import pandas as pd

        return pd.DataFrame([pair.row() for pair in self.pairs])

    def matrix(self, quantity: str = "rho_g") -> "pd.DataFrame":
        """ρ_g (or "rho_e", "G21", "E21", or a standard error "rho_g_se") as a symmetric (P, P) frame."""
        import pandas as pd

        unit = 1.0 if quantity in ("rho_g", "rho_e") else np.nan
        out = pd.DataFrame(np.diag(np.full(len(self.names), unit)), index=self.names, columns=self.names)
        out = out.where(np.eye(len(self.names), dtype=bool))
        for pair in self.pairs:
            value = pair.se(quantity[:-3]) if quantity.endswith("_se") else pair.value(quantity)
            out.loc[pair.first, pair.second] = out.loc[pair.second, pair.first] = value
        return out

    def summary(self) -> str:
        """A row for each pair, and below it what needs saying of any."""
        from textwrap import wrap

        from vcbench import __version__

        how = (
            "method of moments"
            if self.method == "moments"
            else "REML"
            if self.method == "reml"
            else "maximum likelihood"
        )
        title = f"Genetic correlations of {num.plural(len(self.names), 'phenotype')}, {how}"
        rows = []
        for pair in self.pairs:
            cells = [f"{pair.first} – {pair.second}", num.count(pair.n)]
            for name in ("rho_g", "rho_e"):
                se = pair.se(name)
                cells += [num.estimate(pair.value(name), se), num.estimate(se, se)]
                if name == "rho_g":
                    cells.append(num.interval(*pair.interval(name), se))
            cells += [num.p_value(None if t is None else t.p, 0) for t in (pair.zero, pair.one)]
            rows.append(cells)
        kind = "profile" if self.pairs and self.pairs[0].limits is not None else "Wald"
        header = [
            "pair",
            "n",
            "ρ_g",
            "SE",
            f"{num.percent(self.level, 0)} CI ({kind})",
            "ρ_e",
            "SE",
            "p of ρ_g = 0",
            "p of ±1",
        ]
        keep = [j for j in range(len(header)) if j < 7 or any(row[j] != num.ABSENT for row in rows)]
        lines = [f"{title:<68}vcbench {__version__}", ""]
        lines += [*columns([header[j] for j in keep], [[row[j] for j in keep] for row in rows], left=(0,)), ""]
        for pair in self.pairs:
            if pair.explanation:
                text = f"{pair.first} – {pair.second}: {pair.explanation}"
                lines += wrap(text, 100, break_on_hyphens=False, break_long_words=False)
        if self.pairs:
            lines.append(
                f"SE by {self.pairs[0].definition} {'equations' if self.method == 'moments' else 'information'}."
            )
        return "\n".join(lines).rstrip()

    def __str__(self) -> str:
        return self.summary()

    def to_json(self, indent: int | None = 1) -> str:
        """The rows of `frame` as JSON, `schema` "vcbench/genetic_correlation/1"; what does not exist is null."""
        from vcbench.genetics.results import plain

        rows = [{**pair.row(), "covariance": pair.covariances[pair.definition].tolist()} for pair in self.pairs]
        out = {"schema": "vcbench/genetic_correlation/1", "method": self.method, "level": self.level, "pairs": rows}
        return json.dumps(plain(out), indent=indent, allow_nan=False)
