"""NUTS on a twin: compiled once per structure, given other data without compiling, gated before it is believed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.build import safe
from vcbench.bayes.prior_choice import prior_scales
from vcbench.bayes.split import TOTAL
from vcbench.bayes.twin import Twin
from vcbench.errors import MethodError
from vcbench.model.model import Model
from vcbench.status import Status

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# Gates: at most, at least, at least (R̂, ESS: Vehtari et al. 2021, Bayesian Analysis 16, 667–718).
RHAT, ESS, BFMI = 1.01, 400, 0.2
_COMPILED: dict[tuple, Any] = {}


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Whether the draws may be believed: `frame` (parameter × rhat, ess_bulk, ess_tail), counts, and the ending."""

    frame: "pd.DataFrame"
    divergences: int
    bfmi: float
    status: Status
    message: str


def sample(
    twin: Twin,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    seed: Any = None,
    cores: int | None = None,
    target_accept: float = 0.9,
    progress: bool = False,
    y: Any = None,
) -> "xr.DataTree":
    """Draws from the twin's posterior by nutpie's NUTS, as an ArviZ DataTree.

    `posterior` holds θ by our names, the free variables, correlations and `beta` (under "reml" drawn from its Gaussian
    given θ: composition sampling); `sample_stats` is nutpie's; attributes `ess` and `rhat` are the least bulk or tail
    ESS and the largest R̂, `status` and `message` tell whether the
    chains passed the gates of `diagnose`: R̂ ≤ 1.01, bulk and tail ESS ≥ 400 for every θ and β, no divergence,
    E-BFMI ≥ 0.2. seed: int, SeedSequence or None. cores: chains run at once, all if None. y: another response
    of the same design in place of the twin's own.

    The first twin of a structure is compiled (seconds); later ones in the same process only take their data.
    Raises MethodError for counts that make no sense.
    """
    for key, value, least in (("draws", draws, 4), ("tune", tune, 0), ("chains", chains, 1)):
        if int(value) != value or value < least:
            raise MethodError(f"`{key}` is {value!r}; it must be a whole number, {least} or more.")
    if not 0 < target_accept < 1:
        raise MethodError(f"`target_accept` is {target_accept!r}; it must lie between 0 and 1.")
    import nutpie

    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    for_chains, for_beta = root.generate_state(2, np.uint64)
    source = twin.source if y is None else twin.source.replace(y=y)
    data = twin.data if y is None else twin.data_of(y)
    compiled = compile_twin(twin)
    numbers = numbers_of(twin)
    used = {shared.name for shared in compiled.shared_var_keys}
    compiled = compiled.with_data(**{numbers[n]: value for n, value in data.items() if numbers.get(n) in used})
    compiled = replace(compiled, initial_point_func=_starts(*starting_box(twin, source)))
    out = nutpie.sample(
        compiled,
        draws=int(draws),
        tune=int(tune),
        chains=int(chains),
        cores=min(int(chains), cores) if cores else None,
        seed=int(for_chains >> np.uint64(1)),
        target_accept=target_accept,
        progress_bar=progress,
        save_warmup=False,
    )
    names = {number: name for name, number in numbers.items()}
    posterior = out["posterior"].to_dataset()
    posterior = posterior.rename({v: names[v] for v in posterior.data_vars if v in names})
    if "beta" in posterior:
        # a built model has names, which its annotation does not say
        posterior = posterior.assign_coords(fixed=list(source.X_names))  # type: ignore[arg-type]
    elif source.n_fixed:
        posterior = compose(posterior, twin, y, np.random.default_rng(for_beta))
    out["posterior"] = posterior
    verdict = diagnose(out, twin)
    out.attrs.update(status=str(verdict.status), message=verdict.message, criterion=twin.criterion)
    ess, rhat = verdict.frame[["ess_bulk", "ess_tail"]].min().min(), verdict.frame["rhat"].max()
    out.attrs.update(ess=float(ess), rhat=float(rhat))
    return out


def compile_twin(twin: Twin) -> Any:
    """nutpie's compiled model (Numba) of the twin's structure, nameless; one per process and structure.

    Across processes PyTensor keeps the machine code of its own nodes on disk (`numba__cache`, on by default, in its
    `base_compiledir`): of the 10.7 s that the one-way twin takes where nothing was ever compiled, 5.9 s are left in a
    second process and none in the same one (processor seconds, nutpie 0.16.11, numba 0.68). What is left are the two C
    functions that nutpie wraps around a model; Numba refuses to store those, for they hold the addresses of their data
    ("cannot cache … dynamic globals", also with `cache=True`), and a compiled model cannot be pickled. So a worker
    process compiles each structure once.
    """
    if twin.key not in _COMPILED:
        import nutpie

        _COMPILED[twin.key] = nutpie.compile_pymc_model(twin.anonymous()[0], backend="numba")
    return _COMPILED[twin.key]


def numbers_of(twin: Twin) -> Mapping[str, str]:
    """{name: number} of the variables of the twin's nameless model."""
    if "numbers" not in twin.cache:
        twin.cache["numbers"] = twin.anonymous()[1]
    return twin.cache["numbers"]


def diagnose(posterior: "xr.DataTree", twin: Twin | None = None) -> Diagnostics:
    """R̂ (rank-normalised), bulk and tail ESS of every θ and β, divergences and E-BFMI, and what they mean.

    Status CONVERGED, or FAILED with a message that names each gate that was missed. Without `twin` every scalar of the
    posterior is looked at. Raises MethodError for draws of `approximate`.
    """
    if "sample_stats" not in posterior:
        raise MethodError(
            "these draws are of no Markov chain: an approximation is judged by the Pareto k̂ in its attributes."
        )
    import arviz as az
    import pandas as pd

    draws = _parameters(posterior["posterior"].to_dataset(), twin)
    rows = {
        name: {
            "rhat": float(az.rhat(x)),
            "ess_bulk": float(az.ess(x, method="bulk")),
            "ess_tail": float(az.ess(x, method="tail", prob=(0.05, 0.95))),
        }
        for name, x in draws.items()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    stats = posterior["sample_stats"]
    divergences = int(stats["diverging"].sum())
    energy = np.asarray(stats["energy"])
    bfmi = float(np.min(np.square(np.diff(energy, axis=1)).mean(axis=1) / energy.var(axis=1)))
    missed = []
    if frame["rhat"].isna().any():
        missed.append("R̂ needs at least two chains of four draws that differ")
    elif frame["rhat"].max() > RHAT:
        missed.append(f"R̂ of `{frame['rhat'].idxmax()}` is {frame['rhat'].max():.3f}, above {RHAT}")
    for column, word in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
        least = frame[column].fillna(0.0)
        if least.min() < ESS:
            missed.append(f"{word} ESS of `{least.idxmin()}` is {least.min():.0f}, below {ESS}")
    if divergences:
        missed.append(f"{divergences} divergent transition{'s' if divergences > 1 else ''}")
    if not bfmi >= BFMI:
        missed.append(f"E-BFMI is {bfmi:.2f}, below {BFMI}")
    if not missed:
        return Diagnostics(frame, divergences, bfmi, Status.CONVERGED, "")
    remedy = "Raise `draws` and `tune`" + (", or `target_accept`." if divergences else ".")
    return Diagnostics(frame, divergences, bfmi, Status.FAILED, f"{'; '.join(missed)}. {remedy}")


def theta_draws(posterior: "xr.DataTree", twin: Twin) -> np.ndarray:
    """θ (chains, draws, p) in the order of `theta_names`."""
    data = posterior["posterior"]
    return np.stack([np.asarray(data[safe(n)]) for n in twin.theta_names], axis=-1)


def _parameters(data: "xr.Dataset", twin: Twin | None) -> dict[str, np.ndarray]:
    """Draws (chains, draws) of each scalar that is judged."""
    names = [safe(n) for n in twin.theta_names] if twin else [str(n) for n in data.data_vars if n != "beta"]
    out = {n: np.asarray(data[n]) for n in names if data[n].ndim == 2}
    if "beta" in data:
        labels = [str(v) for v in data["fixed"].values]
        out.update({f"beta[{label}]": np.asarray(data["beta"])[..., j] for j, label in enumerate(labels)})
    return out


def compose(data: "xr.Dataset", twin: Twin, y: Any, rng: np.random.Generator) -> "xr.Dataset":
    """β | θ, y ~ N(GLS, (XᵀV⁻¹X)⁻¹), one draw for each draw of θ; y: another response than the twin's own, or None."""
    reduced = twin.reduced if y is None else twin.reduced.bind(_response(twin.source.replace(y=y)))
    theta = np.stack([np.asarray(data[safe(n)]) for n in twin.theta_names], axis=-1)
    shape = theta.shape[:2]
    A, gamma = reduced.centre(theta.reshape(-1, theta.shape[-1]))
    L = np.linalg.cholesky(A)
    z = rng.standard_normal(gamma.shape)
    gamma = gamma + np.linalg.solve(L.transpose(0, 2, 1), z[..., None])[..., 0]
    beta = reduced.beta_of(gamma).reshape(*shape, -1)
    return data.assign_coords(fixed=list(twin.source.X_names)).assign(beta=(("chain", "draw", "fixed"), beta))  # type: ignore[arg-type]


def starting_box(twin: Twin, source: Model) -> tuple[np.ndarray, np.ndarray]:
    """(centre, half width) (k,) of starts on the unconstrained scale: SDs at half their unit and the parameters of
    structures where solvers start them, each ± 1 on its log or logit scale; β at OLS."""
    units, own = prior_scales(source), twin.middle
    variance_of = {free: name for name, free in twin.free.items() if isinstance(name, str)}
    centre: list[float] = []
    width: list[float] = []
    for rv in twin.model.free_RVs:
        if rv.name in variance_of:
            name = variance_of[rv.name]
            on = twin.priors.sd[name].on
            half = float(np.log(0.5 * units[name]))
            centre.append(2 * half if on == "var" else half)
            width.append(1.0)
        elif rv.name == TOTAL:
            centre.append(float(np.log(units[source.theta_names[-1]])))
            width.append(1.0)
        elif rv.name in ("gamma", "beta"):
            beta = np.linalg.lstsq(source.X, _response(source), rcond=None)[0]  # type: ignore[arg-type]
            spread = np.full(source.n_fixed, units[source.theta_names[-1]])
            centre += list(np.zeros(source.n_fixed) if rv.name == "gamma" else beta)
            width += list(spread if rv.name == "gamma" else np.abs(np.linalg.inv(twin.reduced.T)) @ spread)
        else:
            at = own.get(rv.name, np.zeros(1))
            centre += list(at)
            width += [1.0] * len(at)
    return np.array(centre), np.array(width)


def _starts(middle: np.ndarray, reach: np.ndarray) -> Any:
    """Starting points within the box: ours and not nutpie's, which stay with the response that was compiled."""

    def start(seed: Any = None) -> np.ndarray:
        return middle + reach * np.random.default_rng(seed).uniform(-1, 1, len(middle))

    return start


def _response(source: Model) -> np.ndarray:
    return source.y if source.offset is None else source.y - source.offset
