"""Every point method in the posterior of every card: fits, posteriors and checks, card by card.

The posterior of a card with up to three parameters is exact (`bayes.quadrature`), of the others sampled by NUTS on the
card's twin. Priors are the card's, else the defaults.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench import kernels
from vcbench import numbers as num
from vcbench.bayes.by_kernel import ByKernel, likelihood_of
from vcbench.bayes.check import Check, check
from vcbench.cards import load_card
from vcbench.errors import CardError, ModelError, VcbenchError
from vcbench.fit import fit
from vcbench.methods import METHODS

if TYPE_CHECKING:
    import pandas as pd

EXACT = 3  # parameters of θ
SETTINGS = {"max_iter": 3000}  # of methods that climb slowly; one that has not arrived says so in its status
CHEAP = ("grouped", "spectral", "crossed", "low_rank")  # kernels for which a step costs less than a millisecond
LARGE = 100  # observations from which other kernels are dear
SLOW = ("em", "em-simplified", "em-reml", "em-henderson", "px-em", "px-em-component", "px-em-full", "ecme")
KINDS = ("solver", "moments")
SEED = 20261121


@dataclass(frozen=True, slots=True, eq=False)
class CardCheck:
    """One card: its check, its posterior in a word, what could not be fitted and why, seconds of the posterior."""

    name: str
    title: str
    n_obs: int
    check: Check
    posterior: Any = field(repr=False)
    kind: str
    status: str
    detail: str
    priors: str
    left_out: dict[str, str]
    seconds: float

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows of the check, with the card's name and each fit's status."""
        statuses = {label: str(f.status) for label, f in self.check.fits.items()}
        out = self.check.frame.copy()
        out.insert(0, "card", self.name)
        out["status"] = out["fit"].map(statuses)
        out["kind"] = ["moments" if self.check.fits[label].is_moments else "likelihood" for label in out["fit"]]
        out["posterior"] = self.kind
        return out


def check_cards(
    names: Sequence[str], seed: int = SEED, say: Callable[[str], None] = lambda text: None
) -> tuple[list[CardCheck], dict[str, str]]:
    """(the checks, why other cards have none). A card whose data are absent is left out with that reason."""
    found, missing = [], {}
    for name in names:
        say(f"{name} …")
        try:
            found.append(check_card(name, seed))
        except (CardError, VcbenchError) as error:
            missing[name] = str(error)
    return found, missing


def check_card(name: str, seed: int = SEED) -> CardCheck:
    """Every solver and moment method of a card's model in its posterior. Raises what the card or model raises."""
    from vcbench.bayes.prior_choice import resolve

    card = load_card(name)
    model = card.model()
    dear = _dear(model)
    if ":" in card.name and (model.n_theta > EXACT or (dear and model.n_theta == EXACT)):
        raise ModelError(
            f"a variant whose posterior takes minutes: {num.plural(model.n_theta, 'parameter')}"
            f"{', by ' + dear if dear else ''}; `vc.bayes.check` does it."
        )
    if model.n_theta > EXACT and isinstance(likelihood_of(model), ByKernel):
        raise ModelError(
            f"a sampler would take long: {model.n_theta} parameters, the likelihood by the model's kernel."
        )
    fits, left_out = point_fits(model, seed)
    wall = time.perf_counter()
    if model.n_theta <= EXACT:
        posterior, kind, status, detail = _exact(model, card.priors)
    else:
        posterior, kind, status, detail = _sampled(model, card.priors, seed)
    seconds = time.perf_counter() - wall
    made = check(fits, posterior, seed=seed)
    said = resolve(model, card.priors).explain()
    return CardCheck(card.name, card.title, model.n_obs, made, posterior, kind, status, detail, said, left_out, seconds)


def point_fits(model: Any, seed: int = SEED) -> tuple[dict[str, Any], dict[str, str]]:
    """({"ai": …, "ai ml": …}, why others are not there): each point method under each of its criteria, REML first."""
    fits: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    dear = _dear(model)
    for criterion in ("reml", "ml", "none"):
        for name in METHODS:
            method = METHODS[name]
            if method.kind not in KINDS or criterion not in method.criteria or name == "auto":
                continue
            label = f"{name} ml" if criterion == "ml" else name
            if name in SLOW and dear:
                left_out[label] = f"a map of many steps, each dear: {dear}"
                continue
            options: dict[str, Any] = {k: v for k, v in SETTINGS.items() if k in method.options}
            if "seed" in method.options:
                options["seed"] = seed
            try:
                one = fit(model, name, None if criterion == "none" else criterion, **options)
            except VcbenchError as error:
                left_out[label] = str(error).split(". ")[0]
                continue
            if not np.isfinite(one.theta_values).all():
                left_out[label] = f"{one.status}: {one.message or 'no estimate'}"
                continue
            fits[label] = one
    return fits, left_out


def _dear(model: Any) -> str:
    """Why an evaluation of the likelihood costs milliseconds; "" where it does not."""
    kernel = kernels.choose(model)[0]
    return f"kernel `{kernel}`, n = {model.n_obs}" if kernel not in CHEAP and model.n_obs > LARGE else ""


def _exact(model: Any, priors: Any) -> tuple[Any, str, str, str]:
    from vcbench.bayes.quadrature import quadrature

    post = quadrature(model, priors)
    detail = f"log evidence {post.log_evidence:.6f}, moved by {post.error:.0e} in the last doubling"
    return post, "exact", str(post.status), detail


def _sampled(model: Any, priors: Any, seed: int) -> tuple[Any, str, str, str]:
    from vcbench.bayes.sampling import diagnose, sample
    from vcbench.bayes.twin import twin

    made = twin(model, priors)
    draws = sample(made, seed=seed, cores=1)
    verdict = diagnose(draws, made)
    frame = verdict.frame
    detail = (
        f"R̂ ≤ {frame['rhat'].max():.3f}, bulk ESS ≥ {frame['ess_bulk'].min():.0f}, {verdict.divergences} divergences"
        f"{'; ' + verdict.message if verdict.message else ''}"
    )
    return draws, "NUTS", str(verdict.status), detail
