"""CPU time of a replicate of simulation-based calibration, after the first: here, and by simuk.

    python -m venv /tmp/simuk && /tmp/simuk/bin/pip install simuk==0.3.0 nutpie
    nice -n 10 uv run python tests/benchmarks/bench_sbc.py /tmp/simuk/bin/python [--replicates 10] [--out runs/sbc]

One-way layout of the card `one_way` (6 groups of 5), half-normal standard deviations, NUTS with 4 chains of 500 + 1000
for both, by nutpie, one thread. simuk is given the model as it is usually written, with its effects (non-centred), and
the cheapest one there is to sample: effects integrated out by hand, group means and the sum of squares within groups as
the data. It compiles either again for every replicate; here a twin is compiled once and takes the data. All in one run,
simuk in the Python that is named; CPU seconds of the process, all of its threads counted. Here they include the gates
(R̂, ESS, E-BFMI), chains that are run again, and the ranks of six quantities; there the ranks of the parameters alone.
`--out` keeps the numbers as simuk.json, which a report shows.

One core of an AMD EPYC, shared: see reports/sbc.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

SETTING = {"draws": 1000, "tune": 500, "chains": 4}
RIVAL = """
import json, sys, time, warnings
import numpy as np, pymc as pm, simuk
warnings.simplefilter("ignore")
replicates, scale, setting = int(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])
n, G = 5, 6
with pm.Model() as model:
    mu = pm.Normal("mu", 1500, 100)
    sigma_u = pm.HalfNormal("sigma_u", scale)
    sigma_e = pm.HalfNormal("sigma_e", scale)
    if sys.argv[4] == "marginal":
        pm.Normal("means", mu, pm.math.sqrt(sigma_u**2 + sigma_e**2 / n), observed=1500 + np.arange(6.0))
        pm.Gamma("within", alpha=0.5 * G * (n - 1), beta=0.5 / sigma_e**2, observed=6e4)
    else:
        z = pm.Normal("z", shape=G)
        group = np.repeat(np.arange(G), n)
        pm.Normal("y", mu + sigma_u * z[group], sigma_e, observed=1500 + np.arange(30.0))
at = []
own = simuk.SBC._get_posterior_samples
def timed(self, *a, **k):
    at.append(time.process_time())
    return own(self, *a, **k)
simuk.SBC._get_posterior_samples = timed
sbc = simuk.SBC(model, num_simulations=replicates, seed=1, progress_bar=False,
                sample_kwargs={**setting, "cores": 1, "nuts_sampler": "nutpie"})
sbc.run_simulations()
at.append(time.process_time())
from importlib.metadata import version
print(json.dumps({"each": list(np.diff(at)), "version": version("simuk"), "pymc": version("pymc")}))
"""


def own(replicates: int) -> list[float]:
    """CPU seconds of each replicate here."""
    from vcbench.cards import load_card
    from vcbench.study.sbc import sbc

    found = sbc(load_card("one_way").model(), "nuts", replicates, seed=1)
    return [float(x) for x in found.rows.drop_duplicates("replicate")["cpu_seconds"]]


def main() -> None:
    """Measure both and print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("python", help="a Python that has simuk")
    parser.add_argument("--replicates", type=int, default=10)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    from vcbench.bayes import defaults
    from vcbench.cards import load_card

    scale = defaults(load_card("one_way").model()).sd["residual:var"].scale
    ours = own(asked.replicates)
    here = sum(ours[1:]) / len(ours[1:])
    print(f"here              {here:8.3f} CPU seconds a replicate after the first ({ours[0]:.1f})", flush=True)
    kept: dict[str, Any] = {"program": "simuk", "card": "one_way", "replicates": asked.replicates, "own_cpu": here}
    for form in ("effects", "marginal"):
        theirs = rival(asked.python, asked.replicates, scale, form)
        there = sum(theirs["each"][1:]) / len(theirs["each"][1:])
        first = theirs["each"][0]
        print(f"simuk, {form:10s} {there:8.3f} CPU seconds a replicate after the first ({first:.1f})", flush=True)
        print(f"ratio             {there / here:8.1f}", flush=True)
        kept |= {"version": theirs["version"], "pymc": theirs["pymc"], form: {"cpu": there, "ratio": there / here}}
    if asked.out:
        (asked.out / "simuk.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def rival(python: str, replicates: int, scale: float, form: str) -> dict[str, Any]:
    """What simuk takes for each replicate of one form of the model."""
    command = [python, "-c", RIVAL, str(replicates), str(scale), json.dumps(SETTING), form]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
