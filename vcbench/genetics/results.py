"""What `heritability` returns: all phenotypes together, as a frame, a page of text, GCTA's .hsq and JSON."""

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.genetics.hsq import hsq_text
from vcbench.genetics.matrices import Matrix
from vcbench.genetics.traits import Trait

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Heritability:
    """Heritabilities of P phenotypes. `result["height"]` or `result[0]` is one of them, a `Trait`.

    scale: "unit" or "trace", how h² counts V(G). seconds: all of it; decomposition_seconds: of the eigendecompositions.
    """

    traits: tuple[Trait, ...]
    matrices: tuple[Matrix, ...] = field(repr=False)
    scale: str
    level: float
    seconds: float
    decomposition_seconds: float

    def __len__(self) -> int:
        return len(self.traits)

    def __iter__(self) -> Any:
        return iter(self.traits)

    def __getitem__(self, phenotype: int | str) -> Trait:
        if isinstance(phenotype, int):
            return self.traits[phenotype]
        names = [t.name for t in self.traits]
        if phenotype not in names:
            near = did_you_mean(phenotype, names)
            raise MethodError(f"there is no phenotype `{phenotype}`.{near} Choose from {', '.join(names)}.")
        return self.traits[names.index(phenotype)]

    @property
    def frame(self) -> "pd.DataFrame":
        """One row a phenotype: n; estimate, `_se`, `_lower`, `_upper` of each quantity (V(G), V(e), Vp, h2; of several
        matrices each variance and share); liability scale; test; loglik; method, criterion, status, message, n_iter,
        seconds; `se`, the definition of the standard errors; decomposition."""
        import pandas as pd

        return pd.DataFrame([trait_row(t) for t in self.traits])

    def standard_errors(self, quantity: str = "h2") -> "pd.DataFrame":
        """The standard error of a quantity by every definition there is: one row a phenotype, one column a
        definition."""
        import pandas as pd

        rows = {t.name: {d: t.se(quantity, d) for d in t.covariances} for t in self.traits}
        return pd.DataFrame(rows).T.rename_axis("phenotype")

    def trace(self, phenotype: int | str = 0) -> "pd.DataFrame":
        """The path of one fit: iteration, loglik, V(G), V(e), fixed effects, seconds. After the E-step of an EM the
        ELBO is the log-likelihood itself (MATH §3), so that `loglik` is both. Empty for methods without a path."""
        import pandas as pd

        t = self[phenotype]
        rows = np.zeros((0, 0)) if t.trace_rows is None else t.trace_rows
        p = len(t.theta)
        if not rows.size:
            return pd.DataFrame(columns=["iteration", "loglik", *t.components, "V(e)"])
        out = pd.DataFrame(rows[:, 1 : 1 + p], columns=[*t.components, "V(e)"])
        out.insert(0, "loglik", rows[:, 0])
        out.insert(0, "iteration", np.arange(len(rows)))
        return out.assign(seconds=rows[:, -1])

    def profile(self, phenotype: int | str = 0) -> "pd.DataFrame":
        """The profile likelihood of h² on [0, 1]: h2, loglik, and zeta, ± the root of twice the fall from the maximum.

        Raises MethodError unless `heritability(…, profiles=True)` kept it: of one relationship matrix, by likelihood.
        """
        import pandas as pd

        t = self[phenotype]
        if t.profile_rows is None:
            raise MethodError(
                f"no profile of `{t.name}` was kept. Pass profiles=True; there is one of a single relationship matrix "
                "and a method that climbs the likelihood."
            )
        h, loglik = t.profile_rows.T
        fall = np.maximum(2.0 * (t.loglik - loglik), 0.0)
        return pd.DataFrame({"h2": h, "loglik": loglik, "zeta": np.sign(h - t.h2) * np.sqrt(fall)})

    def plot(self) -> Any:
        """The profiles of h² as an Altair chart, a panel a phenotype. MethodError as `profile`."""
        from importlib import import_module

        return import_module("vcbench.report.diagnostics.h2_profile").chart(self)

    def summary(self, phenotype: int | str | None = None) -> str:
        """The result on a page: one phenotype in full, or a row for each of several."""
        from vcbench.genetics.words import page, table

        if phenotype is not None or len(self.traits) == 1:
            return page(self, self[0 if phenotype is None else phenotype])
        return table(self)

    def __str__(self) -> str:
        return self.summary()

    def to_hsq(self, path: str | os.PathLike, phenotype: int | str = 0) -> Path:
        """Write one phenotype in GCTA's .hsq layout and return the path; see `hsq`."""
        path = Path(path)
        path.write_text(hsq_text(self[phenotype]), encoding="utf-8")
        return path

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: `schema` "vcbench/heritability/1"."""
        return {
            "schema": "vcbench/heritability/1",
            "scale": self.scale,
            "level": self.level,
            "seconds": self.seconds,
            "matrices": [
                {"name": m.name, "n": m.n, "n_snps": m.n_snps, "mean_diagonal": m.mean_diagonal} for m in self.matrices
            ],
            "phenotypes": [
                {
                    **trait_row(t),
                    "standard_errors": {d: {q: t.se(q, d) for q in t.quantities()} for d in t.covariances},
                    "covariance": t.covariance().tolist(),
                    "beta": dict(t.beta),
                    "beta_se": dict(t.beta_se),
                }
                for t in self.traits
            ],
        }

    def to_json(self, indent: int | None = 1) -> str:
        """`to_dict` as JSON; what does not exist is null."""
        return json.dumps(plain(self.to_dict()), indent=indent, allow_nan=False)


def trait_row(t: Trait) -> dict[str, Any]:
    """One phenotype as a flat record."""
    row: dict[str, Any] = {"phenotype": t.name, "n": t.n}
    for name, (value, _) in t.quantities().items():
        lower, upper = t.interval(name)
        row |= {name: value, f"{name}_se": t.se(name), f"{name}_lower": lower, f"{name}_upper": upper}
    if t.liability is not None:
        c = t.liability.factor
        lower, upper = t.interval("h2")
        row |= {
            "h2_liability": c * t.h2,
            "h2_liability_se": c * t.se("h2"),
            "h2_liability_lower": c * lower,
            "h2_liability_upper": c * upper,
            "prevalence": t.liability.prevalence,
            "cases": t.liability.cases,
        }
    test = t.test
    row |= {"lrt": math.nan if test is None else test.statistic, "p": math.nan if test is None else test.p}
    row |= {"loglik": t.loglik, "loglik0": t.loglik0, "method": t.method, "criterion": t.criterion}
    row |= {"status": str(t.status), "message": t.message, "n_iter": t.n_iter, "seconds": t.seconds}
    return row | {"se": t.definition, "expected_se": t.expected_se, "decomposition": t.decomposition}


def plain(value: Any) -> Any:
    """Values that JSON knows; NaN and infinities become null."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
