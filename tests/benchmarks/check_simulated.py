"""200 simulated data sets like sleepstudy: is any fit below the best of lme4, glmm and vcbench, or wrongly converged?

    uv run python tests/benchmarks/check_simulated.py [--python PYTHON] [--sets 200]

N = 18 and 100 groups, 10 days, β = (251.4, 10.47), Ω = [612, 9.6; 9.6, 35], σ² = 655, `default_rng(20261121)`; REML
and ML. lme4 needs Rscript, glmm 0.6.2 an interpreter that has it (`--python`). A fit falls short where its ℓ is more
than 1e-6 below the best of the three; it is wrongly converged where it says so and L-BFGS from its end gains more than
1e-6. Exit 1 if one of ours does either.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

FORMULA = "Reaction ~ Days + (Days | Subject)"

R_CODE = """
suppressPackageStartupMessages(library(lme4)); library(methods)
a <- commandArgs(TRUE); d <- read.csv(a[1]); d$Subject <- factor(d$Subject)
Y <- as.matrix(read.csv(a[2], header = FALSE))
ctl <- lmerControl(calc.derivs = FALSE, optimizer = "bobyqa", optCtrl = list(rhoend = 1e-8))
for (reml in c(TRUE, FALSE)) for (j in seq_len(ncol(Y))) {
  d$Reaction <- Y[, j]
  m <- suppressMessages(suppressWarnings(lmer(Reaction ~ Days + (Days | Subject), d, REML = reml, control = ctl)))
  cat(sprintf("%.12f\\n", as.numeric(logLik(m))))
}
"""

GLMM = """
import json, sys, warnings, numpy as np, glmm
warnings.simplefilter("ignore")
d = np.genfromtxt(sys.argv[1], delimiter=",", names=True, dtype=None, encoding="utf8")
Y = np.loadtxt(sys.argv[2], delimiter=",")
out = []
for reml in (True, False):
    for y in Y.T:
        data = {"Days": d["Days"].astype(float), "Subject": d["Subject"].tolist(), "Reaction": y.copy()}
        out.append(float(glmm.fit(data, sys.argv[3], satterthwaite=False, reml=reml).loglik))
print(json.dumps(out))
"""


def responses(n_groups: int, n_sets: int):
    """(Days, Subject, Y (n, sets))."""
    rng = np.random.default_rng(20261121)
    days, subject = np.tile(np.arange(10.0), n_groups), np.repeat(np.arange(n_groups), 10)
    L = np.linalg.cholesky(np.array([[612.0, 9.6], [9.6, 35.0]]))
    Y = np.empty((len(days), n_sets))
    for j in range(n_sets):
        b = rng.standard_normal((n_groups, 2)) @ L.T
        mean = 251.4 + 10.47 * days + b[subject, 0] + b[subject, 1] * days
        Y[:, j] = mean + np.sqrt(655.0) * rng.standard_normal(len(days))
    return days, np.array([f"s{i:03d}" for i in subject]), Y


def main() -> int:
    """A table by N and criterion."""
    import pandas as pd

    import vcbench as vc

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--sets", type=int, default=200)
    asked = parser.parse_args()
    wrong = 0
    for n_groups in (18, 100):
        days, subject, Y = responses(n_groups, asked.sets)
        frame = pd.DataFrame({"Days": days, "Subject": subject, "Reaction": Y[:, 0]})
        peers = {}
        with tempfile.TemporaryDirectory() as folder:
            frame.to_csv(Path(folder) / "d.csv", index=False)
            np.savetxt(Path(folder) / "y.csv", Y, delimiter=",", fmt="%.17g")
            files = [str(Path(folder) / "d.csv"), str(Path(folder) / "y.csv")]
            if shutil.which("Rscript"):
                done = subprocess.run(["Rscript", "-e", R_CODE, *files], capture_output=True, text=True, check=True)
                peers["lme4"] = np.array(done.stdout.split(), float).reshape(2, -1)
            done = subprocess.run(
                [asked.python, "-c", GLMM, *files, FORMULA], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                peers["glmm"] = np.array(json.loads(done.stdout.splitlines()[-1])).reshape(2, -1)
        model = vc.Model.from_formula(FORMULA, frame)
        for i, criterion in enumerate(("reml", "ml")):
            many = vc.fit_many(model, Y, "auto", criterion)
            best = np.max([many.loglik, *(p[i] for p in peers.values())], axis=0)
            short = best - many.loglik
            gains = []
            for j, fit in enumerate(many):
                start = {k: v for k, v in zip(model.theta_names, fit.theta_values, strict=True)}
                if str(fit.status) == "CONVERGED":
                    again = vc.fit(model.replace(y=Y[:, j]), "lbfgs", criterion, start=start, tol=1e-9)
                    gains.append(again.loglik - fit.loglik)
            counts = {s: sum(str(x) == s for x in many.status) for s in sorted({str(x) for x in many.status})}
            bad = int((short > 1e-6).sum()) + int((np.array(gains) > 1e-6).sum())
            wrong += bad
            said = ", ".join(f"{name} {float((best - p[i]).max()):.1e}" for name, p in peers.items())
            print(
                f"N = {n_groups:3d} {criterion:4s}: {counts}; most below the best: vcbench {short.max():.1e}, {said}; "
                f"most gained after converging {max(gains, default=0.0):.1e}; {bad} wrong"
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
