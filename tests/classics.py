"""The classic data sets as frames, from `models/data`."""

from functools import cache
from pathlib import Path

import pandas as pd

import vcbench as vc

DATA = Path(__file__).parents[1] / "models" / "data"


def frame(name: str) -> pd.DataFrame:
    """`sleepstudy`, `dyestuff`, … as a data frame."""
    return pd.read_csv(DATA / f"{name}.csv")


@cache
def sleepstudy() -> vc.Model:
    """Reaction ~ Days + (Days | Subject)."""
    return vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", frame("sleepstudy"))


@cache
def dyestuff() -> vc.Model:
    """Yield ~ 1 + (1 | Batch)."""
    return vc.Model.from_formula("Yield ~ 1 + (1 | Batch)", frame("dyestuff"))


@cache
def dyestuff2() -> vc.Model:
    """Yield ~ 1 + (1 | Batch), whose maximum has a batch variance of 0."""
    return vc.Model.from_formula("Yield ~ 1 + (1 | Batch)", frame("dyestuff2"))
