"""`gemma`: GEMMA's univariate mixed model y = Xβ + u + e, u ~ N(0, σ_a² K), its null model by REML.

Read from the log of `-lmm 1` on a SNP that is not used: vg, ve, β̂ and their errors to GEMMA's six digits, and the
REML log-likelihood less ½ log|XᵀX|, which GEMMA adds. It centres K, which REML cannot see where X holds the intercept.
Standard errors of variances it does not print; pve and its error are in `extra`. Each response is a run of its own, and
decomposes K again.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.model.model import Model
from vcbench.peers.design import Design, refuse
from vcbench.peers.rscript import ONE_THREAD
from vcbench.status import Status

EDGES = (1.01e-5, 0.99e5)  # λ = vg/ve is searched between 1e-5 and 1e5
LOG = {"vg": "vg estimate in the null model", "ve": "ve estimate in the null model",
       "loglik": "REMLE log-likelihood in the null model", "pve": "pve estimate in the null model",
       "pve_se": "se(pve) in the null model", "beta": "beta estimate in the null model", "beta_se": "se(beta)",
       "minutes": "total computation time", "version": "GEMMA Version"}  # fmt: skip


def fit_gemma(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None
) -> list[dict[str, Any]]:
    """GEMMA's null model. Options: timeout in seconds.

    Raises MethodError where gemma is not there, for any model but one component σ²K (or σ²ZZᵀ) with independent
    residuals, and for an X that does not hold the intercept.
    """
    program = shutil.which("gemma")
    if program is None:
        raise MethodError("`gemma` needs the program gemma, and there is none on the PATH.")
    design = Design.of(model, "gemma")
    if len(design.terms) != 1 or design.terms[0].r != 1:
        refuse("gemma", "it has one variance besides the residual's, of one relationship matrix")
    X, n = design.X, design.n_obs
    ones = X @ np.linalg.lstsq(X, np.ones(n), rcond=None)[0]
    if not np.allclose(ones, 1.0, atol=1e-8):
        refuse("gemma", "X does not hold the intercept, and it centres K")
    term = design.terms[0]
    A = term.A
    if term.codes is not None:
        A = np.zeros((n, term.n_levels))
        A[np.arange(n), term.codes] = term.A[:, 0]
    out = []
    with tempfile.TemporaryDirectory(prefix="vcbench-") as name:
        folder = Path(name)
        np.savetxt(folder / "K", A @ A.T, fmt="%.17g")
        np.savetxt(folder / "X", X, fmt="%.17g")
        snp = ", ".join(str(i % 3) for i in range(n))
        (folder / "snp").write_text(f"none, A, G, {snp}\n", encoding="utf-8")
        half_logdet = 0.5 * float(np.linalg.slogdet(X.T @ X)[1])
        for y in design.response(model, Y).T:
            np.savetxt(folder / "y", y, fmt="%.17g")
            row = _run(program, folder, options.get("timeout"))
            if row["status"] is Status.CONVERGED:
                row["loglik"] -= half_logdet
            out.append(row)
    return out


def _run(program: str, folder: Path, timeout: float | None) -> dict[str, Any]:
    """One run, read from its log."""
    files = [
        part for flag in ("g", "k", "c", "p") for part in (f"-{flag}", {"g": "snp", "k": "K", "c": "X", "p": "y"}[flag])
    ]
    command = [program, *files, "-lmm", "1", "-miss", "1", "-maf", "0", "-r2", "1", "-outdir", ".", "-o", "null"]
    (folder / "null.log.txt").unlink(missing_ok=True)
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
            env={**os.environ, **ONE_THREAD}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"status": Status.TIMEOUT, "message": f"gemma took longer than {timeout:g} s"}
    log = folder / "null.log.txt"
    found = _read_log(log.read_text(encoding="utf-8", errors="replace")) if log.exists() else {}
    if done.returncode or not {"vg", "ve", "loglik"} <= set(found):
        words = " ".join((done.stderr or done.stdout).split())[-300:]
        return {"status": Status.FAILED, "message": f"gemma ended with exit code {done.returncode}: {words}"}
    vg, ve = float(found["vg"]), float(found["ve"])
    edge = not EDGES[0] < vg / ve < EDGES[1]
    return {
        "theta": np.array([vg, ve]), "beta": np.array(found["beta"].split(), float),
        "beta_se": np.array(found["beta_se"].split(), float), "loglik": float(found["loglik"]),
        "cpu_seconds": 60 * float(found["minutes"].split()[0]), "seconds": time.perf_counter() - began,
        "status": Status.AT_BOUNDARY if edge else Status.CONVERGED,
        "message": "λ = vg/ve is at the edge of GEMMA's search" if edge else "",
        "extra": {"program": "gemma", "version": found["version"], "pve": float(found["pve"]),
                  "pve_se": float(found["pve_se"])},
    }  # fmt: skip


def _read_log(text: str) -> dict[str, str]:
    """The entries of GEMMA's log that are used."""
    lines = dict(re.findall(r"^## (.+?)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    return {key: lines[said] for key, said in LOG.items() if said in lines}
