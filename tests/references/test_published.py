"""Published answers: every fit of the index that vcbench can say gives the re-fitted and the printed numbers.

The index holds, for each fit, a re-fit by lme4 1.1-31 whose optimum was polished by Newton steps (its log-likelihood,
estimates and standard errors), and the numbers printed by other programs and books, with the tolerance of their digits.
"""

import math
import re
import warnings
from functools import cache

import pytest
from references.reader import references, shared_folder

import vcbench as vc

FOLDER = shared_folder()
ALL = {reference.id: reference for reference in references()}

if FOLDER is None:
    pytest.skip("the shared data are not here (VCBENCH_DATA)", allow_module_level=True)


@cache
def fitted(id: str) -> vc.Fit:
    reference = ALL[id]
    with (
        warnings.catch_warnings()
    ):  # rank-deficient designs of the index say what they drop: expected, and not the claim
        warnings.filterwarnings("ignore", message="`X` has rank")
        model = vc.Model.from_formula(reference.fit["formula"], reference.frame(FOLDER))
    return vc.fit(model, method="auto", criterion=reference.criterion)


def our_name(group: str, *effects: str) -> str:
    """Our name of a parameter by lme4's group and effects; `g.1`, a group's second term, is of the component g here."""
    if group == "Residual":
        return "residual:var"
    group = re.sub(r"\.1$", "", group)
    return f"{group}:cov({','.join(effects)})" if len(effects) == 2 else f"{group}:var({effects[0]})"


def computed(id: str, quantity: str) -> float:
    """Our value of a published quantity in the index's spelling: m2ll, sigma2, beta:Days, sd:Subject|Days, sd:g, …"""
    fit = fitted(id)
    kind, _, rest = quantity.partition(":")
    if kind in ("m2ll", "loglik", "nobs"):
        return float({"m2ll": -2 * fit.loglik, "loglik": fit.loglik, "nobs": fit.model.n_obs}[kind])
    if kind in ("sigma", "sigma2"):
        variance = float(fit.theta["residual:var"])
        return variance if kind == "sigma2" else math.sqrt(variance)
    if kind in ("beta", "se"):
        return float((fit.beta if kind == "beta" else fit.beta_se)[rest])
    group, *effects = rest.split("|")
    if not effects:  # a term with one effect: the index's table of variances knows which
        effects = [entry["var1"] for entry in ALL[id].fit["varcomp"] if entry["group"] == group]
    variances = [float(fit.theta[our_name(group, effect)]) for effect in effects]
    if kind == "cor":
        return float(fit.theta[our_name(group, *effects)]) / math.sqrt(math.prod(variances))
    return {"var": variances[0], "sd": math.sqrt(variances[0])}[kind]


@pytest.mark.parametrize("id", ALL)
def test_refit__is_reproduced(id):
    refit, fit = ALL[id].fit, fitted(id)
    assert fit.status.ok, fit.message
    assert fit.model.n_obs == refit["nobs"]
    # the index prints twelve digits of ℓ
    assert fit.loglik == pytest.approx(refit["loglik"], rel=1e-9)
    # lme4 stops at a step in its own parameters, and near a boundary well short of our 1e-6 standard errors
    variances = {our_name(e["group"], *filter(None, (e["var1"], e["var2"]))): e["vcov"] for e in refit["varcomp"]}
    scale = max(map(abs, variances.values()))
    assert fit.theta.to_dict() == pytest.approx(variances, rel=1e-5, abs=1e-6 * scale)
    assert fit.beta.to_dict() == pytest.approx(refit["beta"], rel=1e-6, abs=1e-7 * fit.beta.abs().max())
    # lme4's own end, where it was not polished, is 5e-5 standard errors of θ from the optimum (InstEval)
    rel = 1e-5 if "no polish" in refit["software"] else 1e-6
    assert fit.beta_se.to_dict() == pytest.approx(refit["beta_se"], rel=rel)


@pytest.mark.parametrize("id", [id for id, reference in ALL.items() if reference.published])
def test_published__numbers_are_reproduced_within_their_tolerance(id):
    wrong = []
    for entry in ALL[id].published:
        value = computed(id, entry["quantity"])
        if abs(value - float(entry["value"])) > entry["tolerance"]:
            wrong.append(f"{entry['quantity']}: {value}, published {entry['value']} ({entry['citation']})")
    assert wrong == []


def test_index__most_of_its_fits_are_used():
    assert len(ALL) >= 100
    assert sum(len(reference.published) for reference in ALL.values()) >= 150
