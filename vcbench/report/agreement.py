"""How far the methods' answers lie apart, data set by data set, in standard errors.

In each (condition, replicate) and criterion the reference is the answer with the highest log-likelihood among the
maximisers that ended CONVERGED or AT_BOUNDARY. A method's distance is the largest over variance parameters p of

    |θ̂_p − θ̂_ref,p| / SE(θ̂_ref,p)

so that 0.001 means: nobody could see the difference in a table. Where the reference has no SE (a boundary) the median
SE of that parameter in the condition stands in, then |θ̂_ref,p|. Methods that do not climb a likelihood (moments,
posteriors) answer another question; their distance is to the REML answer where there is one, and never makes a verdict.
Other programs under ML or REML climb the same likelihood: they have a deficit against our best, below 0 where theirs is
higher, but are no reference.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vcbench.report.evidence import GOOD, KEY, Evidence

SAME = 1e-3
COLUMNS = (
    "condition",
    "method",
    "criterion",
    "against",
    "n",
    "largest",
    "median",
    "share_same",
    "deficit",
    "replicate",
    "early",
    "early_largest",
)


def distances(evidence: Evidence, place: str) -> pd.DataFrame:
    """One row a fit of a condition with an estimate: condition, replicate, method, distance, deficit, ok, against."""
    rows = evidence.rows(place)
    rows = rows[rows["parameter"].isin(evidence.theta or evidence.parameters)]
    if not rows["estimate"].notna().any():
        return pd.DataFrame(columns=[*KEY, "criterion", "against", "ok", "distance", "deficit"])
    estimate = rows.pivot_table(
        index=KEY, columns="parameter", values="estimate", aggfunc="first", dropna=False
    ).dropna(how="all")
    se = rows.pivot_table(index=KEY, columns="parameter", values="se", aggfunc="first", dropna=False).reindex(
        estimate.index
    )
    se = se.reindex(columns=estimate.columns).where(lambda s: s > 0)
    fits = evidence.fits(place).set_index(KEY).reindex(estimate.index)
    methods = estimate.index.get_level_values("method")
    climbs = np.array([m in evidence.climbs for m in methods])
    criterion = np.array([evidence.criteria.get(m, "") for m in methods])
    spread = _fill_se(estimate, se)
    ok = fits["status"].isin(GOOD).to_numpy()
    frame = pd.DataFrame({"criterion": criterion, "climbs": climbs, "ok": ok, "loglik": fits["loglik"].to_numpy()})
    frame = pd.concat([estimate.index.to_frame(index=False), frame], axis=1)
    best = frame[frame["climbs"] & frame["ok"] & frame["loglik"].notna()]
    best = best.loc[best.groupby([*KEY[:2], "criterion"], sort=True)["loglik"].idxmax()]
    reference = best.assign(place=best.index)[[*KEY[:2], "criterion", "place"]].rename(columns={"criterion": "against"})
    other = reference.assign(reml=reference["against"] != "reml").sort_values([*KEY[:2], "reml", "against"])
    other = other.drop_duplicates(KEY[:2])[[*KEY[:2], "against"]]
    frame = frame.merge(other, on=KEY[:2], how="left")
    same = (frame["climbs"] | frame["method"].isin(_programs(evidence))).to_numpy()
    frame["against"] = frame["against"].where(~same, frame["criterion"])
    frame = frame.merge(reference, on=[*KEY[:2], "against"], how="left")
    known = frame["place"].notna().to_numpy()
    mine, at = np.flatnonzero(known), frame.loc[known, "place"].to_numpy(int)
    values, scales = estimate.to_numpy(float), spread.to_numpy(float)
    gap = np.abs(values[mine] - values[at]) / scales[at]
    some = ~np.isnan(gap).all(axis=1)
    frame, same = frame.iloc[mine[some]], same[mine[some]]
    frame = frame.assign(distance=np.nanmax(gap[some], axis=1))
    deficit = frame["loglik"].to_numpy()
    frame["deficit"] = np.where(same, best["loglik"].reindex(at[some]).to_numpy() - deficit, np.nan)
    return frame.drop(columns=["loglik", "place"]).reset_index(drop=True)


def _programs(evidence: Evidence) -> set[str]:
    """The methods that are other programs' maxima of a likelihood."""
    entries = [e for e in evidence.run.get("methods") or [] if isinstance(e, Mapping)]
    peers = {str(e.get("label")) for e in entries if e.get("kind") == "peer"}
    return {m for m in peers if evidence.criteria.get(m) in ("ml", "reml")}


def _fill_se(estimate: pd.DataFrame, se: pd.DataFrame) -> pd.DataFrame:
    """SEs with the condition's median where one is absent, then |θ̂|, then 1."""
    usual = se.groupby(level="condition").transform("median")
    filled = se.fillna(usual).fillna(estimate.abs().where(lambda x: x > 0))
    return filled.fillna(1.0)


def summarise(distance: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """One row a (condition, method): n compared, largest and median distance, share within SAME, largest deficit.

    Fits that ended early (MAX_ITER) are apart in `early` (their number) and `early_largest`.
    """
    out = []
    for (condition, method), part in distance.groupby(["condition", "method"], sort=False):
        good, early = part[part["ok"]], part[~part["ok"]]
        worst = good.loc[good["distance"].idxmax()] if len(good) else None
        out.append(
            (
                condition,
                method,
                part["criterion"].iloc[0],
                part["against"].iloc[0],
                len(good),
                good["distance"].max() if len(good) else np.nan,
                good["distance"].median() if len(good) else np.nan,
                float((good["distance"] <= SAME).mean()) if len(good) else np.nan,
                good["deficit"].max() if len(good) else np.nan,
                int(worst["replicate"]) if worst is not None else -1,
                len(early),
                early["distance"].max() if len(early) else np.nan,
            )
        )
    frame = pd.DataFrame(out, columns=list(COLUMNS))
    orders = {"condition": [c.id for c in evidence.conditions], "method": list(evidence.methods)}
    ranks = frame.assign(**{c: frame[c].map({v: i for i, v in enumerate(o)}) for c, o in orders.items()})
    return frame.loc[ranks.sort_values(["condition", "method"]).index].reset_index(drop=True)


def groups(evidence: Evidence, agreement: pd.DataFrame) -> list[tuple[str, tuple[str, ...]]]:
    """Answers rather than methods: maximisers of one criterion that agree in 99 % of the data sets share an entry.

    Returns (name, methods): `REML maximisers` when it is all of a criterion's, else the methods' own names.
    """
    left = list(evidence.methods)
    out: list[tuple[str, tuple[str, ...]]] = []
    for criterion in sorted({c for m, c in evidence.criteria.items() if m in left and m in evidence.climbs}):
        climbers = [m for m in left if m in evidence.climbs and evidence.criteria[m] == criterion]
        part = agreement[agreement["method"].isin(climbers)]
        together = []
        for m in climbers:
            mine = part[(part["method"] == m) & (part["n"] > 0)]
            if len(mine) and np.average(mine["share_same"], weights=mine["n"]) >= 0.99:
                together.append(m)
        if len(together) < 2:
            continue
        if len(together) == len(climbers):
            name = f"{criterion.upper()} maximisers" if criterion else "likelihood maximisers"
        else:
            name = (
                "/".join(together)
                if len(together) <= 3
                else f"{together[0]} and {len(together) - 1} that agree with it"
            )
        out.append((name, tuple(together)))
        left = [m for m in left if m not in together]
    return out + [(m, (m,)) for m in left]
