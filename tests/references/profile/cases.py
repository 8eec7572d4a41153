"""lme4's profile-likelihood intervals (`profile.csv`, made by `profile.R`) by our names.

Rscript tests/references/profile/profile.R tests/references/profile/profile.csv models/data
"""

import re
from functools import cache
from pathlib import Path

import pandas as pd
from classics import frame

import vcbench as vc

FORMULAS = {
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleepstudy_reml": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "dyestuff": ("dyestuff", "Yield ~ 1 + (1 | Batch)"),
    "penicillin": ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "pastes": ("pastes", "strength ~ 1 + (1 | batch/cask)"),
}


@cache
def fitted(name: str) -> vc.Fit:
    """The fit that lme4 profiled: ML, but for `sleepstudy_reml`."""
    data, formula = FORMULAS[name]
    criterion = "reml" if name.endswith("_reml") else "ml"
    return vc.fit(vc.Model.from_formula(formula, frame(data)), criterion=criterion)


@cache
def answers() -> pd.DataFrame:
    """fit, parameter (ours), lower, upper."""
    table = pd.read_csv(Path(__file__).parent / "profile.csv")
    return table.assign(parameter=[_name(p) for p in table["parameter"]])


def _name(theirs: str) -> str:
    """`sd_(Intercept)|Subject` -> `Subject:sd((Intercept))`; `cor_Days.(Intercept)|Subject`; sigma."""
    if theirs == "sigma":
        return "residual:sd"
    if match := re.fullmatch(r"sd_(.+)\|(.+)", theirs):
        return f"{match[2]}:sd({match[1]})"
    if match := re.fullmatch(r"cor_(.+)\.(.+)\|(.+)", theirs):
        return f"{match[3]}:cor({match[2]},{match[1]})"
    return theirs
