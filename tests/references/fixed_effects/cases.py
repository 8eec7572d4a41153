"""The models whose tests of fixed effects were asked of lmerTest and pbkrtest, and their answers.

    uv run python -m references.fixed_effects.cases        (in tests/; needs R with lmerTest, pbkrtest and jsonlite)

draws the random designs anew (`random_designs.csv`), runs `peer.R` on all cases and writes `answers.json`, which the
tests read.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

import vcbench as vc

HERE = Path(__file__).parent
OURS = HERE.parents[2] / "models" / "data"
SHARED = HERE.parents[3] / "shared" / "data"
SEED = 20261121
N_RANDOM = 27  # the draws that hold 20 with an interior maximum


@dataclass(frozen=True)
class Case:
    """A model of one data set; factors: columns that are factors, levels in the order of their labels; ordered: those
    with polynomial contrasts; drop: rows left out, counted from 1."""

    name: str
    file: str
    formula: str
    factors: tuple[str, ...] = ()
    ordered: tuple[str, ...] = ()
    drop: tuple[int, ...] = ()
    L: dict[str, list] = field(default_factory=dict)  # rows by coefficient name, tested jointly

    @property
    def path(self) -> Path:
        """Where the data are; the file need not be there."""
        own = HERE / self.file
        return own if own.exists() else OURS / self.file if (OURS / self.file).exists() else SHARED / self.file

    def frame(self) -> pd.DataFrame:
        """The data as both programs see them."""
        data = pd.read_csv(self.path)
        if "design" in data:
            data = data[data["design"] == int(self.name.split()[-1])].reset_index(drop=True)
        data = data.drop(index=[i - 1 for i in self.drop]).reset_index(drop=True)
        for column in (*self.factors, *self.ordered):
            labels = data[column].astype(str)
            data[column] = pd.Categorical(labels, sorted(labels.unique()), ordered=column in self.ordered)
        return data

    def model(self) -> vc.Model:
        """As vcbench says it."""
        return vc.Model.from_formula(self.formula, self.frame())


UNBALANCED = (2, 3, 6, 8, 9, 12, 19, 20, 27, 33)  # Pinheiro & Bates (2000), section 1.3: rows of Machines left out
CASES = (
    Case("sleepstudy", "sleepstudy.csv", "Reaction ~ Days + (Days | Subject)", ("Subject",)),
    Case("sleepstudy uncorrelated", "sleepstudy.csv", "Reaction ~ Days + (Days || Subject)", ("Subject",)),
    Case(
        "sleepstudy unbalanced",
        "sleepstudy.csv",
        "Reaction ~ Days + I(Days^2) + (Days | Subject)",
        ("Subject",),
        drop=(3, 4, 17, 18, 19, 20, 44, 45, 46, 71, 72, 73, 74, 75, 76, 111, 140, 141, 169, 170),
    ),
    Case("oats", "oats.csv", "yield ~ Variety * nitro + (1 | Block/Variety)", ("nitro", "Variety", "Block")),
    Case("oats trend", "oats.csv", "yield ~ Variety + nitro + (1 | Block/Variety)", ("Variety", "Block")),
    Case(
        "oats unbalanced",
        "oats.csv",
        "yield ~ Variety * nitro + (1 | Block/Variety)",
        ("nitro", "Variety", "Block"),
        drop=(1, 7, 8, 20, 21, 22, 35, 51, 66, 72),
    ),
    Case(
        "machines unbalanced",
        "machines.csv",
        "score ~ Machine + (1 | Worker/Machine)",
        ("Worker", "Machine"),
        drop=UNBALANCED,
    ),
    Case(
        "machines slopes",
        "machines.csv",
        "score ~ Machine + (0 + Machine | Worker)",
        ("Worker", "Machine"),
        drop=UNBALANCED,
    ),
    Case(
        "cake",
        "cake.csv",
        "angle ~ recipe * temperature + (1 | recipe:replicate)",
        ("recipe", "replicate", "temperature"),
    ),
    Case(
        "cake ordered unbalanced",
        "cake.csv",
        "angle ~ recipe * temperature + (1 | recipe:replicate)",
        ("recipe", "replicate"),
        ("temperature",),
        tuple(range(5, 260, 11)),
    ),
    Case(
        "semiconductor",
        "sasmixed_semiconductor.csv",
        "resistance ~ ET * position + (1 | ET:Wafer)",
        ("ET", "Wafer", "position"),
    ),
    Case(
        "three factors",
        "sasmixed_wafertypes.csv",
        "delta ~ Temperature * Type * Site + (1 | uWafer)",
        ("Temperature", "Type", "Site", "uWafer"),
        drop=(3, 4, 10, 17, 18, 24, 31, 38, 39, 40, 52, 61, 75, 76, 77, 90, 101, 115, 116, 117, 118, 130, 144),
    ),
    Case("incomplete blocks", "sasmixed_incblk.csv", "y ~ Treatment + x + (1 | Block)", ("Treatment", "Block")),
    Case(
        "average daily gain",
        "sasmixed_avgdailygain.csv",
        "adg ~ Treatment * InitWt + (1 | Block)",
        ("Treatment", "Block"),
    ),
    Case(
        "missing cells",
        "oats.csv",
        "yield ~ Variety * nitro + (1 | Block)",
        ("nitro", "Variety", "Block"),
        drop=tuple(i + 1 for i in range(72) if i % 12 in (3, 6)),
    ),
    Case("pastes", "pastes.csv", "strength ~ cask + (1 | batch)", ("cask", "batch")),
)

RANDOM_FORMULAS = (
    "y ~ a * b + (1 | g)",
    "y ~ a * x + (1 | g)",
    "y ~ x + (x | g)",
    "y ~ a + x + (1 | g) + (1 | h)",
    "y ~ a * b + (1 | g) + (1 | h)",
    "y ~ a + b + (1 | g/b)",
)


def random_designs() -> pd.DataFrame:
    """Unbalanced designs with groups g (6 to 14) and h, factors a (3 levels, of groups or rows) and b (2), covariate x.

    Variances are drawn between 0.1 and 2 of the residual's; group sizes are 1 + Poisson(3.5).
    """
    frames = []
    for k, seed in enumerate(np.random.SeedSequence(SEED).spawn(N_RANDOM)):
        rng = np.random.default_rng(seed)
        n_groups = int(rng.integers(6, 15))
        g = np.repeat(np.arange(n_groups), 1 + rng.poisson(3.5, n_groups))
        n = len(g)
        h = rng.integers(0, 5, n)
        between = rng.permutation(np.arange(n_groups) % 3)[g]
        a = between if k % 2 else rng.permutation(np.arange(n) % 3)
        b = rng.permutation(np.arange(n) % 2)
        x = np.round(rng.normal(size=n) + 0.5 * rng.normal(size=n_groups)[g], 3)
        sizes, variances = (n_groups, n_groups, 5, 2 * n_groups), rng.uniform(0.1, 2.0, 4)
        u, s, v, w = (rng.normal(size=m) * np.sqrt(t) for m, t in zip(sizes, variances, strict=True))
        y = 3.0 + u[g] + s[g] * x + v[h] + w[2 * g + b] + 0.4 * a + rng.normal(size=n)
        frames.append(pd.DataFrame({"design": k, "g": g, "h": h, "a": a, "b": b, "x": x, "y": np.round(y, 4)}))
    return pd.concat(frames, ignore_index=True)


def random_cases() -> tuple[Case, ...]:
    """The random designs, formulas in turn."""
    factors = ("g", "h", "a", "b")
    return tuple(
        Case(f"random {k}", "random_designs.csv", RANDOM_FORMULAS[k % len(RANDOM_FORMULAS)], factors)
        for k in range(N_RANDOM)
    )


def all_cases() -> Iterator[Case]:
    """Named data, then random designs."""
    yield from CASES
    yield from random_cases()


@cache
def answers() -> dict[str, dict]:
    """What lmerTest and pbkrtest said, by case."""
    return json.loads((HERE / "answers.json").read_text(encoding="utf-8"))["cases"]


def main() -> None:
    """Draw the designs, ask R, keep its answers."""
    random_designs().to_csv(HERE / "random_designs.csv", index=False)
    with tempfile.TemporaryDirectory() as folder:
        listed = []
        for i, case in enumerate(all_cases()):
            path = Path(folder) / f"{i}.csv"
            case.frame().to_csv(path, index=False)
            listed.append({**asdict(case), "csv": str(path)})
        spec = Path(folder) / "cases.json"
        spec.write_text(json.dumps(listed), encoding="utf-8")
        subprocess.run(["Rscript", str(HERE / "peer.R"), str(spec), str(HERE / "answers.json")], check=True)


if __name__ == "__main__":
    main()
