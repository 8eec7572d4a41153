"""Rows that are lost after they were drawn: completely at random, by what is seen, by dropping out, whole groups.

    missing = { kind = "mcar", share = 0.2 }                                      every row with the same chance
    missing = { kind = "mcar", share = 0.2, by = "subject" }                      whole subjects
    missing = { kind = "mar", share = 0.2, on = "age" }                           the older, the likelier
    missing = { kind = "mar", share = 0.2, on = "y", unit = "subject", time = "time" }       by the first occasion's y
    missing = { kind = "dropout", share = 0.4, unit = "subject", time = "time", on = "y" }   by the last y that was seen

With z the variable `on`, standardised, a row is lost with chance 1/(1 + exp(−a − slope·z)), and a is such that the
expected share is `share`: of rows (mcar, mar; with `on` the response, of rows after the first occasion, which is never
lost), or of units that leave before their last occasion (dropout: nothing of a unit is seen after it left). All of
these are missing at random in Rubin's sense: what is lost depends on what is seen alone.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.optimize import brentq
from scipy.special import expit

from vcbench.errors import DataError, did_you_mean


class Missing(BaseModel):
    """How rows are lost: `kind`, the expected `share`, and what it depends on.

    Rows lost by the design alone are lost once for a condition; with `redraw` each replicate loses its own. What
    depends on the response is lost in each replicate anew in any case.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["mcar", "mar", "dropout"]
    share: Annotated[float, Field(gt=0, lt=1)]
    by: str | None = None
    on: str | None = None
    slope: float = 1.0
    unit: str | None = None
    time: str | None = None
    redraw: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Missing":
        if self.kind == "dropout" and (self.unit is None or self.time is None):
            raise ValueError("must say `unit` and `time`: who drops out, and in which order rows are seen")
        if self.kind == "mar" and self.on is None:
            raise ValueError("must say what it depends `on`: a column of the design, or the response")
        if self.kind == "mcar" and self.on is not None:
            raise ValueError('must be of kind "mar" or "dropout" where it depends `on` something')
        if self.by is not None and self.kind != "mcar":
            raise ValueError('must be of kind "mcar" where whole groups are lost')
        if (self.unit is None) != (self.time is None):
            raise ValueError("must say both `unit` and `time`, or neither")
        if "slope" in self.model_fields_set and self.on is None:
            raise ValueError("must say what it depends `on` where it says a `slope`")
        return self

    def each_replicate(self, response: str) -> bool:
        """True where every replicate loses rows of its own."""
        return self.redraw or self.on == response

    def kept(self, frame: Any, response: str, y: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """The rows (n,) that are seen, True or False. `y` is needed where it depends on the response.

        Raises DataError for a column that is not there, and where fewer than two rows are left.
        """
        for key in ("by", "on", "unit", "time"):
            name = getattr(self, key)
            known = [response, *map(str, frame.columns)]
            if name is not None and name not in known:
                raise DataError(f"`missing` is `{key}` `{name}`, which is no column.{did_you_mean(name, known)}")
        seen = getattr(self, f"_{self.kind}")(frame, response, y, rng)
        if seen.sum() < 2:
            raise DataError(f"`missing`: {int(seen.sum())} of {len(seen)} rows are left.")
        return seen

    def _mcar(self, frame: Any, response: str, y: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        if self.by is None:
            return rng.random(len(frame)) >= self.share
        codes = _codes(frame, self.by)
        return (rng.random(int(codes.max()) + 1) >= self.share)[codes]

    def _mar(self, frame: Any, response: str, y: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        z, at_risk = self._score(frame, response, y), np.ones(len(frame), bool)
        if self.on == response:
            if self.unit is None:
                raise DataError("`missing`: rows that are lost by their own response are not missing at random. Say"
                                " `unit` and `time`, and they depend on the unit's first.")  # fmt: skip
            unit, order = _codes(frame, self.unit), self._order(frame)
            first = np.full(int(unit.max()) + 1, -1)
            first[unit[order[::-1]]] = order[::-1]  # the earliest row is written last
            at_risk[first] = False
            z = z[first][unit]
        p = np.zeros(len(frame))
        p[at_risk] = self._chance(z[at_risk])
        return rng.random(len(frame)) >= p

    def _dropout(self, frame: Any, response: str, y: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """Occasions one after the other: h_ij = expit(a + slope·z of the occasion before), a common to all units."""
        unit, order = _codes(frame, str(self.unit)), self._order(frame)
        rows = order[np.argsort(unit[order], kind="stable")]  # unit by unit, in time
        starts = np.r_[True, unit[rows][1:] != unit[rows][:-1]]
        z = self._score(frame, response, y)[rows] if self.on is not None else np.zeros(len(rows))
        before = np.r_[0.0, z[:-1]]
        which = np.cumsum(starts) - 1
        at_risk = ~starts

        def share(a: float) -> float:
            stays = np.where(at_risk, np.log1p(-expit(a + self.slope * before)), 0.0)
            return 1.0 - float(np.exp(np.bincount(which, stays)).mean())

        if share(30.0) < self.share:
            raise DataError(
                f"`missing`: a share of {self.share:g} of the units cannot drop out: too many have one row."
            )
        h = np.where(at_risk, expit(brentq(lambda a: share(a) - self.share, -60.0, 30.0) + self.slope * before), 0.0)
        leaves = rng.random(len(rows)) < h
        gone = np.cumsum(leaves)
        seen = np.empty(len(rows), bool)
        seen[rows] = gone - gone[starts][which] == 0  # nothing of a unit has left yet; its first row never does
        return seen

    def _score(self, frame: Any, response: str, y: np.ndarray | None) -> np.ndarray:
        """The variable `on`, standardised."""
        if self.on == response:
            if y is None:
                raise DataError("`missing` depends on the response, which is not drawn yet.")
            values = y
        else:
            try:
                values = frame[self.on].to_numpy(float)
            except ValueError:
                raise DataError(f"`missing`: `{self.on}` is not numeric.") from None
        sd = values.std()
        return (values - values.mean()) / sd if sd > 0 else np.zeros(len(values))

    def _order(self, frame: Any) -> np.ndarray:
        return np.argsort(frame[self.time].to_numpy(), kind="stable")

    def _chance(self, z: np.ndarray) -> np.ndarray:
        """expit(a + slope·z) of mean `share`."""
        a = brentq(lambda a: float(expit(a + self.slope * z).mean()) - self.share, -700.0, 700.0)
        return expit(a + self.slope * z)


def _codes(frame: Any, name: str) -> np.ndarray:
    return np.unique(frame[name].astype(str).to_numpy(), return_inverse=True)[1]
