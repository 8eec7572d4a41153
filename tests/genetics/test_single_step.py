"""One-step H⁻¹: held to the dense inverse of H, and to what it must be where markers say what the pedigree says."""

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench import kernels
from vcbench.errors import DataError, MethodError, ModelError
from vcbench.genetics.one_step import inverse_among, relationship_among
from vcbench.genetics.relationship import GRM
from vcbench.model.pedigree import Pedigree


@pytest.fixture
def pedigree():
    rng = np.random.default_rng(4)
    parents = np.array([rng.integers(max(0, i - 15), i, 2) if i > 5 else (-1, -1) for i in range(60)]) + 1
    return Pedigree.of({"id": np.arange(1, 61), "sire": parents[:, 0], "dam": parents[:, 1]})


@pytest.fixture
def G(pedigree, rng):
    """A G of 14 animals, shuffled, around their A: genes dropped down the pedigree, VanRaden's first form."""
    m, p = len(pedigree), 800
    haplotypes = np.zeros((m, 2, p), np.int8)
    frequency = rng.uniform(0.1, 0.9, p)
    for i, parents in enumerate(zip(pedigree.sire, pedigree.dam, strict=True)):
        for side, parent in enumerate(parents):
            own = rng.random(p) < frequency
            drop = haplotypes[parent, rng.integers(0, 2, p), np.arange(p)]
            haplotypes[i, side] = own if parent < 0 else drop
    W = haplotypes.sum(axis=1) - 2 * frequency
    at = rng.permutation(np.arange(20, 60))[:14]
    K = W[at] @ W[at].T / (2 * frequency * (1 - frequency)).sum()
    names = [pedigree.ids[i] for i in at]
    return pd.DataFrame(K, index=names, columns=names)


def blocks(pedigree, G):
    """(A with the genotyped animals last, their number, positions in that order)."""
    at = pedigree.positions(G.index)
    order = np.append(np.setdiff1d(np.arange(len(pedigree)), at), at)
    return pedigree.relationship()[np.ix_(order, order)], len(at), order


def test_h_inverse__is_the_inverse_of_h(pedigree, G):
    """Legarra's H of A and G, at τ = ω = α = 1 and β = 0."""
    A, k, order = blocks(pedigree, G)
    A12, A22 = A[:-k, -k:], A[-k:, -k:]
    carry = np.vstack([A12 @ np.linalg.inv(A22), np.eye(k)])
    H = A + carry @ (G.to_numpy() - A22) @ carry.T
    ours = vc.genetics.SingleStep.of(pedigree, G, alpha=1.0, beta=0.0, tune="none")
    assert ours.precision.toarray()[np.ix_(order, order)] @ H == pytest.approx(np.eye(len(A)), abs=1e-9)
    assert (ours.labels, ours.n_genotyped, ours.a, ours.b) == (pedigree.ids, 14, 0.0, 1.0)
    assert ours.correlation > 0.9  # genes were dropped down this pedigree


@pytest.mark.parametrize("tune", ["means", "drift", "none"])
def test_h_inverse__with_weights_and_tuning_is_the_formula(pedigree, G, tune):
    A, k, order = blocks(pedigree, G)
    A22, K = A[-k:, -k:], G.to_numpy()
    if tune == "means":
        b, a = np.linalg.solve([[np.diag(K).mean(), 1.0], [K.mean(), 1.0]], [np.diag(A22).mean(), A22.mean()])
    else:
        a = A22.mean() - K.mean() if tune == "drift" else 0.0
        b = 1.0 - a / 2.0
    want = np.linalg.inv(A)
    want[-k:, -k:] += 0.8 * np.linalg.inv(0.9 * (a + b * K) + 0.1 * A22) - 0.7 * np.linalg.inv(A22)
    ours = vc.genetics.SingleStep.of(pedigree, G, alpha=0.9, beta=0.1, tau=0.8, omega=0.7, tune=tune)
    assert ours.precision.toarray()[np.ix_(order, order)] == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert (ours.a, ours.b) == (pytest.approx(a), pytest.approx(b))


def test_h__of_markers_that_say_what_the_pedigree_says_is_a(pedigree):
    own = pedigree.ids[30:]
    at = pedigree.positions(own)
    G = pd.DataFrame(pedigree.relationship()[np.ix_(at, at)], index=own, columns=own)
    ours = vc.genetics.SingleStep.of(pedigree, G)
    assert ours.precision.toarray() == pytest.approx(pedigree.precision().toarray(), abs=1e-10)
    assert (ours.a, ours.b, ours.correlation) == pytest.approx((0.0, 1.0, 1.0), abs=1e-12)


def test_relationship_among__is_a_part_of_a_and_its_inverse(pedigree, rng):
    at = rng.permutation(len(pedigree))[:25]
    near, places = pedigree.with_ancestors(at)
    assert [near.ids[i] for i in places] == [pedigree.ids[i] for i in at]
    A22 = pedigree.relationship()[np.ix_(at, at)]
    for P, where in ((pedigree, at), (near, places)):
        assert relationship_among(P, where) == pytest.approx(A22, abs=1e-12)
        assert inverse_among(P, where) @ A22 == pytest.approx(np.eye(25), abs=1e-10)


def test_model__of_one_step_runs_on_sparse_algebra(pedigree, G, rng):
    """(1 | animal) with H: the sparse kernel is the dense one; animals without records or markers have GEBVs."""
    animal = rng.choice(pedigree.ids[10:], 300)
    a = 1.2 * np.linalg.cholesky(pedigree.relationship()) @ rng.normal(size=60)
    data = pd.DataFrame({"x": rng.normal(size=300), "animal": animal})
    data["y"] = a[pedigree.positions(animal)] + data["x"] + rng.normal(size=300)
    grm = GRM.of(G.to_numpy(), list(G.index))
    cov = {"animal": vc.genetics.single_step(pedigree, grm)}
    model = vc.Model.from_formula("y ~ x + (1 | animal)", data, cov=cov)
    assert kernels.choose(model)[0] == "sparse"
    theta = np.array([0.5, 1.2])
    ours, theirs = (kernels.build(model, name).evaluate(theta, ("score", "average")) for name in ("sparse", "dense"))
    assert ours.loglik == pytest.approx(theirs.loglik, rel=1e-10)
    assert ours.score == pytest.approx(theirs.score, rel=1e-8, abs=1e-8)
    fit = vc.fit(model)
    table = fit.blup()
    assert (fit.status.ok, len(table)) == (True, 60)
    H = np.linalg.inv(model.components[0].relation.precision.toarray())
    assert table["reliability"].to_numpy() == pytest.approx(
        1.0 - table["se"].to_numpy() ** 2 / (fit.theta["animal:var"] * np.diag(H))
    )
    assert table.set_index("level").loc[G.index, "reliability"].min() > 0.1
    (u,) = kernels.build(model, "dense").blup(fit.theta.to_numpy(), fit.beta.to_numpy())
    assert table["estimate"].to_numpy() == pytest.approx(u, rel=1e-8, abs=1e-10)


def test_single_step__errors(pedigree, G):
    with pytest.raises(DataError, match=r"level `999` of `G` is not among the 60 labels"):
        vc.genetics.single_step(pedigree, G, ["999", *G.index[1:]])
    with pytest.raises(DataError, match="G has two rows for animal"):
        vc.genetics.single_step(pedigree, G, [G.index[1], *G.index[1:]])
    with pytest.raises(DataError, match="`labels` has 2 values but G is 14 × 14"):
        vc.genetics.single_step(pedigree, G.to_numpy(), ["1", "2"])
    with pytest.raises(DataError, match="G has no labels"):
        vc.genetics.single_step(pedigree, G.to_numpy())
    with pytest.raises(DataError, match="is not symmetric"):
        vc.genetics.single_step(pedigree, G * np.arange(14), G.index)
    with pytest.raises(DataError, match="says nothing of differences"):
        vc.genetics.single_step(pedigree, G * 0 + 1.0)
    with pytest.raises(ModelError, match=r"is not positive definite: its smallest eigenvalue is .* Raise `beta`"):
        vc.genetics.single_step(pedigree, -G, alpha=1.0, beta=0.0, tune="none")
    with pytest.raises(MethodError, match=r"unknown tune `mean`.*Did you mean `means`"):
        vc.genetics.single_step(pedigree, G, tune="mean")
    with pytest.raises(MethodError, match="`alpha` is 0"):
        vc.genetics.single_step(pedigree, G, alpha=0)
