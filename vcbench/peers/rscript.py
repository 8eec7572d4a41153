"""A batch of responses in one Rscript process: matrices go and come back as plain doubles in a folder of its own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.peers.design import Design
from vcbench.status import Status

NO_PACKAGE = 3  # exit code of our scripts
ENDINGS = (Status.CONVERGED, Status.AT_BOUNDARY, Status.MAX_ITER, Status.FAILED)
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def find_rscript(method: str) -> str:
    """The path of Rscript. MethodError where there is none."""
    path = shutil.which("Rscript")
    if path is None:
        raise MethodError(f"`{method}` needs R: there is no Rscript on the PATH. Install R and its package {method}.")
    return path


def run_r(
    method: str,
    design: Design,
    criterion: str,
    Y: np.ndarray,
    info: Mapping[str, Any],
    matrices: Mapping[str, np.ndarray],
    timeout: float | None,
) -> list[dict[str, Any]]:
    """One dict a response, from `<method>.R`.

    info: words and numbers the script reads beside the sizes; matrices: arrays it reads by name, by column; whole
    numbers as int32. Raises MethodError where R or the package is missing; a script that stops by itself, or that
    takes longer than `timeout` seconds, ends every response of the batch as FAILED or TIMEOUT with R's last words.
    """
    program = find_rscript(method)
    n, R = Y.shape
    d, p = design.X.shape[1], design.n_theta
    with tempfile.TemporaryDirectory(prefix="vcbench-") as name, as_file(files("vcbench.peers")) as scripts:
        folder = Path(name)
        said = {"n": n, "R": R, "d": d, "p": p, "criterion": criterion, **info}
        (folder / "info").write_text("".join(f"{key}: {value}\n" for key, value in said.items()), encoding="utf-8")
        for key, matrix in {"X": design.X, "Y": Y, **matrices}.items():
            kind = "<i4" if np.issubdtype(matrix.dtype, np.integer) else "<f8"
            (folder / key).write_bytes(np.asarray(matrix, kind).tobytes(order="F"))
        command = [program, "--no-init-file", str(scripts / f"{method}.R"), str(folder), str(scripts / "exchange.R")]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
                env={**os.environ, **ONE_THREAD, "LANGUAGE": "en"}, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return [{"status": Status.TIMEOUT, "message": f"R took longer than {timeout:g} s"}] * R
        if done.returncode == NO_PACKAGE:
            raise MethodError(f"`{method}` needs R's package {method}, which is not installed for {program}.")
        if done.returncode or not (folder / "out").exists():
            words = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
            return [{"status": Status.FAILED, "message": f"R stopped: {words}"}] * R
        numbers = np.frombuffer((folder / "out").read_bytes(), "<f8").reshape(R, 6 + p + p * p + d + d * d)
        messages = (folder / "messages").read_text(encoding="utf-8").split("\n")[:R]
        version, platform = (folder / "version").read_text(encoding="utf-8").split("\n")[:2]
    extra = {"program": method, "version": version, "platform": platform}
    return [_row(x, message, p, d, extra) for x, message in zip(numbers, messages, strict=True)]


def _row(x: np.ndarray, message: str, p: int, d: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The dict of a response: loglik, n_iter, n_eval, CPU and wall seconds, ending, θ, Cov θ, β, Cov β."""
    theta, theta_cov, beta, beta_cov = np.split(x[6:], np.cumsum([p, p * p, d]))
    return {
        "theta": theta, "theta_cov": theta_cov.reshape(p, p), "beta": beta, "beta_cov": beta_cov.reshape(d, d),
        "loglik": x[0], "n_iter": int(x[1]), "n_eval": int(x[2]), "cpu_seconds": x[3], "seconds": x[4],
        "status": ENDINGS[int(x[5])], "message": message, "extra": dict(extra),
    }  # fmt: skip
