"""Crossed and nested factors: processor time and memory of a fit from a data frame, against glmm, mixedlm and lme4.

    uv run python tests/benchmarks/bench_crossed.py [--python PYTHON] [--repeats 5]

InstEval (73,421 rows: 2972 students, 1128 lecturers, 28 dept:service) and Chem97 (31,022 rows: 2410 schools within 131
areas), both ML. Needs the shared data (VCBENCH_DATA). `--python`: an interpreter that has glmm and mixedlm, if this one
has not; lme4 is run where Rscript is. A program that is not there is left out.

Every program fits in processes of its own with one thread, in turns, so that a busy machine is busy for all. A process
reads the data and fits three times. The least processor time counts; of memory, the peak of the first fit less that
after import and reading the data ("above import"). In another process a small data set is fitted first, which loads
what is compiled (Numba's first use alone takes 45 MB): the peak less that is what the fit needs ("above a small fit").
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
DATA = {
    "InstEval": ("insteval", ("s", "d", "service", "dept"), "y ~ service + (1|s) + (1|d) + (1|dept:service)"),
    "Chem97": ("chem97", ("lea", "school"), "score ~ gcsecnt + (1|school) + (1|lea)"),
}
SMALL = ("penicillin", ("plate", "sample"), "diameter ~ 1 + (1|plate) + (1|sample)")
PROGRAMS = ("vcbench", "glmm", "mixedlm", "lme4")
TARGETS = {("InstEval", "glmm"): "seconds ≤ 0.6, memory ≤ 1.5", ("Chem97", "mixedlm"): "seconds ≤ 1"}
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS")

R_CODE = """
suppressPackageStartupMessages(library(lme4))
a <- commandArgs(TRUE)
read <- function(file, factors) { d <- read.csv(file); for (f in factors) d[[f]] <- factor(d[[f]]); d }
peak <- function() as.numeric(gsub("[^0-9]", "", grep("VmHWM", readLines("/proc/self/status"), value = TRUE))) / 1024
d <- read(a[1], strsplit(a[2], ",")[[1]]); small <- read(a[4], strsplit(a[5], ",")[[1]])
if (a[7] == "warm") invisible(lmer(as.formula(a[6]), small, REML = FALSE))
before <- peak()
best <- Inf
for (i in 1:2) {
  t <- proc.time(); m <- suppressWarnings(lmer(as.formula(a[3]), d, REML = FALSE)); t <- proc.time() - t
  best <- min(best, t[["user.self"]] + t[["sys.self"]])
  if (i == 1) after <- peak()
}
cat(sprintf('{"seconds": %.6f, "memory": %.3f, "loglik": %.9f}\\n', best, after - before, as.numeric(logLik(m))))
"""


def peak() -> float:
    """The largest size that this process has had, MB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def fitter(program: str):
    """(fit of a formula and a frame, its log-likelihood) of a Python package."""
    if program == "vcbench":
        import narwhals  # noqa: F401 - this and the next, and Numba, come with the first fit: they are import all the same
        import scipy.linalg  # noqa: F401 - imported for its size alone

        import vcbench
        import vcbench.kernels.choose
        import vcbench.model.formula
        import vcbench.solvers.run

        return lambda f, d: vcbench.fit(vcbench.Model.from_formula(f, d), criterion="ml"), lambda m: m.loglik
    if program == "glmm":
        import glmm

        return lambda f, d: glmm.fit(d, f, reml=False), lambda m: m.loglik
    import mixedlm

    return lambda f, d: mixedlm.lmer(f, d, REML=False), lambda m: m.logLik().value


def child(program: str, data: str, warm: str) -> None:
    """Fit in this process, after a small fit if `warm`, and print one line of JSON."""
    import pandas as pd

    fit, loglik = fitter(program)

    def frame(name: str, factors: tuple[str, ...]) -> pd.DataFrame:
        return pd.read_csv(FOLDER / f"{name}.csv", dtype=dict.fromkeys(factors, "category"))

    file, factors, formula = DATA[data]
    d, small = frame(file, factors), frame(*SMALL[:2])
    if warm == "warm":
        fit(SMALL[2], small)
    before, after, seconds, model = peak(), 0.0, [], None
    for _ in range(3):
        began = time.process_time()
        model = fit(formula, d)
        seconds.append(time.process_time() - began)
        after = after or peak()
    print(json.dumps({"seconds": min(seconds), "memory": after - before, "loglik": float(loglik(model))}))


def run(program: str, data: str, python: str) -> dict | None:
    """A cold and a warm process of a program; None where it is not there."""
    cold, warm = (process(program, data, python, how) for how in ("cold", "warm"))
    if cold is None or warm is None:
        return None
    return {
        "seconds": min(cold["seconds"], warm["seconds"]),
        "above_import": cold["memory"],
        "above_small": warm["memory"],
        "loglik": cold["loglik"],
    }


def process(program: str, data: str, python: str, how: str) -> dict | None:
    """One process of a program; None where it is not there."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    file, factors, formula = DATA[data]
    if program == "lme4":
        if shutil.which("Rscript") is None:
            return None
        small, small_factors, small_formula = SMALL
        files = [str(FOLDER / f"{file}.csv"), ",".join(factors), formula]
        files += [str(FOLDER / f"{small}.csv"), ",".join(small_factors), small_formula, how]
        command = ["Rscript", "-e", R_CODE, *files]
    else:
        command = [sys.executable if program == "vcbench" else python, __file__, "--child", program, data, how]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        missing = "No module named" in done.stderr or "no package called" in done.stderr
        if not missing:
            print(f"{program} on {data} failed:\n{done.stderr[-800:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--python", default=sys.executable)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--child", nargs=3, metavar=("PROGRAM", "DATA", "HOW"))
    said = arguments.parse_args()
    if said.child:
        child(*said.child)
        return 0
    if not (FOLDER / "INDEX.toml").is_file():
        print(f"the shared data are not in {FOLDER}: set VCBENCH_DATA", file=sys.stderr)
        return 2
    for data in DATA:
        runs: dict[str, list[dict]] = {program: [] for program in PROGRAMS}
        for turn in range(said.repeats):
            for program in PROGRAMS:
                if turn and (not runs[program] or (program == "lme4" and turn > 1)):
                    continue  # not there; lme4 takes seconds a fit
                found = run(program, data, said.python)
                if found is not None:
                    runs[program].append(found)
        middle = {
            program: {key: statistics.median(one[key] for one in found) for key in found[0]}
            for program, found in runs.items()
            if found
        }
        ours = middle["vcbench"]
        print(f"{data}, ML, {len(runs['vcbench'])} processes each; ratios are vcbench / the other")
        print(f"  {'':9}{'CPU s':>9}{'MB above import':>17}{'above a small fit':>19}   log-likelihood      ratios")
        for program, at in middle.items():
            ratios = " ".join(f"{ours[key] / at[key]:6.2f}" for key in ("seconds", "above_import", "above_small"))
            target = TARGETS.get((data, program), "")
            print(
                f"  {program:9}{at['seconds']:9.4f}{at['above_import']:17.1f}{at['above_small']:19.1f}"
                f"{at['loglik']:17.6f}   {ratios}  {target}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
