"""Breeding values with their errors at known variances, and the models of a breeder as one formula each."""

import numpy as np
import pandas as pd
import pytest
from references import table

import vcbench as vc
from vcbench import kernels

FOLDER = table.shared_folder()
with_data = table.with_data


@with_data
def test_blup__of_mrode_31_with_standard_errors_and_reliabilities():
    """Mrode (2014), example 3.1, σ_a² = 20, σ_e² = 40: solutions, √PEV of the index, r² = 1 − PEV/((1 + F)σ_a²)."""
    want = table.index(FOLDER)["mrode31.blup"][1]
    model = table.build_model("mrode31.blup", FOLDER)
    start = dict(zip(model.theta_names, (20.0, 40.0), strict=True))
    fit = vc.fit(model, "ai", start=start, max_iter=0)
    assert fit.theta.to_numpy() == pytest.approx([20.0, 40.0])
    assert fit.beta["sexMale"] == pytest.approx(want["beta"]["Male"], abs=1e-6)
    assert fit.beta_se["sexFemale"] == pytest.approx(want["beta_se"]["Female"], abs=1e-6)
    blup = fit.blup().set_index("level")
    assert len(blup) == 8
    for animal, row in blup.iterrows():
        assert row["estimate"] == pytest.approx(want["beta"][f"a{animal}"], abs=1e-6)
        assert row["se"] == pytest.approx(want["beta_se"][f"a{animal}"], abs=1e-6)
        assert row["reliability"] == pytest.approx(1.0 - want["beta_se"][f"a{animal}"] ** 2 / 20.0, abs=1e-6)  # F = 0


def gryphon():
    data = pd.read_csv(FOLDER / "gryphon.csv").astype({"sex": "category"})
    return data, vc.genetics.Pedigree.of(pd.read_csv(FOLDER / "gryphon_pedigree.csv"))


@with_data
def test_gryphon__maternal_effects_hold_the_published_model():
    """Direct and maternal genetic effects with the mother's environment: published m4 is the case of no maternal A."""
    data, P = gryphon()
    formula = "bwt ~ sex + (1 | animal) + (1 | byear) + (1 | mother)"
    small = vc.fit(vc.Model.from_formula(formula, data, cov={"animal": vc.covariance.pedigree(P)}))
    maternal = vc.covariance.pedigree(P, maternal="mother")
    fit = vc.fit(vc.Model.from_formula(formula, data, cov={"animal": maternal}))
    assert (fit.kernel, fit.status.ok, small.status.ok) == ("sparse", True, True)
    assert small.loglik == pytest.approx(table.index(FOLDER)["gryphon.m4.reml"][1]["loglik"], abs=1e-4)
    assert fit.loglik >= small.loglik - 1e-8
    dense = kernels.build(fit.model, "dense").evaluate(fit.theta.to_numpy(), ("score", "average"))
    assert fit.loglik == pytest.approx(dense.loglik, rel=1e-10)
    G = np.array([[fit.theta["animal:var(direct)"], fit.theta["animal:cov(direct,maternal)"]],
                  [fit.theta["animal:cov(direct,maternal)"], fit.theta["animal:var(maternal)"]]])  # fmt: skip
    assert np.linalg.eigvalsh(G)[0] >= -1e-9


@with_data
def test_gryphon__repeatability_is_a_second_term_of_animals():
    """Two records an animal (bwt twice, one with noise): additive, permanent and residual variance, by both kernels."""
    data, P = gryphon()
    data = data[data["bwt"].notna()].head(150)
    rng = np.random.default_rng(1)
    twice = pd.concat([data, data.assign(bwt=data["bwt"] + rng.normal(size=len(data)))])
    cov = {"animal": vc.covariance.pedigree(P)}
    model = vc.Model.from_formula("bwt ~ sex + (1 | animal) + (1 | animal)", twice, cov=cov)
    assert model.theta_names == ("animal:var", "animal.1:var((Intercept))", "residual:var")
    a, b = (vc.fit(model, kernel=kernel) for kernel in ("sparse", "dense"))
    assert a.loglik == pytest.approx(b.loglik, abs=1e-7)
    assert a.theta.to_numpy() == pytest.approx(b.theta.to_numpy(), rel=1e-4, abs=1e-6)
    assert a.theta["residual:var"] == pytest.approx(0.5, rel=0.3)  # half the variance of the second's noise
