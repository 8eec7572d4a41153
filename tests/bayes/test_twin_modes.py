"""The β-marginal mode of a twin under flat priors is REML, its joint mode of (β, θ) is ML: found by the twin's own
density and gradient, compared with what `fit` found by its kernels' scores."""

import numpy as np
import pytest
from classics import dyestuff, frame, sleepstudy
from kernels.test_effect_structures import case
from kernels.test_structures import built
from scipy.optimize import minimize
from strategies import draw_problem

import vcbench as vc
from vcbench.bayes import LKJ, Flat, twin

MODELS = {
    "one-way": dyestuff,
    "crossed": lambda: vc.Model.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", frame("penicillin")),
    "slope": sleepstudy,
    "K": lambda: draw_problem("K", n_groups=10, seed=5).model,
    "two-Z": lambda: draw_problem("two-Z", n_groups=10, seed=6).model,
    "ar1": lambda: built("ar1(visit, group=subject)")[1],
    "ar1 x ar1": lambda: built("ar1(row) * ar1(col)")[1],
    "arma11": lambda: built("arma11(visit, group=subject)")[1],
    "csh": lambda: built("csh(label, group=subject)")[1],
    "toeplitz effects": lambda: case("toeplitz", " + (1 | site)")[0],
}

QUICK = ("one-way", "crossed", "ar1")


def mode(made, model):
    """θ at the maximum of the twin's density in the scale of its free variables, without Jacobians."""
    from pytensor.compile.mode import Mode

    how = Mode("py", "fast_compile").excluding("fusion")
    logp, dlogp = made.model.compile_logp(jacobian=False, mode=how), made.model.compile_dlogp(jacobian=False, mode=how)
    names = [v.name for v in made.model.value_vars]
    start = made.model.initial_point()
    shapes = [np.shape(start[n]) for n in names]
    ends = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]

    def point(x):
        return {n: v.reshape(s) for n, v, s in zip(names, np.split(x, ends), shapes, strict=True)}

    x = np.concatenate([np.ravel(start[n]) for n in names])
    for _ in range(3):  # restarts with a fresh metric
        x = minimize(
            lambda x: -logp(point(x)), x, jac=lambda x: -dlogp(point(x)), method="BFGS", options={"gtol": 1e-9}
        ).x
    from pytensor import function

    at = [made.model.named_vars[vc.bayes.build.safe(n)] for n in made.theta_names]
    read = function(made.model.value_vars, made.model.replace_rvs_by_values(at), mode=how, on_unused_input="ignore")
    return np.array([float(v) for v in read(*(point(x)[n] for n in names))])


@pytest.mark.parametrize("criterion", ["reml", "ml"])
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS if n not in QUICK)])
def test_twin__its_mode_under_flat_priors_is_reml_and_its_joint_mode_ml(name, criterion):
    model = MODELS[name]()
    priors = {"default": Flat("sd")}
    for c in model.components:
        if c.cov.is_linear and any(len(block) > 1 for block in c.partition):
            priors[c.name] = [Flat("sd"), LKJ(1.0)]  # two effects: uniform on their correlation
    fit = vc.fit(model, "newton", criterion, tol=1e-10)
    assert fit.status.ok
    found = mode(twin(model, priors, criterion), model)
    np.testing.assert_allclose(found, fit.theta_values, rtol=1e-6, atol=1e-6 * np.abs(fit.theta_values).max())
