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


def test_of__an_animal_that_is_its_own_parent_is_named():
    with pytest.raises(DataError, match=r"animal `a` is its own sire \(row 0\)"):
        Pedigree.of({"id": ["a"], "sire": ["a"], "dam": [0]})
    with pytest.raises(DataError, match=r"animal `2` is its own dam \(row 1\)"):
        Pedigree.of({"id": [1, 2], "sire": [0, 1], "dam": [0, 2.0]})


@pytest.mark.parametrize(
    ("ids", "message"),
    [([1, 2, 1], r"animal `1` has two rows \(0 and 2\)"), ([1, None, 3], "the animal in row 1 has no id")],
)
def test_of__rows_that_cannot_be(ids, message):
    with pytest.raises(DataError, match=message):
        Pedigree.of({"id": ids, "sire": [0, 0, 0], "dam": [0, 0, 0]})


def test_of__sexes_and_roles():
    frame = {"id": list("abcde"), "sire": ["", "", "a", "a", "c"], "dam": ["", "", "b", "b", "b"], "sex": list("mffmf")}
    with pytest.raises(DataError, match=r"animal `c` has sex `f` but is a sire; sires are `m` \(1 such\)"):
        Pedigree.of(frame, sex="sex")
    assert len(Pedigree.of({**frame, "sex": ["m", "f", "", "m", "f"]}, sex="sex")) == 5
    with pytest.raises(DataError, match="`sex` has the values 1, 2, 3; it must have two"):
        Pedigree.of({**frame, "sex": [1, 2, 3, 1, 2]}, sex="sex")
    with pytest.raises(DataError, match=r"animal `b` has sex `m` but is a dam; dams are `f` \(1 such\)"):
        Pedigree.of({**frame, "sex": list("mmmmf")}, sex="sex")
    swapped = {"id": frame["id"], "sire": frame["dam"], "dam": frame["sire"], "sex": ["m", "f", "m", "m", "f"]}
    assert len(Pedigree.of(swapped, sex="sex")) == 5  # which value is which is not known
    with pytest.raises(DataError, match="no column `gender` for the sex"):
        Pedigree.of(frame, sex="gender")
    both = {"id": list("abcd"), "sire": ["", "", "a", "b"], "dam": ["", "", "b", "a"]}
    assert len(Pedigree.of(both)) == 4
    with pytest.raises(DataError, match=r"animal `a` is the sire of `c` and the dam of `d` \(2 such\)"):
        Pedigree.of(both, hermaphrodite=False)


class TestGroups:
    """Unknown parents that belong to genetic groups."""

    @pytest.fixture
    def frame(self):
        """An inbred pedigree whose unknown parents are of the groups G1, G2, some of none."""
        rng = np.random.default_rng(3)
        frame = inbred(40, rng).astype(str)
        for column in ("sire", "dam"):
            unknown = (frame[column] == "0") & (rng.random(40) < 0.8)
            frame.loc[unknown, column] = rng.choice(["G1", "G2"], int(unknown.sum()))
        return frame

    def test_contributions__are_the_shares_of_descent(self, frame):
        """Q = T Q_0, Q_0 half an indicator for each unknown parent, T the lower factor of A = T D Tᵀ."""
        P = Pedigree.of(frame, groups=["G1", "G2"])
        m = len(P)
        Ti, Q0 = np.eye(m), np.zeros((m, 2))
        for i, parents in enumerate(zip(P.sire, P.dam, strict=True)):
            for p in parents:
                if p >= 0:
                    Ti[i, p] -= 0.5
                elif p <= -2:
                    Q0[i, -2 - p] += 0.5
        assert P.contributions() == pytest.approx(np.linalg.solve(Ti, Q0))
        assert P.relationship() == pytest.approx(Pedigree.of(frame.replace({"G1": "0", "G2": "0"})).relationship())
        labels = pd.Series(["7", "3", "7"], index=[5, 6, 7])
        columns = P.group_columns(labels)
        assert list(columns.columns) == ["G1", "G2"]
        assert list(columns.index) == [5, 6, 7]
        assert columns.to_numpy() == pytest.approx(P.contributions()[P.positions(["7", "3", "7"])])

    @pytest.mark.parametrize("gamma", [0.3, 2.0])
    def test_precision__of_animals_and_random_groups_inverts_their_covariance(self, frame, gamma):
        P = Pedigree.of(frame, groups=["G1", "G2"])
        product = P.precision(gamma) @ P.relationship(gamma)
        assert product == pytest.approx(np.eye(len(P) + 2), abs=1e-10)
        assert P.inbreeding(gamma) == pytest.approx(np.diag(P.relationship(gamma)) - 1.0)

    def test_random_groups__without_limit_are_fixed_groups(self, frame, rng):
        """As γ grows, û and the fitted values approach those of Q as covariates: generalised least squares."""
        P = Pedigree.of(frame, groups=["G1", "G2"])
        animal = np.repeat(P.ids[10:], 2)
        data = pd.DataFrame({"y": rng.normal(size=len(animal)), "animal": animal})
        theta, gamma = np.array([0.6, 1.0]), 1e7
        cov = {"animal": vc.covariance.pedigree(P, group_variance=gamma)}
        random = kernels.build(vc.Model.from_formula("y ~ 1 + (1 | animal)", data, cov=cov), "sparse")
        columns = P.group_columns(data["animal"])
        joined = data.assign(g1=columns["G1"].to_numpy(), g2=columns["G2"].to_numpy())
        cov = {"animal": vc.covariance.pedigree(P)}
        fixed = kernels.build(vc.Model.from_formula("y ~ g1 + g2 + (1 | animal)", joined, cov=cov), "sparse")
        beta, (g0, *g) = random.evaluate(theta).beta, fixed.evaluate(theta).beta
        (u,), (a,) = random.blup(theta, beta), fixed.blup(theta, np.array([g0, *g]))
        assert random.model.components[0].levels[-2:] == ("G1", "G2")
        assert beta == pytest.approx(g0, abs=1e-5)
        assert u[-2:] == pytest.approx(np.array(g), abs=1e-5)
        assert u[:-2] == pytest.approx(a + P.contributions() @ g, abs=1e-5)

    def test_groups__that_cannot_be(self, frame):
        with pytest.raises(DataError, match="group `7` is the animal of row 6"):
            Pedigree.of(frame, groups=["G1", "G2", 7])
        with pytest.raises(DataError, match="group `G3` is nobody's parent"):
            Pedigree.of(frame, groups=["G1", "G2", "G3"])
        with pytest.raises(DataError, match="has no genetic groups"):
            Pedigree.of(frame).precision(1.0)
        P = Pedigree.of(frame, groups=["G1", "G2"])
        with pytest.raises(DataError, match="`group_variance` is 0"):
            vc.Component(np.ones(2), name="a", group=["7", "8"], cov=vc.covariance.pedigree(P, group_variance=0))


class TestMaternal:
    """`pedigree(P, maternal=…)`: direct and maternal effects of one pedigree."""

    def data(self, rng, known=True):
        frame = inbred(30, np.random.default_rng(5), 1.0)
        animal = np.arange(8, 31).repeat(rng.integers(1, 3, 23))
        mother = frame["dam"].to_numpy()[animal - 1].astype(float)
        if not known:
            mother[rng.random(len(mother)) < 0.3] = np.nan
        data = pd.DataFrame({"animal": animal, "mother": mother, "x": rng.normal(size=len(animal))})
        return data.assign(y=rng.normal(size=len(animal))), Pedigree.of(frame)

    def model(self, data, P, formula="y ~ x + (1 | animal)", **options):
        cov = {"animal": vc.covariance.pedigree(P, maternal="mother", **options)}
        return vc.Model.from_formula(formula, data, cov=cov)

    @pytest.mark.parametrize("kernel", ["dense", "sparse"])
    def test_likelihood__is_the_normal_density_written_out(self, rng, kernel):
        data, P = self.data(rng)
        model = self.model(data, P, "y ~ x + (1 | animal) + (1 | animal) + (1 | mother)")
        names = ("animal:var(direct)", "animal:cov(direct,maternal)", "animal:var(maternal)")
        assert model.theta_names == (*names, "animal.1:var((Intercept))", "mother:var((Intercept))", "residual:var")
        A, theta = P.relationship(), np.array([1.2, -0.3, 0.5, 0.4, 0.3, 0.8])
        i, j = P.positions(data["animal"]), P.positions(data["mother"])
        V = 1.2 * A[np.ix_(i, i)] - 0.3 * (A[np.ix_(i, j)] + A[np.ix_(j, i)]) + 0.5 * A[np.ix_(j, j)]
        V += 0.4 * np.equal.outer(i, i) + 0.3 * np.equal.outer(j, j) + 0.8 * np.eye(len(i))
        k = kernels.build(model, kernel)
        at = k.evaluate(theta, ("score",), "ml", beta=np.array([0.2, -0.1]))
        r = data["y"] - 0.2 + 0.1 * data["x"]
        want = -0.5 * (len(r) * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r))
        assert at.loglik == pytest.approx(want, rel=1e-11)

    def test_unknown_dams__are_parents_that_nobody_knows(self, rng):
        """Cov(y) with a phantom dam: ½cov(direct, maternal) with its own child, var(maternal) of its own."""
        data, P = self.data(rng, known=False)
        model = self.model(data, P)
        (c,) = model.components
        lost = np.flatnonzero(data["mother"].isna())
        assert len(c.levels) == 30 + data["animal"].iloc[lost].nunique()
        Z = [c.incidence(a).toarray() for a in (0, 1)]
        A = c.relation.matrix
        at = [c.levels.index(label) for label in P.ids]
        assert A[np.ix_(at, at)] == pytest.approx(P.relationship())
        for row in lost:
            dam = int(np.flatnonzero(Z[1][row])[0])
            assert c.levels[dam] == f"dam of {data['animal'].iloc[row]}"
            assert A[dam, dam] == 1.0
            # the pedigree knows the animal's dam: the one that the record does not know is nobody's relative
            assert np.abs(np.delete(A[dam], dam)).max() == 0.0
        lone = Pedigree.of({"id": [1, 2], "sire": [0, 1], "dam": [0, 0]})
        full, moved, phantom = lone.with_phantom_dams(np.array([1, 1]))
        assert full.ids == ("dam of 2", "1", "2")
        assert (moved.tolist(), phantom.tolist()) == ([1, 2], [0, 0])
        assert full.relationship()[2].tolist() == [0.5, 0.5, 1.0]

    def test_fit__breeding_values_and_predictions(self, rng):
        data, P = self.data(rng, known=False)
        fit = vc.fit(self.model(data, P), "ai", start="unit", max_iter=3)
        table = fit.blup()
        assert set(table["effect"]) == {"direct", "maternal"}
        assert (table["reliability"] <= 1).all()
        u = fit.ranef()["animal"]
        dam = [str(int(m)) if m == m else f"dam of {a}" for a, m in zip(data["animal"], data["mother"], strict=True)]
        own = u.loc[data["animal"].astype(str), "direct"].to_numpy() + u.loc[dam, "maternal"].to_numpy()
        assert fit.predict() == pytest.approx(fit.model.X @ fit.beta.to_numpy() + own)
        with pytest.raises(DataError, match=r"component `animal` .* Leave it out of `random`"):
            fit.predict(data.head(2))
        assert len(fit.predict(data.head(2), random=False)) == 2

    def test_maternal__errors(self, rng):
        data, P = self.data(rng)
        with pytest.raises(ModelError, match=r"maternal effects go with \(1 \| animal\)"):
            self.model(data, P, "y ~ x + (x | animal)")
        data.loc[3, "mother"] = 99
        with pytest.raises(DataError, match="level `99` of `mother` is not among the 30 labels"):
            self.model(data, P)
        with pytest.raises(DataError, match="column `mother` is not in the data"):
            self.model(data.drop(columns="mother"), P)


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
