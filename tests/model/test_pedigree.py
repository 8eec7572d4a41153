"""Pedigrees: read whatever their order, inbreeding and A⁻¹ held to the tabular method; errors that name the animal."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

import vcbench as vc
from vcbench import kernels
from vcbench.errors import DataError, ModelError
from vcbench.model.pedigree import Pedigree


def inbred(m, rng, share_known=0.8):
    """A random pedigree of m animals in order, parents among the ten before: much inbreeding, some parents unknown."""
    sire, dam = np.zeros(m, int), np.zeros(m, int)
    for i in range(2, m):
        sire[i], dam[i] = rng.integers(max(0, i - 10), i, 2) + 1
        if rng.random() > share_known:
            sire[i] = 0
        if rng.random() > share_known:
            dam[i] = 0
    return pd.DataFrame({"id": np.arange(1, m + 1), "sire": sire, "dam": dam})


@pytest.mark.parametrize("seed", range(5))
def test_precision__is_the_inverse_of_the_tabular_relationship(seed):
    P = Pedigree.of(inbred(60, np.random.default_rng(seed)))
    A = P.relationship()
    assert P.inbreeding().max() > 0.2
    assert P.inbreeding() == pytest.approx(np.diag(A) - 1.0, abs=1e-12)
    assert P.precision() @ A == pytest.approx(np.eye(60), abs=1e-10)


def test_relationship__of_sibs_and_of_their_child():
    """Full sibs share ½; their child is inbred by ¼ (Mrode 2014, example 2.1: A of six animals)."""
    frame = pd.DataFrame({"id": [3, 4, 5, 6], "sire": [1, 1, 4, 5], "dam": [2, None, 3, 2]})
    P = Pedigree.of(frame)
    want = [
        [1.0, 0.0, 0.5, 0.5, 0.5, 0.25],
        [0.0, 1.0, 0.5, 0.0, 0.25, 0.625],
        [0.5, 0.5, 1.0, 0.25, 0.625, 0.5625],
        [0.5, 0.0, 0.25, 1.0, 0.625, 0.3125],
        [0.5, 0.25, 0.625, 0.625, 1.125, 0.6875],
        [0.25, 0.625, 0.5625, 0.3125, 0.6875, 1.125],
    ]
    order = [P.ids.index(str(i)) for i in range(1, 7)]
    assert P.relationship()[np.ix_(order, order)] == pytest.approx(np.array(want))
    assert P.precision().toarray() @ P.relationship() == pytest.approx(np.eye(6))


def test_of__does_not_depend_on_the_order_of_rows_or_columns(rng):
    frame = inbred(40, rng)
    want = Pedigree.of(frame)
    got = Pedigree.of(frame.sample(frac=1, random_state=2)[["dam", "id", "sire"]])
    order = [got.ids.index(label) for label in want.ids]
    assert got.precision().toarray()[np.ix_(order, order)] == pytest.approx(want.precision().toarray())
    for parents in (got.sire, got.dam):
        assert (parents < np.arange(len(got))).all()  # before their children


@pytest.mark.parametrize("unknown", [0, "", None, np.nan, "NA", "0"])
def test_of__knows_unknown_parents_and_adds_parents_without_a_row(unknown):
    P = Pedigree.of({"animal": ["c", "d"], "father": ["a", unknown], "mother": ["b", "c"]})
    assert sorted(P.ids) == ["a", "b", "c", "d"]
    assert (P.sire[P.ids.index("d")], P.dam[P.ids.index("d")]) == (-1, P.ids.index("c"))


def test_of__columns_by_keyword():
    frame = {"kid": [1, 2, 3], "pa": [0, 0, 1], "ma": [0, 0, 2]}
    assert len(Pedigree.of(frame, id="kid", sire="pa", dam="ma")) == 3
    with pytest.raises(DataError, match=r"no column `sire` or `father` for the sire; it has kid, pa, ma\."):
        Pedigree.of(frame, id="kid")
    with pytest.raises(DataError, match="no column `papa`"):
        Pedigree.of(frame, id="kid", sire="papa", dam="ma")


def test_of__a_loop_is_named():
    frame = {"id": ["a", "b", "c", "d"], "sire": ["", "d", "b", "c"], "dam": ["", "a", "a", ""]}
    with pytest.raises(
        DataError, match=r"a loop of descent.*`b` is a child of `d` is a child of `c` is a child of `b`"
    ):
        Pedigree.of(frame)
    with pytest.raises(DataError, match="`a` is a child of `a`"):
        Pedigree.of({"id": ["a"], "sire": ["a"], "dam": [0]})


@pytest.mark.parametrize(
    ("ids", "message"),
    [([1, 2, 1], r"animal `1` has two rows \(0 and 2\)"), ([1, None, 3], "the animal in row 1 has no id")],
)
def test_of__rows_that_cannot_be(ids, message):
    with pytest.raises(DataError, match=message):
        Pedigree.of({"id": ids, "sire": [0, 0, 0], "dam": [0, 0, 0]})


class TestInModel:
    """`(1 | animal)` with a pedigree or a known matrix."""

    @pytest.fixture
    def data(self, rng):
        animal = np.repeat(np.arange(21, 41), 3)
        return pd.DataFrame({"y": rng.normal(size=60), "animal": animal, "x": rng.normal(size=60)})

    @pytest.fixture
    def frame(self):
        return inbred(40, np.random.default_rng(7))

    def test_formula__matches_levels_by_label(self, data, frame):
        """Numbers in the data, text in the pedigree; animals 1 … 20 have no records and are predicted."""
        cov = {"animal": vc.covariance.pedigree(frame.astype(str))}
        model = vc.Model.from_formula("y ~ x + (1 | animal)", data, cov=cov)
        assert model.theta_names == ("animal:var", "residual:var")
        (c,) = model.components
        assert (len(c.levels), c.n_levels, c.is_grouped) == (40, 40, False)
        assert [c.levels[j] for j in c.codes[:4]] == ["21", "21", "21", "22"]
        u = vc.fit(model, start={"animal:var": 0.5, "residual:var": 0.5}, max_iter=0).ranef()["animal"]
        assert list(u.index) == list(c.levels)
        # those without records have their expectation given the others
        A, known = c.relation.matrix, np.unique(c.codes)
        rest = np.setdiff1d(np.arange(40), known)
        given = A[np.ix_(rest, known)] @ np.linalg.solve(A[np.ix_(known, known)], u.to_numpy()[known, 0])
        assert u.to_numpy()[rest, 0] == pytest.approx(given, abs=1e-10)

    def test_formula__bars_say_the_structure_of_several_effects(self, data, frame):
        pedigree = vc.covariance.pedigree(frame)
        one, x, both = "animal:var((Intercept))", "animal:var(x)", "animal:cov((Intercept),x)"
        for term, cov, names in (
            ("(x | animal)", pedigree, (one, both, x)),
            ("(x || animal)", pedigree, (one, x)),
            ("(x | animal)", vc.covariance.pedigree(frame, vc.covariance.diag()), (one, x)),
            ("(0 + x | animal)", pedigree, (x,)),
        ):
            model = vc.Model.from_formula(f"y ~ x + {term}", data, cov={"animal": cov})
            assert model.theta_names == (*names, "residual:var")

    def test_formula__an_animal_that_the_pedigree_lacks_is_named(self, data, frame):
        data.loc[5, "animal"] = 77
        with pytest.raises(DataError, match="level `77` of `animal` is not among the 40 labels"):
            vc.Model.from_formula("y ~ x + (1 | animal)", data, cov={"animal": vc.covariance.pedigree(frame)})

    def test_known__is_the_pedigree_said_by_its_matrix(self, data, frame):
        P = Pedigree.of(frame)
        K = pd.DataFrame(P.relationship(), index=P.ids, columns=P.ids).sample(frac=1, random_state=1)
        models = [
            vc.Model.from_formula("y ~ x + (1 | animal)", data, cov={"animal": cov})
            for cov in (
                vc.covariance.pedigree(P),
                vc.covariance.known(K),
                vc.covariance.known(P.relationship(), labels=P.ids),
            )
        ]
        theta = np.array([0.7, 0.4])
        lls = [_ll(m, theta) for m in models]
        assert lls == pytest.approx([lls[0]] * 3, rel=1e-12)

    def test_component__precision_with_an_incidence_matrix(self, data, frame):
        P = Pedigree.of(frame)
        codes = np.array([P.ids.index(str(a)) for a in data["animal"]])
        Z = csr_matrix((np.ones(60), codes, np.arange(61)), shape=(60, 40))
        C = vc.Component
        ways = [
            C(Z, name="a", precision=P.precision()),
            C(Z.toarray(), name="a", precision=P.precision().toarray()),
            C(Z, name="a", K=P.relationship()),
            C(np.ones(60), name="a", group=data["animal"], precision=P.precision(), labels=P.ids),
        ]
        lls = [_ll(vc.Model(data["y"], None, [c]), np.array([0.7, 0.4])) for c in ways]
        assert lls == pytest.approx([lls[0]] * 4, rel=1e-11)

    def test_component__errors(self, data, frame):
        P = Pedigree.of(frame)
        C, one = vc.Component, np.ones(60)
        with pytest.raises(ModelError, match="has both K and precision"):
            C(name="a", K=np.eye(3), precision=np.eye(3))
        with pytest.raises(ModelError, match="not positive definite: its diagonal is -1"):
            C(name="a", precision=-np.eye(3))
        with pytest.raises(ModelError, match="is not symmetric"):
            C(name="a", precision=np.tri(3))
        with pytest.raises(ModelError, match="its matrix has no labels"):
            C(one, name="a", group=data["animal"], precision=P.precision())
        with pytest.raises(ModelError, match="`labels` has 2 values but the matrix has 40 rows"):
            C(one, name="a", group=data["animal"], precision=P.precision(), labels=["a", "b"])
        with pytest.raises(ModelError, match="Z has 2 columns but the relationship matrix is"):
            C(np.ones((60, 2)), name="a", precision=P.precision())


def _ll(model, theta):
    return kernels.build(model).evaluate(theta).loglik
