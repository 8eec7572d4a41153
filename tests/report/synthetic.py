"""A made-up run folder in the layout the study room writes: nothing is fitted, every oddity is put in by hand.

Two real-data conditions (truth null) and simulated ones crossed from two factors; maximisers that agree to 1e-8, an EM
that stops early, a moment method of its own mind and without limits, a posterior with limits, fits at the boundary
(SE null), a failure, a time-out, and traces of replicate 0.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SPEC_HASH = "7f3a9c0d2b5e8f10a4c7"
CRITERION = {"moments": "none", "em": "ml", "px-em": "ml", "px-em-full": "ml", "ecme": "ml", "em-simplified": "ml"}
RATE = {"em": 0.97, "em-simplified": 0.965, "ecme": 0.96, "em-reml": 0.97, "em-henderson": 0.95, "px-em": 0.6}
PARAMETERS = ("Subject:var((Intercept))", "Subject:cov((Intercept),Days)", "Subject:var(Days)", "residual:var")
METHODS = ("ai", "newton", "fisher", "em-reml", "em", "px-em", "moments", "nuts")
BETA = ("(Intercept)", "Days")
PARAMETERS_OF_ONE_WAY = {0: "batch:var", 3: "residual:var", 4: "(Intercept)"}


PROVENANCE = {
    "vcbench": "0.1.0",
    "python": "3.13.1",
    "numpy": "2.3.4",
    "processor": "x86_64, 2 cores",
    "host": "secret-host",
    "cwd": "/home/someone/secret",
    "blas": "/opt/secret/libopenblas.so",
}


def iterations(method: str, rng: np.random.Generator) -> int:
    if method in RATE:
        return int(np.ceil(np.log(1e-9) / np.log(RATE[method]) * rng.uniform(0.5, 2.0)))
    if method.startswith("px-em"):
        return int(rng.integers(20, 45))
    return int(rng.integers(4, 9))


def write_run(
    folder: Path,
    *,
    replicates: int = 60,
    methods: Sequence[str] = METHODS,
    n_groups: Sequence[int] = (6, 18),
    icc: Sequence[float] = (0.0, 0.3),
    real: Sequence[str] = ("random_slope", "one_way"),
    planned: int | None = None,
    title: str = "Which method, on real and on simulated data?",
    study: str = "quickstart",
    seed: int = 7,
) -> Path:
    """Write run.json, rows/, traces/ and spec.toml below `folder`; return it."""
    rng = np.random.default_rng(seed)
    conditions = [{"data": name} for name in real]
    conditions += [{"data": "simulated", "n_groups": q, "icc": rho} for q in n_groups for rho in icc]
    rows: list[dict] = []
    traces: list[dict] = []
    for index, factors in enumerate(conditions):
        is_real = factors["data"] != "simulated"
        names = PARAMETERS + BETA if factors["data"] != "one_way" else ("batch:var", "residual:var", "(Intercept)")
        truth = np.array([600.0, 10.0, 35.0, 655.0])
        if factors.get("icc") == 0.0:
            truth[:3] = 0.0
        q = factors.get("n_groups", 18)
        for replicate in range(1 if is_real else replicates):
            scale = np.array([850.0, 160.0, 45.0, 655.0]) / np.sqrt(q / 2)
            reml = truth + scale * rng.standard_normal(4) * 0.5
            reml[[0, 2, 3]] = np.maximum(reml[[0, 2, 3]], [0, 0, 50])
            at_boundary = reml[2] == 0 or reml[0] == 0
            beta = np.array([251.4, 10.47]) + rng.standard_normal(2) * np.array([6.6, 1.5])
            reml_loglik, ml_loglik = -871.8 + rng.normal(), -875.97 + rng.normal()
            for method in methods:
                criterion = CRITERION.get(method, "reml")
                value = reml.copy()
                if criterion == "ml":
                    value = value * (1 - 1 / q)
                value = value * (1 + rng.normal() * 1e-9)
                if method == "moments":
                    value = reml + scale * rng.standard_normal(4) * 0.15
                if method == "nuts":
                    value = np.maximum(reml, 2.0) * 1.1 + 5.0
                loglik = reml_loglik if criterion == "reml" else ml_loglik
                status, message, code = "CONVERGED", "", ""
                if at_boundary and method not in ("moments", "nuts"):
                    status, code = "AT_BOUNDARY", "VC-BOUNDARY"
                    message = "a variance is 0 at the maximum"
                se = np.where(value == 0, np.nan, scale * (0.45 + 0.05 * rng.random()))
                lower, upper = value - 1.959964 * se, value + 1.959964 * se
                interval = "wald"
                if method == "moments":
                    loglik = loglik - 0.3
                if method == "nuts":
                    lower, upper, interval, loglik = value * 0.55, value * 1.9, "posterior", None
                n_iter = iterations(method, rng)
                if method == "em" and not is_real and rng.random() < 0.06:
                    status, code = "MAX_ITER", "VC-MAX-ITER"
                    message = "stopped after 1000 iterations, 0.004 standard errors from the maximum"
                    n_iter, loglik, value = 1000, loglik - 1e-4, value + scale * 0.004
                if method == "nuts" and replicate == 3:
                    status, message, code = "TIMEOUT", "no answer after 30 s", "VC-TIMEOUT"
                if method == "moments" and replicate in (5, 6):
                    status, message, code = "SINGULAR_V", "V is not positive definite at the estimate", "VC-SINGULAR"
                failed = status in ("TIMEOUT", "SINGULAR_V")
                seconds = {"nuts": 1.9, "moments": 1e-4}.get(method, 2e-5 * n_iter) * rng.lognormal(0, 0.15)
                for j in range(len(PARAMETERS + BETA)):
                    parameter = PARAMETERS_OF_ONE_WAY.get(j) if len(names) == 3 else names[j]
                    if parameter is None:
                        continue
                    theta = j < 4
                    est = value[j] if theta else beta[j - 4]
                    s = se[j] if theta else (6.6, 1.5)[j - 4]
                    lo = lower[j] if theta else est - 1.959964 * s
                    hi = upper[j] if theta else est + 1.959964 * s
                    rows.append(
                        {
                            "study": study,
                            "spec_hash": SPEC_HASH,
                            "condition": f"{index:03d}",
                            **{f"factor_{k}": factors.get(k) for k in ("data", "n_groups", "icc")},
                            "replicate": replicate,
                            "method": method,
                            "criterion": criterion,
                            "parameter": parameter,
                            "truth": None if is_real else (truth[j] if theta else (251.4, 10.47)[j - 4]),
                            "estimate": None if failed else est,
                            "se": None if failed or not np.isfinite(s) else s,
                            "lower": None if failed or method == "moments" or not np.isfinite(lo) else lo,
                            "upper": None if failed or method == "moments" or not np.isfinite(hi) else hi,
                            "interval": None if method == "moments" else interval,
                            "level": 0.95,
                            "loglik": None if failed or loglik is None else loglik,
                            "status": status,
                            "code": code,
                            "message": message,
                            "n_iter": None if failed else n_iter,
                            "n_eval": None if failed else n_iter + 1,
                            "seconds": seconds,
                            "cpu_seconds": seconds * 0.98,
                            "seed_key": f"{index}-{replicate}",
                        }
                    )
                if replicate == 0 and method not in ("moments", "nuts"):
                    top = reml_loglik if criterion == "reml" else ml_loglik
                    rate = RATE.get(method, 0.35 if method.startswith("px") else 0.02)
                    for t in range(n_iter + 1):
                        traces.append(
                            {
                                "condition": f"{index:03d}",
                                "replicate": 0,
                                "method": method,
                                "iteration": t,
                                "loglik": top - 40 * rate**t,
                                "seconds": 2e-5 * t,
                            }
                        )
    frame = pd.DataFrame(rows)
    fits = frame.groupby(["condition", "replicate", "method"]).ngroups
    run = {
        "study": study,
        "title": title,
        "question": "Do the methods find one maximum, are they unbiased, do their intervals cover, what do they cost?",
        "spec_hash": SPEC_HASH,
        "version": "0.1.0",
        "seed": 20261121,
        "conditions": [{"id": f"{i:03d}", "factors": f} for i, f in enumerate(conditions)],
        "methods": [{"label": m, "name": m, "criterion": CRITERION.get(m, "reml"), "options": {}} for m in methods],
        "parameters": [*PARAMETERS, "batch:var", *BETA],
        "n_planned": planned or fits,
        "started": "2026-11-21T08:40:01Z",
        "finished": None if planned and planned > fits else "2026-11-21T08:41:12Z",
    }
    return write_folder(folder, frame, pd.DataFrame(traces), run, f'title = "{title}"\nseed = 20261121\n')


def write_folder(folder: Path, rows: pd.DataFrame, traces: pd.DataFrame, run: dict, spec: str = "") -> Path:
    """The files of a run folder: a shard a (condition, method) with its provenance, traces, run.json, spec.toml."""
    for kind, frame in (("rows", rows), ("traces", traces)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        if frame.empty:
            continue
        for (condition, method), part in frame.groupby(["condition", "method"], sort=True):
            last = int(part["replicate"].max())
            name = f"{condition}-{int(condition):016x}-{crc32(method.encode()):08x}-000000-{last:06d}.parquet"
            table = pa.Table.from_pandas(part, preserve_index=False)
            table = table.replace_schema_metadata({b"vcbench": json.dumps(PROVENANCE).encode()})
            pq.write_table(table, folder / kind / name)
    (folder / "run.json").write_text(json.dumps(run, indent=1))
    (folder / "spec.toml").write_text(spec)
    return folder
