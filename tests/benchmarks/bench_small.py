"""Small fits and batches of one design: processor time against glmm, nlme and formulaic, as ratios.

    uv run python tests/benchmarks/bench_small.py [--python PYTHON] [--rounds 5]

Every program runs in a process of its own with one thread; rounds alternate between them, the median round counts.
`--python`: an interpreter that has glmm 0.6.2, if this one has not. nlme needs Rscript. What is not there is left out.

* sleepstudy, REML: one fit from a built model against glmm's `fit(dict, …, satterthwaite=False)`.
* sleepstudy from a data frame: formula, model and fit against formulaic's own time for `Reaction ~ Days`.
* 1000 responses of one design, sleepstudy-like, N = 18 and 100 groups, balanced and with rows lost: `fit_many` against
  glmm's fits one by one, fits a CPU second.
* Orthodont, AR(1) beside a random intercept, ML: one fit from a built model against nlme's `lme`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("VCBENCH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS")
FORMULA = "Reaction ~ Days + (Days | Subject)"
DESIGNS = [(18, False), (100, False), (18, True), (100, True)]

R_CODE = """
suppressPackageStartupMessages(library(nlme))
d <- read.csv(commandArgs(TRUE)[1]); d$Subject <- factor(d$Subject)
ar1 <- corAR1(form = ~ 1 | Subject)
f <- function() lme(distance ~ age, d, random = ~ 1 | Subject, correlation = ar1, method = "ML")
m <- f(); n <- 40
t <- proc.time(); for (i in 1:n) f(); t <- proc.time() - t
cat(sprintf('{"orthodont": %.9f, "loglik": %.6f}\\n', (t[["user.self"]] + t[["sys.self"]]) / n, as.numeric(logLik(m))))
"""


def simulated(n_groups: int, unbalanced: bool, n_responses: int):
    """(Days, Subject, Y (n, R)): β = (251.4, 10.47), Ω = [612, 9.6; 9.6, 35], σ² = 655, 10 days."""
    import numpy as np

    rng = np.random.default_rng(20261121)
    days = np.tile(np.arange(10.0), n_groups)
    subject = np.repeat(np.arange(n_groups), 10)
    L = np.linalg.cholesky(np.array([[612.0, 9.6], [9.6, 35.0]]))
    b = np.einsum("ab,rgb->rga", L, rng.standard_normal((n_responses, n_groups, 2)))
    Y = 251.4 + 10.47 * days + b[:, subject, 0] + b[:, subject, 1] * days
    Y += np.sqrt(655.0) * rng.standard_normal(Y.shape)
    keep = rng.random(len(days)) < 0.8 if unbalanced else np.ones(len(days), bool)
    return days[keep], np.array([f"s{i}" for i in subject])[keep], np.ascontiguousarray(Y[:, keep].T)


def per_call(call, seconds: float = 0.5) -> float:
    """CPU seconds a call, after a warm-up."""
    call()
    start, n = time.process_time(), 0
    while time.process_time() - start < seconds:
        call()
        n += 1
    return (time.process_time() - start) / n


def ours() -> dict:
    """vcbench's times; formulaic's beside them."""
    import formulaic
    import numpy as np
    import pandas as pd

    import vcbench as vc

    sleep = pd.read_csv(FOLDER / "sleepstudy.csv")
    ortho = pd.read_csv(FOLDER / "orthodont.csv")
    model = vc.Model.from_formula(FORMULA, sleep)
    ar1 = vc.Model.from_formula("distance ~ age + (1 | Subject)", ortho, residual="ar1(factor(age), group=Subject)")
    out = {
        "single": per_call(lambda: vc.fit(model)),
        "frame": per_call(lambda: vc.fit(vc.Model.from_formula(FORMULA, sleep))),
        "formulaic": per_call(lambda: formulaic.model_matrix("Reaction ~ Days", sleep)),
        "orthodont": per_call(lambda: vc.fit(ar1, criterion="ml")),
        "orthodont_loglik": vc.fit(ar1, criterion="ml").loglik,
    }
    for n, unbalanced in DESIGNS:
        days, subject, Y = simulated(n, unbalanced, 1000)
        frame = pd.DataFrame({"Days": days, "Subject": subject, "Reaction": Y[:, 0]})
        design = vc.Model.from_formula(FORMULA, frame)
        vc.fit_many(design, Y[:, :2])
        start = time.process_time()
        many = vc.fit_many(design, Y)
        out[f"batch {n} {unbalanced}"] = (time.process_time() - start) / 1000
        out[f"loglik {n} {unbalanced}"] = float(np.sum(many.loglik[:50]))
    return out


def peer() -> dict:
    """glmm's times."""
    import glmm
    import pandas as pd

    sleep = pd.read_csv(FOLDER / "sleepstudy.csv")
    columns = {name: sleep[name].to_numpy() for name in ("Reaction", "Days")}
    columns["Subject"] = sleep["Subject"].astype(str).tolist()

    def fit(data):
        return glmm.fit(data, FORMULA, satterthwaite=False)

    out = {"single": per_call(lambda: fit(columns))}
    for n, unbalanced in DESIGNS:
        days, subject, Y = simulated(n, unbalanced, 200)
        data = [{"Days": days, "Subject": subject.tolist(), "Reaction": y.copy()} for y in Y.T]
        fit(data[0])
        start = time.process_time()
        found = [fit(d) for d in data]
        out[f"batch {n} {unbalanced}"] = (time.process_time() - start) / len(data)
        out[f"loglik {n} {unbalanced}"] = float(sum(f.loglik for f in found[:50]))
    return out


def run(command: list[str]) -> dict | None:
    env = {**os.environ, **dict.fromkeys(THREADS, "1")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        print(f"left out ({command[0]}): {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no word'}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Rounds, medians, ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("ours", "peer"))
    asked = parser.parse_args()
    if asked.only:
        print(json.dumps(ours() if asked.only == "ours" else peer()))
        return 0
    own, theirs, r = [], [], []
    script = str(Path(__file__).resolve())
    for _ in range(asked.rounds):
        own.append(run([sys.executable, script, "--only", "ours"]))
        theirs.append(run([asked.python, script, "--only", "peer"]))
        if shutil.which("Rscript"):
            r.append(run(["Rscript", "-e", R_CODE, str(FOLDER / "orthodont.csv")]))

    def median(rows, key):
        return statistics.median(row[key] for row in rows if row)

    def ms(seconds):
        return f"{1000 * seconds:9.3f} ms"

    if any(theirs):
        a, b = median(own, "single"), median(theirs, "single")
        print(f"sleepstudy REML, built model      {ms(a)}   glmm {ms(b)}   ratio {a / b:5.2f}   (≤ 1)")
    a, b = median(own, "frame"), median(own, "formulaic")
    print(f"sleepstudy REML, data frame       {ms(a)}   formulaic {ms(b)}   ratio {a / b:5.2f}   (≤ 2)")
    for n, unbalanced in DESIGNS if any(theirs) else ():
        key = f"batch {n} {unbalanced}"
        a, b = median(own, key), median(theirs, key)
        said = f"1000 responses, N = {n}, {'unbalanced' if unbalanced else 'balanced'}"
        print(f"{said:<34}{1 / a:9.0f}/s   glmm {1 / b:9.0f}/s   ratio {b / a:5.2f}   (≥ 3)")
    if any(r):
        a, b = median(own, "orthodont"), median(r, "orthodont")
        print(f"Orthodont AR(1) ML, built model   {ms(a)}   nlme {ms(b)}   ratio {b / a:5.2f}   (≥ 5)")
        print(f"  log-likelihoods {own[0]['orthodont_loglik']:.6f} and {r[0]['loglik']:.6f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
