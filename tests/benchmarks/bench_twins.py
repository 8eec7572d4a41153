"""Every card's PyMC twin under NUTS: seconds to build, compile and sample, effective draws per processor second, gates.

    uv run python tests/benchmarks/bench_twins.py                      # all cards, 4 chains x 3 seeds
    uv run python tests/benchmarks/bench_twins.py one_way ar1 --seeds 1
    uv run python tests/benchmarks/bench_twins.py --bambi PYTHON       # beside bambi, from an environment that has it
    uv run python tests/benchmarks/bench_twins.py --write tests/benchmarks/twins.md

Each card is a process of its own, so that nothing is compiled before; PyTensor's cache on disk is as it is found, which
the table's `compile` shows (--cold: an empty one). Settings are the defaults of `vc.bayes.sample`: 1000 draws after
1000 of tuning, 4 chains, default priors, criterion "reml"; chains run one after the other, one BLAS thread. Seconds are
the processor's, those of sampling the median over the seeds, the draws of β and the diagnostics in them. ESS is the
least bulk ESS of all variance parameters and coefficients. A twin is built twice, and the second time counts. A card
passes where R̂ ≤ 1.01, bulk and tail ESS ≥ 400, E-BFMI ≥ 0.2 for every seed and ≤ 0.1 % of all draws diverged; one that
does not keeps its reason.

bambi: the model of the same formula, where it is a formula with independent residuals, sampled by nutpie too, with
bambi's own default priors; its random slopes are independent of the intercepts (it has no correlated group effects).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
SEEDS = (1, 2, 3)
MOST_DIVERGENT = 1e-3

BAMBI = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import arviz as az, bambi as bmb, numpy as np, nutpie, pandas as pd
formula, path, seeds = sys.argv[1], sys.argv[2], [int(s) for s in sys.argv[3].split(",")]
data = pd.read_csv(path)
for c in data.columns:
    if data[c].dtype == object:
        data[c] = data[c].astype("category")
out = {}
clock = time.process_time
start = clock()
model = bmb.Model(formula, data, categorical=json.loads(sys.argv[4]))
model.build()
out["build"] = clock() - start
start = clock()
compiled = nutpie.compile_pymc_model(model.backend.model)
out["compile"] = clock() - start
runs = []
for seed in seeds:
    start = clock()
    draws = nutpie.sample(compiled, draws=1000, tune=1000, chains=4, cores=1, seed=seed, progress_bar=False,
                          target_accept=0.9)
    names = [v for v in draws["posterior"].data_vars
             if "|" not in v or v.endswith("_sigma")]
    ess = min(float(az.ess(draws["posterior"][v].to_dataset(name=v))[v].min()) for v in names)
    rhat = max(float(az.rhat(draws["posterior"][v].to_dataset(name=v))[v].max()) for v in names)
    runs.append({"sample": clock() - start, "ess": ess, "rhat": rhat,
                 "divergences": int(draws["sample_stats"]["diverging"].sum())})
out["runs"] = runs
print("RESULT" + json.dumps(out))
"""


def measure(name: str, seeds: list[int]) -> dict:
    """One card in this process: build, compile, sample with each seed."""
    import arviz  # noqa: F401 - this and the next two come with the first twin: their loading is no part of a card's time
    import nutpie  # noqa: F401 - imported for its loading alone
    import pymc  # noqa: F401 - imported for its loading alone

    import vcbench as vc
    from vcbench.bayes.sampling import compile_twin, diagnose
    from vcbench.cards import load_card

    card = load_card(name)
    model = card.model()
    clock = time.process_time
    vc.bayes.twin(card.model(), card.priors)  # our own compiled kernels are read from their cache here
    start = clock()
    made = vc.bayes.twin(model, card.priors)
    built = clock() - start
    start = clock()
    compile_twin(made)
    compiled = clock() - start
    runs = []
    for seed in seeds:
        start = clock()
        draws = vc.bayes.sample(made, seed=seed, cores=1)
        spent = clock() - start
        verdict = diagnose(draws, made)
        frame = verdict.frame
        runs.append(
            {
                "sample": spent,
                "ess": float(frame["ess_bulk"].min()),
                "tail": float(frame["ess_tail"].min()),
                "rhat": float(frame["rhat"].max()),
                "bfmi": verdict.bfmi,
                "divergences": verdict.divergences,
                "status": str(verdict.status),
                "message": verdict.message,
            }
        )
    out = {"card": name, "n": model.n_obs, "p": model.n_theta, "d": model.n_fixed, "build": built, "compile": compiled}
    return out | {"form": type(made.reduced).__name__, "runs": runs}


def measure_bambi(name: str, seeds: list[int], python: str) -> dict | str:
    """The same formula in bambi, by another interpreter; why not, where it cannot be."""
    from vcbench.cards import load_card

    card = load_card(name)
    if card.formula is None or card.residual is not None or card.cov:
        return "no formula" if card.formula is None else "has no such structure"
    data = card.data()
    words = [str(c) for c in data.columns if data[c].dtype == object or str(data[c].dtype) in ("str", "category")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        data.to_csv(path, index=False)
        groups = [c for c in words if c in card.formula]
        groups += [str(c) for c in data.columns if f"| {c})" in card.formula and c not in groups]
        given = [card.formula, str(path), ",".join(map(str, seeds)), json.dumps(groups)]
        done = subprocess.run([python, "-c", BAMBI, *given], capture_output=True, text=True, timeout=3600)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT"):
            return json.loads(line.removeprefix("RESULT"))
    return f"failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"


def passes(row: dict) -> tuple[bool, str]:
    """Whether the card passes over all its seeds, and what was missed."""
    from vcbench.bayes.sampling import BFMI, ESS, RHAT

    runs, missed = row["runs"], []
    draws = 4000 * len(runs)
    if max(r["rhat"] for r in runs) > RHAT:
        missed.append(f"R̂ {max(r['rhat'] for r in runs):.3f}")
    least = min(min(r["ess"], r["tail"]) for r in runs)
    if least < ESS:
        missed.append(f"ESS {least:.0f}")
    if min(r["bfmi"] for r in runs) < BFMI:
        missed.append(f"E-BFMI {min(r['bfmi'] for r in runs):.2f}")
    lost = sum(r["divergences"] for r in runs)
    if lost > MOST_DIVERGENT * draws:
        missed.append(f"{lost} of {draws} draws diverged")
    return not missed, "; ".join(missed)


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| card | n, p, d | form | build s | compile s | sample s | ESS | ESS per s | R̂ | divergent | gates "
        "| bambi: compile s | sample s | ESS per s | R̂, divergent |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        runs, (good, why) = row["runs"], passes(row)
        spent, ess = median(r["sample"] for r in runs), min(r["ess"] for r in runs)
        rate = median(r["ess"] / r["sample"] for r in runs)
        worst = f"{max(r['rhat'] for r in runs):.3f}"
        lost = sum(r["divergences"] for r in runs)
        cells = [
            f"`{row['card']}`", f"{row['n']}, {row['p']}, {row['d']}", row["form"], f"{row['build']:.2f}",
            f"{row['compile']:.1f}", f"{spent:.2f}", f"{ess:.0f}", f"{rate:,.0f}",
            worst, f"{lost} of {4000 * len(runs)}", "pass" if good else f"FAILED: {why}",
        ]  # fmt: skip
        other = row.get("bambi", "not run")
        if isinstance(other, str):
            cells += [other, "", "", ""]
        else:
            own = other["runs"]
            worst = max(r["rhat"] for r in own)
            cells += [
                f"{other['compile']:.1f}", f"{median(r['sample'] for r in own):.2f}",
                f"{median(r['ess'] / r['sample'] for r in own):,.0f}",
                f"{worst:.3f}, {sum(r['divergences'] for r in own)}",
            ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cards", nargs="*")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--bambi", help="a Python that has bambi")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    parser.add_argument("--rows", type=Path, help="a file of JSON lines: what is in it is not measured again")
    parser.add_argument("--cold", action="store_true", help="an empty PyTensor cache for each card")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    seeds = list(SEEDS[: asked.seeds])
    if asked.one:
        print("RESULT" + json.dumps(measure(asked.one, seeds)))
        return
    from vcbench.cards import find_cards, load_card

    names = asked.cards or [n for stem in find_cards() for n in (stem, *load_card(stem).variants)]
    known = {}
    if asked.rows and asked.rows.exists():
        known = {row["card"]: row for row in map(json.loads, asked.rows.read_text().splitlines())}
    rows = []
    for name in names:
        if name not in known:
            print(name, file=sys.stderr, flush=True)
            row = measured(name, seeds, asked.cold)
            if row is None:
                continue
            if asked.bambi:
                row["bambi"] = measure_bambi(name, seeds, asked.bambi)
            known[name] = row
            if asked.rows:
                with asked.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        rows.append(known[name])
    text = table(rows)
    print(text)
    if asked.write:
        asked.write.write_text(text + "\n")


def measured(name: str, seeds: list[int], cold: bool) -> dict | None:
    """`measure` in a process of its own; None where it failed, which is printed."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {"PYTENSOR_FLAGS": f"base_compiledir={folder}"} if cold else {}
        command = [sys.executable, __file__, "--one", name, "--seeds", str(len(seeds))]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | flags)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT"):
            return json.loads(line.removeprefix("RESULT"))
    print(f"{name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return None


if __name__ == "__main__":
    main()
