"""An animal model on 100,000 animals, one trait and two: A⁻¹, what is worked out once, one AI-REML iteration, memory.

    nice -n 10 uv run python tests/benchmarks/bench_pedigree.py [--animals 100000] [--fit] [nucleus herds wild mixed]

Four inbred pedigrees. `nucleus`: 20 generations, 1 in 200 animals is a sire and 1 in 10 a dam, as in pigs and poultry.
`herds`: 15 years of dairy cows, each replaced from its own herd of 200, by bulls that serve all herds (20 young ones a
year, from the same dams). `wild`: 10 generations in colonies of 100 that breed among themselves but for one father in
fifty. `mixed`: five generations in which nearly every female breeds, with any male: nothing parts such a pedigree, and
its factor fills in. Every animal has one record of each trait, a tenth of the second missing; fixed effects are the
mean and the year. An iteration asks for score and average information (REML), as AI does. Seconds are by the clock and,
in brackets, of the processor, one thread: on a busy machine compare those. Peak is what the process holds at most while
a model is built and evaluated. `--fit` runs AI to its end too.

One core of an AMD EPYC, processor seconds at 100,000 animals: A⁻¹ 0.04 to 1.0; an iteration of one trait and of two
nucleus 0.2, 1.0; herds 0.2, 1.1; wild 0.3, 1.5; mixed 4.7, 31, bound by one dense front of about 7,400 columns.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np  # noqa: E402 - after the threads are set
import pandas as pd  # noqa: E402 - after the threads are set

import vcbench as vc  # noqa: E402 - after the threads are set
from vcbench import kernels  # noqa: E402 - after the threads are set
from vcbench.model.pedigree import Pedigree  # noqa: E402 - after the threads are set

NEED = ("score", "average")
G = np.array([[0.4, 0.2], [0.2, 0.3]])  # Ω of (a, b)
R = np.array([[0.6, 0.1], [0.1, 0.7]])
HERD, COLONY = 200, 100


def born(sire: np.ndarray, dam: np.ndarray, year: np.ndarray) -> pd.DataFrame:
    """Animals 1 … m, parents by number, 0 where unknown."""
    return pd.DataFrame({"id": np.arange(1, len(sire) + 1), "sire": sire, "dam": dam, "year": year})


def nucleus(m: int, rng: np.random.Generator) -> pd.DataFrame:
    """Generations of m/20: sires and dams are drawn from the one before."""
    size = m // 20
    year = np.arange(m) // size
    sire, dam = np.zeros((2, m), np.int64)
    for g in range(1, year[-1] + 1):
        own = np.flatnonzero(year == g)
        before = rng.permutation(np.flatnonzero(year == g - 1)) + 1
        fathers, mothers = np.split(before[: size // 200 + size // 10], [max(size // 200, 1)])
        dam[own] = rng.choice(mothers, len(own))
        sire[own] = fathers[dam[own] % len(fathers)]  # a dam has one mate
    return born(sire, dam, year)


def herds(m: int, rng: np.random.Generator) -> pd.DataFrame:
    """Cows in herds; a cow's dam is of her herd, one to four years older; bulls of the last three years serve all."""
    years = 15
    n_herds, bulls = max(m // HERD, 1), 20
    herd, year = np.arange(m) % n_herds, np.sort(rng.integers(0, years, m))
    is_bull = np.zeros(m, bool)
    for t in range(years):
        is_bull[rng.choice(np.flatnonzero(year == t), bulls, replace=False)] = True
    sire, dam = np.zeros((2, m), np.int64)
    of = {key: np.asarray(at) for key, at in pd.Series(np.arange(m)).groupby([herd, year, is_bull]).indices.items()}
    for i in np.flatnonzero(year > 0):
        mothers = np.concatenate([of.get((herd[i], t, False), np.zeros(0, int)) for t in range(year[i] - 4, year[i])])
        dam[i] = rng.choice(mothers) + 1 if len(mothers) else 0
    for t in range(1, years):
        own = np.flatnonzero(year == t)
        sire[own] = rng.choice(np.flatnonzero(is_bull & (year < t) & (year >= t - 3)), len(own)) + 1
    return born(sire, dam, year)


def wild(m: int, rng: np.random.Generator) -> pd.DataFrame:
    """Ten generations of m/10 in colonies: ten mothers and five fathers of the last one, 2 % of them from elsewhere."""
    size = m // 10
    colony, year = np.arange(m) % size // COLONY, np.arange(m) // size
    sire, dam = np.zeros((2, m), np.int64)
    for g in range(1, year[-1] + 1):
        fathers = []
        for c in range(colony.max() + 1):
            own = np.flatnonzero((colony == c) & (year == g))
            before = rng.permutation(np.flatnonzero((colony == c) & (year == g - 1))) + 1
            dam[own] = rng.choice(before[5:15], len(own))
            sire[own] = rng.choice(before[:5], len(own))
            fathers.append(before[:5])
        own = np.flatnonzero(year == g)
        away = own[rng.random(len(own)) < 0.02]
        sire[away] = rng.choice(np.concatenate(fathers), len(away))
    return born(sire, dam, year)


def mixed(m: int, rng: np.random.Generator) -> pd.DataFrame:
    """Five generations of m/5; a twentieth of one are sires of the next and all others may be dams, at random."""
    size = m // 5
    year = np.arange(m) // size
    sire, dam = np.zeros((2, m), np.int64)
    for g in range(1, 5):
        own = np.flatnonzero(year == g)
        before = rng.permutation(np.flatnonzero(year == g - 1)) + 1
        sire[own], dam[own] = rng.choice(before[: size // 20], len(own)), rng.choice(before[size // 20 :], len(own))
    return born(sire, dam, year)


def records(pedigree: Pedigree, frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Two traits a, b of every animal: u = parents' mean + Mendelian sampling, founders and d_i as A has them."""
    u = rng.standard_normal((len(pedigree), 2)) @ np.linalg.cholesky(G).T
    u *= np.sqrt(pedigree.mendelian())[:, None]
    for i, (s, d) in enumerate(zip(pedigree.sire, pedigree.dam, strict=True)):
        for p in (s, d):
            if p >= 0:
                u[i] += 0.5 * u[p]
    at = pedigree.positions(frame["id"])
    y = u[at] + rng.standard_normal((len(frame), 2)) @ np.linalg.cholesky(R).T + 0.05 * frame[["year"]].to_numpy()
    y[rng.random(len(frame)) < 0.1, 1] = np.nan
    return pd.DataFrame({"animal": frame["id"], "year": frame["year"].astype(str), "a": y[:, 0], "b": y[:, 1]})


def memory(entry: str) -> float:
    """MB of this process (VmRSS, VmHWM)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(entry)) / 1024


def clocked[T](work: Callable[[], T]) -> tuple[T, str]:
    """(answer, seconds by the clock and of the processor)."""
    wall, cpu = time.perf_counter(), time.process_time()
    out = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return out, f"{wall:.2f} s ({cpu:.2f})"


def report(what: str, model: vc.Model, theta: np.ndarray, fit: bool) -> None:
    """Ordering and fronts once, an iteration, memory; the whole fit if asked for."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    kernel, once = clocked(lambda: kernels.build(model, "sparse"))
    _, iteration = clocked(lambda: kernel.evaluate(theta, NEED, "reml"))
    fronts = (kernel.view.inner if hasattr(kernel, "view") else kernel).design.fronts  # correlated residuals or not
    print(
        f"  {what:<11} once {once}, an iteration {iteration}, peak {memory('VmHWM'):,.0f} MB; "
        f"L has {fronts.n_nonzero / 1e6:.1f} M entries from {fronts.flops / 1e9:.1f} G multiplications",
        flush=True,
    )
    if fit:
        found, seconds = clocked(lambda: vc.fit(model, "ai"))
        said = ", ".join(f"{name} {value:.3f}" for name, value in found.theta.items())
        print(f"  {'':<11} AI to its end {seconds}, {found.n_iter} iterations, {found.status}: {said}", flush=True)


def main() -> None:
    """A table for each pedigree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pedigrees", nargs="*", help="default: all four")
    parser.add_argument("--animals", type=int, default=100_000)
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    for draw in (nucleus, herds, wild, mixed):
        if draw.__name__ not in (arguments.pedigrees or draw.__name__):
            continue
        for animals in (1000 if draw is not herds else 3000, arguments.animals):  # the small one compiles
            rng = np.random.default_rng(5)
            frame = draw(animals, rng)
            shuffled = frame.sample(frac=1, random_state=1)
            pedigree, sorting = clocked(lambda: Pedigree.of(shuffled))  # noqa: B023 - called at once
            P, inverting = clocked(pedigree.precision)
            data = records(pedigree, frame, rng)
            cov = {"animal": vc.covariance.pedigree(pedigree)}
            one = vc.Model.from_formula("a ~ year + (1 | animal)", data, cov=cov)
            formulas = [f"{trait} ~ year + (1 | animal)" for trait in "ab"]
            two = vc.genetics.multi_trait(formulas, data, cov=cov)
            models = (("one trait", one, [0.5, 0.5]), ("two traits", two, [0.5, 0.1, 0.4, 0.5, 0.05, 0.5]))
            if animals < arguments.animals:
                for _, model, theta in models:
                    kernels.build(model, "sparse").evaluate(np.array(theta), NEED, "reml")
                continue
            F = pedigree.inbreeding()
            print(
                f"{draw.__name__}: {len(pedigree):,} animals in no order, inbreeding {F.mean():.3f} on average and at "
                f"most {F.max():.3f}\n  read and sorted {sorting}, A⁻¹ {inverting} with {P.nnz:,} entries",
                flush=True,
            )
            for what, model, theta in models:
                report(what, model, np.array(theta), arguments.fit)


if __name__ == "__main__":
    main()
