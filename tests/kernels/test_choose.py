"""The kernel of a model: chosen for its structure, by name on request, refused where parameters are confounded."""

import numpy as np
import pytest
from strategies import CROSSED, GROUPED, SEVERAL, SPECTRAL, draw_problem

import vcbench as vc
from vcbench import kernels
from vcbench.errors import ModelError, VcbenchError


@pytest.mark.parametrize("kind", [*GROUPED, *SPECTRAL, *SEVERAL])
def test_choose__takes_the_kernel_of_the_structure(kind):
    model = draw_problem(kind, seed=2).model
    few = sum(c.n_columns for c in model.components) < model.n_obs
    want = "grouped" if kind in GROUPED else "spectral" if kind in SPECTRAL else "low_rank" if few else "dense"
    want = "crossed" if kind in CROSSED else want
    name, reason = kernels.choose(model)
    assert name == want == kernels.build(model).name
    text = model.explain()
    assert text.startswith(f"kernel `{want}`: {reason}.")
    assert f"n = {model.n_obs} observations, d = {model.n_fixed} fixed effects" in text
    for c in model.components:
        assert c.name in text


def test_choose__no_random_component_is_least_squares(rng):
    y, X = rng.normal(size=20), np.column_stack([np.ones(20), rng.normal(size=20)])
    model = vc.Model(y, X)
    assert kernels.build(model).name == "dense"
    r = y - X @ np.linalg.lstsq(X, y)[0]
    assert vc.fit(model).theta.to_numpy() == pytest.approx([r @ r / 18])
    assert vc.fit(model, criterion="ml").theta.to_numpy() == pytest.approx([r @ r / 20])


def test_build__unknown_kernel_is_named_with_the_choices():
    with pytest.raises(
        ModelError, match=r"unknown kernel `group`\. .*auto, crossed, dense, grouped, .*spectral.* `grouped`\?"
    ):
        kernels.build(draw_problem("one-way", seed=1).model, "group")


@pytest.mark.parametrize(("kind", "kernel"), [("crossed", "grouped"), ("slope-un", "spectral"), ("K", "grouped")])
def test_build__refuses_a_kernel_that_does_not_fit(kind, kernel):
    with pytest.raises(ModelError, match=f'kernel `{kernel}` needs .* Use `kernel="dense"`'):
        kernels.build(draw_problem(kind, seed=1).model, kernel)


def confounded(case, rng):
    n = 24
    y, group = rng.normal(size=n), np.repeat(np.arange(6), 4)
    W = rng.normal(size=(n, 40))
    K = W @ W.T / 40
    C = vc.Component
    match case:
        case "K = I":
            return vc.Model(y, components=[C(K=np.eye(n), name="a")]), ("a:var", "residual:var")
        case "K = 3I":
            return vc.Model(y, components=[C(K=3 * np.eye(n), name="a")]), ("a:var", "residual:var")
        case "the same factor twice":
            return (
                vc.Model(y, components=[C(np.ones(n), name="g", group=group), C(np.ones(n), name="h", group=group)]),
                ("g:var((Intercept))", "h:var((Intercept))"),
            )
        case "K twice":
            return vc.Model(y, components=[C(K=K, name="a"), C(K=2 * K, name="b")]), ("a:var", "b:var")
        case "K and I - K":
            return (
                vc.Model(y, components=[C(K=K, name="a"), C(K=np.eye(n) * 9 - K, name="b")]),
                ("a:var", "b:var", "residual:var"),
            )
        case "orthogonal Z":
            return (
                vc.Model(y, components=[C(np.linalg.qr(rng.normal(size=(n, n)))[0], name="z")]),
                ("z:var", "residual:var"),
            )
        case "slope that is the intercept":
            Z = np.column_stack([np.ones(n), np.full(n, 2.0)])
            return vc.Model(y, components=[C(Z, name="g", group=group, columns=["1", "x"])]), ("g:var(1)", "g:var(x)")
    raise ValueError(case)


@pytest.mark.parametrize(
    "case",
    [
        "K = I",
        "K = 3I",
        "the same factor twice",
        "K twice",
        "K and I - K",
        "orthogonal Z",
        "slope that is the intercept",
    ],
)
def test_fit__confounded_parameters_are_named_before_any_fit(case, rng):
    model, names = confounded(case, rng)
    with pytest.raises(ModelError, match="cannot be told apart") as caught:
        vc.fit(model)
    assert isinstance(caught.value, VcbenchError)
    for name in names:
        assert f"`{name}`" in str(caught.value)
    assert "Leave a component out" in str(caught.value)
