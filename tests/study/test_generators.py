"""Generators: the truth they say is the truth of what they draw, and every draw has its own seed."""

import numpy as np
import pytest
from pydantic import ValidationError

from vcbench.errors import DataError
from vcbench.fit import fit
from vcbench.study.generators import GENERATORS, OneWay, RandomSlope, Snp, VarianceComponents, draw_card
from vcbench.study.seeds import DESIGN, canonical_json, condition_key, generator, method_stream
from vcbench.study.simulate import build_simulator, semidefinite_root

CASES = {
    "one_way": OneWay(n_groups=4, group_size=3, balance=0.5, mean=2.0, icc=0.3),
    "one_way, covariates": OneWay(n_groups=4, group_size=3, balance=0.5, icc=0.3, n_between=1, n_within=2),
    "random_slope": RandomSlope(n_groups=3, times=[0.0, 1.0, 4.0]),
    "singular": RandomSlope(n_groups=3, times=[0.0, 1.0], Omega=[[4.0, 2.0], [2.0, 1.0]], sigma2_e=1.0),
    "variance_components": VarianceComponents(n=9, q=[4, 30], sigma2=[1.0, 0.5], sigma2_e=0.7),
    "snp": Snp(n=8, p=20, h2=0.6),
}


def _rngs(n: int, key=(1, 2)) -> list[np.random.Generator]:
    return [generator(5, key, replicate) for replicate in range(n)]


@pytest.mark.parametrize("case", CASES)
def test_draw__covariance_is_that_of_the_model(case: str) -> None:
    """Oracle: V = Σ_k Σ_ab Ω_ab Z^(a) Z^(b)ᵀ + σ² I from the dense factors; 40,000 draws, each entry within 5 SEs."""
    simulator = CASES[case].build(generator(1, (0, 0), DESIGN))
    model, R = simulator.model, 40_000
    V = simulator.theta[-1] * np.eye(model.n_obs)
    for component, Omega in zip(model.components, model.Omegas(simulator.theta), strict=True):
        factors = component.factors()
        V += sum(Omega[a, b] * factors[a] @ factors[b].T for a in range(len(factors)) for b in range(len(factors)))
    Y = simulator.draw(_rngs(R))
    d = Y - (model.X @ simulator.beta)[:, None]
    se = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / R)
    assert (np.abs(d @ d.T / R - V) < 5 * se).all()
    assert (np.abs(d.mean(axis=1)) < 5 * np.sqrt(np.diag(V) / R)).all()


@pytest.mark.parametrize("case", CASES)
def test_draw__a_replicate_is_the_same_alone_and_in_any_block(case: str) -> None:
    simulator = CASES[case].build(generator(1, (0, 0), DESIGN))
    block = simulator.draw(_rngs(7))
    alone = np.column_stack([simulator.draw([rng])[:, 0] for rng in _rngs(7)])
    assert block.tobytes() == alone.tobytes()


def test_one_way__covariates_take_degrees_of_freedom_from_one_mean_square_each() -> None:
    """Balanced, inside: σ̂_e² = SSW/(a(m−1)) by ML and /(a(m−1) − d_w) by REML, λ̂ = SSB/a and /(a − 1 − d_b), λ = σ_e² +
    m σ_a², SSB and SSW the sums of squares that are left after X, by least squares."""
    a, m, d_b, d_w = 12, 4, 3, 5
    simulator = OneWay(n_groups=a, group_size=m, icc=0.7, n_between=d_b, n_within=d_w).build(
        generator(1, (0, 0), DESIGN)
    )
    model = simulator.model.replace(y=simulator.draw(_rngs(1))[:, 0])
    between = np.kron(np.eye(a), np.full((m, m), 1 / m))
    P = np.eye(a * m) - model.X @ np.linalg.pinv(model.X)
    r = P @ model.y
    ssb, ssw = r @ between @ r, r @ r - r @ between @ r
    for criterion, n_b, n_w in (("ml", a, a * (m - 1)), ("reml", a - 1 - d_b, a * (m - 1) - d_w)):
        theta = fit(model, method="ai", criterion=criterion).theta.to_numpy()
        assert theta[1] == pytest.approx(ssw / n_w, rel=1e-6)
        assert theta[1] + m * theta[0] == pytest.approx(ssb / n_b, rel=1e-6)
    with pytest.raises(ValidationError, match="`n_within` = 9 leaves nothing of 9 degrees of freedom"):
        OneWay(n_groups=3, group_size=4, n_within=9)


def test_variance_components__a_share_is_a_share() -> None:
    """The mean diagonal of Z_k Z_kᵀ is 1, so that σ_k² is the variance component k gives an observation."""
    simulator = VarianceComponents(n=300, q_over_n=2.0, n_components=3, share=0.6).build(generator(1, (0, 0), DESIGN))
    assert simulator.truth == pytest.approx(
        {"x1:var": 0.2, "x2:var": 0.2, "x3:var": 0.2, "residual:var": 0.4, "(Intercept)": 1.0, "c1": 1.0}
    )
    for component in simulator.model.components:
        assert component.n_levels == 200
        assert np.mean(np.sum(component.Z**2, axis=1)) == pytest.approx(1.0, abs=0.02)


def test_snp__relationship_matrix_is_standardised() -> None:
    """K has mean diagonal exactly 1 and rows that sum to 0 (centred genotypes), hence rank n − 1."""
    component = Snp(n=30, p=500).build(generator(1, (0, 0), DESIGN)).model.components[0]
    assert np.trace(component.K) == pytest.approx(30)
    assert np.abs(component.K.sum(axis=0)).max() < 1e-10
    assert component.n_levels == 29


def test_snp__few_causal_markers_carry_all_of_the_variance() -> None:
    """Effects lie in the span of 3 of 20 markers; the variance of y is h²·total + the rest, within 5 of its errors."""
    made = Snp(n=30, p=20, h2=0.4, total=2.0, n_causal=3, columns=True)
    simulator = made.build(generator(1, (0, 0), DESIGN))
    (component,) = simulator.model.components
    (root,) = simulator.roots
    assert component.Z is not None
    assert component.K is None
    columns = np.flatnonzero(np.abs(np.corrcoef(root.T, component.Z.T)[:3, 3:]).max(axis=0) > 1 - 1e-12)
    assert len(columns) == 3
    assert np.trace(root @ root.T) / 30 == pytest.approx(0.8)
    Y = simulator.draw(_rngs(20_000))
    total = Y.var(axis=0, ddof=0) * 30 / 29
    assert total.mean() == pytest.approx(0.8 * 30 / 29 + 1.2, abs=5 * total.std() / np.sqrt(20_000))
    assert simulator.truth["snp:var"] == 0.8
    same = Snp(n=30, p=20, n_causal=3).build(generator(1, (0, 0), DESIGN))
    np.testing.assert_allclose(same.model.components[0].K, component.Z @ component.Z.T, atol=1e-12)
    with pytest.raises(ValidationError, match="more than the p = 20 markers"):
        Snp(n=30, p=20, n_causal=21)


def test_one_way__unequal_sizes_keep_the_total() -> None:
    simulator = OneWay(n_groups=7, group_size=5, balance=0.2).build(generator(1, (0, 0), DESIGN))
    sizes = np.bincount(simulator.model.components[0].codes)
    assert sizes.sum() == 35
    assert sizes[0] == 1
    assert (np.diff(sizes) >= 0).all()


def test_semidefinite_root__of_singular_and_zero_matrices() -> None:
    for Omega in (np.zeros((2, 2)), np.array([[4.0, 2.0], [2.0, 1.0]]), np.diag([0.0, 3.0]), np.diag([3.0, 0.0])):
        L = semidefinite_root(Omega, "g")
        np.testing.assert_allclose(L @ L.T, Omega, atol=1e-14)
    with pytest.raises(DataError, match="not positive semi-definite"):
        semidefinite_root(np.array([[1.0, 2.0], [2.0, 1.0]]), "g")


def test_seeds__every_coordinate_changes_the_stream_and_nothing_else_does() -> None:
    """Golden values pin the derivation: a change of them changes every stored study."""
    base = {"generator": "one_way", "icc": 0.1}
    assert canonical_json(base) == '{"generator":"one_way","icc":0.1}'
    key = condition_key(base)
    assert key == condition_key(dict(reversed(base.items())))
    draws = {
        where: generator(seed, key_, replicate, stream).standard_normal(4).tobytes()
        for where, seed, key_, replicate, stream in (
            ("base", 1, key, 0, 0),
            ("seed", 2, key, 0, 0),
            ("condition", 1, condition_key({**base, "icc": 0.2}), 0, 0),
            ("replicate", 1, key, 1, 0),
            ("method", 1, key, 0, method_stream("em")),
            ("other method", 1, key, 0, method_stream("px-em")),
            ("design", 1, key, DESIGN, 0),
        )
    }
    assert len(set(draws.values())) == len(draws)
    assert generator(1, key, 0).standard_normal(4).tobytes() == draws["base"]
    assert key == (1175672910, 2978102997)
    assert generator(20261121, (1, 2), 3).integers(0, 2**32, 2).tolist() == [2542511208, 2754451413]


def test_card__is_drawn_from_its_settings_and_seed() -> None:
    model, truth = draw_card("snp", {"n": 40, "p": 60, "h2": 0.25}, 3)
    again, _ = draw_card("snp", {"n": 40, "p": 60, "h2": 0.25}, 3)
    other, _ = draw_card("snp", {"n": 40, "p": 60, "h2": 0.25}, 4)
    assert truth == {"snp:var": 0.25, "residual:var": 0.75, "(Intercept)": 0.0}
    assert model.y.tobytes() == again.y.tobytes() != other.y.tobytes()
    with pytest.raises(DataError, match=r"`mafs`.*Did you mean `maf`"):
        draw_card("snp", {"mafs": [0.1, 0.5]}, 1)
    with pytest.raises(DataError, match=r"unknown generator `snps`.*Did you mean `snp`"):
        draw_card("snps", {}, 1)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("one_way", {"n_groups": 1}, "one group has no between-group variance"),
        ("one_way", {"icc": 0.5, "sigma2": 1.0}, "say the same thing twice"),
        ("one_way", {"group_size": 1}, "cannot tell the group variance"),
        ("one_way", {"sizes": [5]}, "at least 2 groups"),
        ("random_slope", {"Omega": [[1.0, 2.0], [2.0, 1.0]]}, "positive semi-definite"),
        ("random_slope", {"times": [1.0, 1.0]}, "no slope"),
        ("variance_components", {"q": [3], "sigma2": [1.0, 1.0]}, "2 variances for 1 components"),
        ("variance_components", {"share": 1.0}, "less than 1"),
        ("snp", {"maf": [0.4, 0.1]}, "must rise"),
        ("snp", {"n": 50.5}, "integer"),
    ],
)
def test_settings__that_make_no_sense_are_refused(name: str, settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GENERATORS[name](**settings)


def test_build_simulator__counts_its_values() -> None:
    model = CASES["one_way"].build(generator(1, (0, 0), DESIGN)).model
    with pytest.raises(DataError, match="3 variance parameters"):
        build_simulator(model, [1.0, 1.0, 1.0], [0.0])
    with pytest.raises(DataError, match="must be above 0"):
        build_simulator(model, [1.0, 0.0], [0.0])
