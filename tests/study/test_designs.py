"""Designs column by column: how many rows, in which combinations, how unequal."""

import numpy as np
import pandas as pd
import pytest
from references import table

from vcbench.errors import DataError
from vcbench.study.data_sets import find_data
from vcbench.study.designs import Column, build_design, check_design, sizes_of
from vcbench.study.generators import ByFormula
from vcbench.study.relatives import Related
from vcbench.study.seeds import DESIGN, generator


def _build(**columns: object) -> dict[str, np.ndarray]:
    design = {name: said if isinstance(said, Column) else Column(n=said) for name, said in columns.items()}
    check_design(design)
    return build_design(design, np.random.default_rng(1))


def test_design__crosses_nests_and_gives() -> None:
    made = _build(
        pupil=Column(n=3, within="class"), time=Column(count=2), school=4, arm=Column(levels=["A", "B"], of="school"),
        **{"class": Column(n=2, within="school")}, age=Column(draw="normal", of="pupil"),
    )  # fmt: skip
    assert {len(values) for values in made.values()} == {4 * 2 * 3 * 2}
    seen = {tuple(row) for row in np.column_stack([made[name] for name in ("school", "class", "pupil", "time")])}
    assert len(seen) == 48
    assert all(c.startswith(f"{s}.") and p.startswith(f"{c}.") for s, c, p, _ in seen)
    assert len(set(made["class"])) == 8
    assert dict(zip(made["school"], made["arm"], strict=True)) == {"1": "A", "2": "B", "3": "A", "4": "B"}
    assert len({(p, x) for p, x in zip(made["pupil"], made["age"], strict=True)}) == 24


def test_design__does_not_depend_on_the_order_it_is_said_in() -> None:
    said = {"b": Column(n=3), "a": Column(n=2), "x": Column(draw="normal"), "c": Column(n=2, within="b")}
    one = build_design(said, np.random.default_rng(1))
    two = build_design(dict(reversed(said.items())), np.random.default_rng(1))
    for name in said:
        assert one[name].tolist() == two[name].tolist()


def test_design__a_random_field_has_every_variety_as_often() -> None:
    made = _build(row=6, col=4, gen=Column(n=8, random=True))
    levels, counts = np.unique(made["gen"], return_counts=True)
    assert levels.tolist() == [f"{i}" for i in range(1, 9)]
    assert set(counts) == {3}
    assert made["gen"].tolist() != np.tile(levels, 3).tolist()


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        (1.0, [4] * 6),
        (0.4, [2, 3, 3, 4, 6, 6]),
        ("one_large", [3, 3, 2, 2, 2, 12]),
        ("half_single", [1, 1, 1, 7, 7, 7]),
    ],
)
def test_sizes__keep_the_total(balance: float | str, expected: list[int]) -> None:
    sizes = sizes_of(6, 4, balance, np.random.default_rng(1))
    assert sizes.sum() == 24
    assert sorted(sizes) == sorted(expected) if balance != 0.4 else sizes.tolist()[0] < sizes.tolist()[-1]


def test_sizes__random_are_poisson() -> None:
    sizes = sizes_of(20_000, 4, "random", np.random.default_rng(1))
    assert sizes.min() == 1
    assert sizes.mean() == pytest.approx(4, abs=5 * np.sqrt(3 / 20_000))
    assert sizes.var() == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": Column(n=2, within="b")}, "there is no other column"),
        ({"a": Column(n=2, within="bb"), "b": Column(n=2)}, "Did you mean `b`"),
        ({"a": Column(n=2, within="b"), "b": Column(n=2, within="a")}, "within or of each other"),
        ({"x": Column(draw="normal")}, "has no rows"),
    ],
)
def test_design__that_cannot_be_is_refused(columns: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_design(columns)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "exactly one of"),
        ({"n": 2, "count": 2}, "not n and count"),
        ({"n": 2, "balance": 0.5}, "`within` which factor"),
        ({"n": 2, "within": "a", "of": "b"}, "not have both `within`"),
        ({"values": [1.0], "within": "a"}, "`n`, `count` or `sizes`"),
        ({"n": 2, "sizes": [1, 2], "within": "a"}, "`sizes` alone"),
        ({"draw": "normal", "share": 0.2}, '`draw = "binary"`'),
    ],
)
def test_column__that_makes_no_sense_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Column(**settings)


def test_related__a_drawn_pedigree_has_the_relationships_of_its_parents() -> None:
    """Oracle: A by the tabular method; generations as asked, parents of the generation before, founders unrelated."""
    levels = np.array([f"{i:02d}" for i in range(1, 31)])
    known = Related(founders=10, generations=2).known(levels, np.random.default_rng(3))
    pedigree = known.pedigree
    order = np.array([pedigree.ids.index(level) for level in levels])
    A = pedigree.relationship()[np.ix_(order, order)]
    np.testing.assert_allclose(A[:10, :10], np.eye(10))
    back = {p: i for i, p in enumerate(order)}
    for i, (low, high) in [*((i, (0, 10)) for i in range(10, 20)), *((i, (10, 20)) for i in range(20, 30))]:
        sire, dam = (back[int(parent[order[i]])] for parent in (pedigree.sire, pedigree.dam))
        assert low <= sire < (low + high) // 2 <= dam < high
        assert A[i, sire] >= 0.5
        assert A[i, i] == pytest.approx(1 + A[sire, dam] / 2)


@pytest.mark.parametrize("related", [{"founders": 4, "generations": 2}, {"markers": 50}])
def test_related__effects_are_drawn_with_the_relationship(related: dict) -> None:
    """Var(y) of one record an animal: σ_a² A + σ_e² I, 3000 draws, each entry within 5 SEs."""
    made = ByFormula(
        design={"animal": 9, "record": 2}, formula="y ~ 1 + (1 | animal)", related={"animal": related},
        theta={"animal:var": 2.0, "residual:var": 0.5},
    )  # fmt: skip
    simulator = made.build(generator(1, (0, 0), DESIGN))
    component = simulator.model.components[0]
    A = component.relation.matrix[np.ix_(component.codes, component.codes)]
    V = 2.0 * A + 0.5 * np.eye(18)
    d = simulator.draw([generator(5, (1, 2), r) for r in range(3000)])
    products = d[:, None, :] * d[None, :, :]
    assert (np.abs(products.mean(axis=2) - V) < 5 * products.std(axis=2) / np.sqrt(3000)).all()
    assert np.abs(A - np.eye(18)).max() > 0.2


def test_related__needs_offspring() -> None:
    with pytest.raises(DataError, match="leave no offspring"):
        Related(founders=10).known(np.array(["1", "2"]), np.random.default_rng(1))


@table.with_data
def test_related__by_a_pedigree_on_file_is_the_animal_model_of_the_card() -> None:
    """Birth weight of gryphons: the REML estimates that the card holds as published are the truth of what is drawn."""
    made = ByFormula(
        data="gryphon", formula="bwt ~ C(sex) + (1 | animal)", truth="reml",
        related={"animal": {"pedigree": "gryphon_pedigree"}},
    ).build(generator(1, (0, 0), DESIGN))  # fmt: skip
    assert made.truth["animal:var"] == pytest.approx(3.060441, rel=1e-5)
    assert made.truth["residual:var"] == pytest.approx(2.938412, rel=1e-5)


@table.with_data
def test_related__by_a_matrix_on_file_is_that_matrix() -> None:
    made = ByFormula(
        data="wheat599_y", columns={"env": "`1`"}, formula="env ~ 1 + (1 | line)", truth="reml",
        related={"line": {"matrix": "wheat599_A"}},
    ).build(generator(1, (0, 0), DESIGN))  # fmt: skip
    component = made.model.components[0]
    A = pd.read_csv(find_data("wheat599_A"), index_col=0)
    A.index, A.columns = A.index.astype(str), A.columns.astype(str)
    expected = A.iloc[:, :].to_numpy()
    order = [list(A.index).index(label) for label in component.levels]
    np.testing.assert_allclose(component.relation.matrix, expected[np.ix_(order, order)], atol=1e-12)
