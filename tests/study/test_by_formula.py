"""The generator `model` and models fitted in the place of the data's own: what is drawn, and what is judged."""

import numpy as np
import pytest

from vcbench.errors import DataError, SpecError
from vcbench.study.generators import ByFormula
from vcbench.study.seeds import DESIGN, generator
from vcbench.study.spec import read_spec
from vcbench.study.work import Task, run_task

TIMES = {"subject": 3, "time": {"count": 4}}
SUBJECT = {"subject:var((Intercept))": 1.5}
CASES = {
    "ar1": ("y ~ time", "ar1(time, group=subject)", {"residual:var": 2.0, "residual:rho": -0.4}, TIMES, {}),
    "intercepts, ar1, nugget": (
        "y ~ time + (1 | subject)", "ar1(time, group=subject) + nugget",
        SUBJECT | {"residual:var": 2.0, "residual:rho": 0.6, "residual:nugget": 0.5}, TIMES, {},
    ),
    "exponential": (
        "y ~ 1", "exponential(time, group=subject)", {"residual:var": 2.0, "residual:range": 1.7}, TIMES, {},
    ),
    "by": (
        "y ~ 1 + (1 | subject)", "by(arm)", SUBJECT | {"residual:var(A)": 0.5, "residual:var(B)": 3.0},
        TIMES | {"arm": {"levels": ["A", "B"], "of": "subject"}}, {},
    ),
    "diag": (
        "y ~ time + (time | subject)", None, SUBJECT | {"subject:var(time)": 0.5, "residual:var": 0.3}, TIMES,
        {"subject": "diag"},
    ),
    "field": (
        "y ~ 1", "ar1(row) * ar1(col)", {"residual:var": 1.0, "residual:rho_row": 0.5, "residual:rho_col": -0.3},
        {"row": 3, "col": 4}, {},
    ),
}  # fmt: skip


def _all_cards() -> list[str]:
    from vcbench.cards import find_cards, load_card

    names = [name for card in find_cards() for name in (card, *load_card(card).variants)]
    return [name for name in names if not load_card(name).simulated]


def _mean_variance(simulator: object) -> float:
    """tr V / n: the effects' part from Ω and the incidence, the residual's from R."""
    from vcbench.inference.equations import Residuals

    model, theta = simulator.model, simulator.theta
    total = Residuals.at(model, theta).matrix().diagonal().mean()
    for component, Omega in zip(model.components, model.Omegas(theta), strict=True):
        factors = component.factors()
        for a, b in np.ndindex(*Omega.shape):
            total += Omega[a, b] * (factors[a] * factors[b]).sum(axis=1).mean()
    return total


def _generator(case: str, **more: object) -> ByFormula:
    formula, residual, theta, design, cov = CASES[case]
    given = {"residual": residual, "cov": cov or None, "formula": formula, "design": design, "theta": theta, **more}
    return ByFormula(**{key: value for key, value in given.items() if value is not None})


def _covariance(case: str) -> np.ndarray:
    """V written out: three subjects at times 0 … 3, or three rows of four columns."""
    t = np.arange(4.0)
    lag = np.abs(t[:, None] - t)
    ones, eye = np.ones((4, 4)), np.eye(4)
    if case == "field":
        return np.kron((-0.3) ** lag, 0.5 ** lag[:3, :3])  # columns of the design by name: `row` is the faster
    if case == "by":
        arms = np.diag([0.5, 3.0, 0.5])
        return np.kron(np.eye(3), 1.5 * ones) + np.kron(arms, eye)
    of_a_subject = {
        "ar1": 2.0 * (-0.4) ** lag,
        "intercepts, ar1, nugget": 1.5 * ones + 2.0 * 0.6**lag + 0.5 * eye,
        "exponential": 2.0 * np.exp(-lag / 1.7),
        "diag": 1.5 * ones + 0.5 * np.outer(t, t) + 0.3 * eye,
    }
    return np.kron(np.eye(3), of_a_subject[case])


@pytest.mark.parametrize("law", ["normal", "t(8)"])
@pytest.mark.parametrize("case", CASES)
def test_draw__covariance_is_that_of_the_structure(case: str, law: str) -> None:
    """Oracle: V written out by hand; 4000 draws, each entry within 5 of its standard errors, whatever the law."""
    simulator = _generator(case, effects=law, errors=law).build(generator(1, (0, 0), DESIGN))
    R = 4000
    Y = simulator.draw([generator(5, (1, 2), r) for r in range(R)])
    d = Y - (simulator.model.X @ simulator.beta)[:, None]
    products = d[:, None, :] * d[None, :, :]
    assert (np.abs(products.mean(axis=2) - _covariance(case)) < 5 * products.std(axis=2) / np.sqrt(R)).all()


@pytest.mark.parametrize("case", ["intercepts, ar1, nugget", "diag"])
def test_draw__a_replicate_is_the_same_alone_and_in_any_block(case: str) -> None:
    simulator = _generator(case, effects="skew(1)", errors="contaminated(0.1, 3)").build(generator(1, (0, 0), DESIGN))
    block = simulator.draw([generator(5, (1, 2), r) for r in range(5)])
    alone = np.column_stack([simulator.draw([generator(5, (1, 2), r)])[:, 0] for r in range(5)])
    assert block.tobytes() == alone.tobytes()


STUDY = """title = "T"
question = "Q?"
seed = 1
replicates = 4
derive = ["icc = subject / total"]
methods = [
    "ai",
    { name = "ai", label = "iid", model = { residual = "iid" } },
    { name = "ai", label = "un", model = { residual = "un(time, group=subject)", formula = "~ time" } },
]

[[data]]
generator = "model"
design = { subject = [12, 20], time = { count = 4 } }
formula = "y ~ time + (1 | subject)"
residual = "ar1(time, group=subject)"
theta = { "subject:var((Intercept))" = 1.0, "residual:var" = 2.0, "residual:rho" = [0.0, 0.6] }
"""


def test_check__the_columns_of_a_design_stay_in_their_order() -> None:
    """`arm` is given to `subject`, which must stand before it, though its name comes first."""
    design = {"subject": {"n": 4}, "time": {"count": 2}, "arm": {"levels": ["A", "B"], "of": "subject"}}
    theta = {"subject:var((Intercept))": 1.0, "residual:var": 1.0}
    made = ByFormula(design=design, formula="y ~ arm + (1 | subject)", theta=theta)
    made.check()
    assert list(made.sketch()[0].frame) == ["subject", "time", "arm", "y"]


def test_study__lists_within_tables_are_axes() -> None:
    spec = read_spec(STUDY, "s.toml")
    assert [c.factors for c in spec.conditions] == [
        {"data": "model", "subject": n, "residual:rho": rho} for n in (12, 20) for rho in (0.0, 0.6)
    ]
    assert spec.conditions[3].generator.theta["residual:rho"] == 0.6
    assert spec.conditions[3].settings["design"] == {"subject": {"n": 20}, "time": {"count": 4}}


def test_study__a_method_fits_another_model_to_the_same_data() -> None:
    """The iid rows are those of a fit of the iid model to the responses that the AR(1) model draws."""
    import vcbench as vc

    spec = read_spec(STUDY, "s.toml")
    rows = {part.method: part.rows.to_pandas() for part in run_task(spec, "s", Task(1, (0, 1, 2), 0, 4)).parts}
    condition = spec.conditions[1]
    simulator = condition.generator.build(generator(1, condition.key, DESIGN))
    frame = simulator.said.frame.assign(y=simulator.draw([generator(1, condition.key, 2)])[:, 0])
    direct = vc.fit(vc.Model.from_formula("y ~ time + (1 | subject)", frame), "ai")
    mine = rows[1][rows[1]["replicate"] == 2].set_index("parameter")
    for name, value in {**direct.theta, **direct.beta}.items():
        assert mine.loc[name, "estimate"] == pytest.approx(value, rel=1e-4, abs=1e-6)
    truth = rows[1].groupby("parameter")["truth"].first()
    assert truth[["residual:var", "subject:var((Intercept))", "icc"]].to_list() == [2.0, 1.0, 1 / 3]
    assert truth[["(Intercept)", "time"]].eq(0.0).all()
    assert len(truth) == 5
    free = rows[2].groupby("parameter")["truth"].first()
    assert free[["(Intercept)", "time"]].eq(0.0).all()
    assert free.drop(["(Intercept)", "time"]).isna().all()
    assert "icc" not in free
    assert "residual:rho" in set(rows[0]["parameter"])


def test_study__a_model_in_place_of_a_cards_own() -> None:
    text = STUDY.partition("[[data]]")[0].replace("derive", "#").replace("time", "Days").replace("subject", "Subject")
    text += '[[data]]\ncard = "random_slope"\nreal = true\n[[data]]\ncard = "random_slope"\nname = "drawn"\n'
    spec = read_spec(text, "s.toml")
    real, drawn = (run_task(spec, "s", Task(c, (2,), 0, 1)).parts[0].rows.to_pandas() for c in (0, 1))
    assert set(real["status"]) == set(drawn["status"]) == {"CONVERGED"}
    assert len(real) == len(drawn) == 55 + 2


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (('residual = "iid"', 'residual = "idd"'), 8, "unknown structure `idd`"),
        (
            ('residual = "iid"', 'residuals = "iid"'),
            8,
            "unknown key `residuals` in `methods[1].model`",
        ),
        (('"un(time, ', '"un(tim, '), 9, "column `tim` is not in the data. Did you mean `time`?"),
        (('formula = "~ time"', 'formula = "z ~ time"'), 9, "the response `z`; that of the data is `y`"),
        (('"ar1(time, ', '"ar2(time, '), 16, "unknown structure `ar2`"),
        (("| subject)", "| subjects)"), 15, "column `subjects` is not in the data"),
        (('"y ~ time', '"~ time'), 15, "a name left of `~` for the response"),
        (("[0.0, 0.6]", "[0.0, 1.6]"), 17, "1.6"),
        (('"residual:rho" =', '"residual:roh" ='), 17, "`theta` names `residual:roh`"),
        (('"residual:var" = 2.0, ', ""), 17, "`theta` lacks `residual:var`"),
        (("{ count = 4 }", "{ count = 4, of = 'subjec' }"), 14, "`time` is `of` `subjec`"),
        (("{ count = 4 }", "{ cuont = 4 }"), 14, "unknown key `cuont` in `data[0].design.time`. Did you mean `count`?"),
        (("[12, 20]", "[12, 0]"), 14, "must be at least 1, not 0"),
        (("[12, 20]", "[]"), 14, "empty list"),
    ],
)
def test_problems__are_said_at_their_place(change: tuple[str, str], line: int, said: str) -> None:
    with pytest.raises(SpecError) as raised:
        read_spec(STUDY.replace(*change), "s.toml")
    found = list(raised.value.problems)
    assert any(at == line and said in text for at, _, text in found), found


def test_problems__a_generator_without_a_formula_cannot_be_fitted_otherwise() -> None:
    text = STUDY.partition("[[data]]")[0].replace("derive", "#") + '[[data]]\ngenerator = "variance_components"\n'
    with pytest.raises(SpecError, match="not said by a formula"):
        read_spec(text, "s.toml")


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        ('generator = "one_way"\nn_groups = 8\nbalance = 0.5\n', '{ formula = "~ 1", residual = "cs(group=group)" }'),
        ('generator = "one_way"\nn_groups = 8\nn_within = 1\n', '{ formula = "~ w1 + (1 | group)" }'),
        ('generator = "random_slope"\nn_groups = 8\n', '{ formula = "~ time + (1 | group) + (0 + time | group)" }'),
        ('generator = "one_way"\nn_groups = 8\n', '{ residual = "ar1(row, group=group)" }'),
    ],
)
def test_study__grouped_rows_can_be_fitted_otherwise(entry: str, model: str) -> None:
    """Compound symmetry is the one-way model of a positive group variance: the same maximum of the likelihood."""
    head = 'title = "T"\nquestion = "Q?"\nseed = 1\nreplicates = 6\n'
    text = f'{head}methods = ["ai", {{ name = "ai", label = "2", model = {model} }}]\n'
    spec = read_spec(f"{text}[[data]]\n{entry}", "s.toml")
    own, other = (part.rows.to_pandas() for part in run_task(spec, "s", Task(0, (0, 1), 0, 6)).parts)
    assert set(other["status"]) <= {"CONVERGED", "AT_BOUNDARY"}
    inside = own[own["status"] == "CONVERGED"].groupby("replicate")["loglik"].first()
    assert len(inside) > 2
    found = other.groupby("replicate")["loglik"].first()[inside.index]
    if "cs(" in model or "w1" in model:
        np.testing.assert_allclose(found, inside, atol=1e-6)
    else:
        assert ((found - inside) * (1 if "ar1" in model else -1) > -1e-6).all()  # a larger model, or a smaller


def test_from_card__draws_the_structure_of_the_card() -> None:
    """A card with AR(1) residuals: the lag-1 correlation of what is drawn is the truth's, within 5 SEs."""
    from vcbench.study.generators import FromCard

    simulator = FromCard(card="ar1").build(generator(1, (0, 0), DESIGN))
    Y = simulator.draw([generator(5, (1, 2), r) for r in range(400)])
    e = (Y - (simulator.model.X @ simulator.beta)[:, None]).reshape(18, 10, 400)
    r = np.array([np.corrcoef(e[:, :-1, k].ravel(), e[:, 1:, k].ravel())[0, 1] for k in range(400)])
    products = (e[:, :-1] * e[:, 1:]).mean(axis=(0, 1))
    expected = simulator.truth["residual:var"] * simulator.truth["residual:rho"]
    assert products.mean() == pytest.approx(expected, abs=5 * products.std() / 20)
    assert r.mean() > 0.7


def test_laws__name_components_that_there_are() -> None:
    with pytest.raises(DataError, match="`effects` names `subjects`; the model has subject"):
        _generator("diag", effects={"subjects": "t(5)"}).build(generator(1, (0, 0), DESIGN))


def test_data__a_real_design_at_the_fit_of_its_own_response() -> None:
    """sleepstudy: θ and β are those of its REML fit but for the one that is said; the design is the data's."""
    import vcbench as vc
    from vcbench.cards import load_card

    made = ByFormula(
        data="sleepstudy", rows="Days > 1", columns={"day": "Days - 2"}, formula="Reaction ~ day + (1 | Subject)",
        truth="reml", theta={"residual:var": 900.0},
    ).build(generator(1, (0, 0), DESIGN))  # fmt: skip
    frame = load_card("random_slope").data().query("Days > 1").assign(day=lambda f: f["Days"] - 2)
    fit = vc.fit(vc.Model.from_formula("Reaction ~ day + (1 | Subject)", frame))
    expected = {**fit.theta, **fit.beta, "residual:var": 900.0}
    assert made.truth == pytest.approx(expected, rel=1e-10)
    np.testing.assert_array_equal(made.model.X[:, 1], frame["day"])


def test_data__that_are_absent_are_no_problem_of_the_specification() -> None:
    text = 'title = "T"\nquestion = "Q?"\nseed = 1\nreplicates = 4\nmethods = ["ai"]\n[[data]]\ngenerator = "model"\n'
    spec = read_spec(text + 'data = "no_such_data"\nformula = "y ~ 1 + (1 | g)"\ntruth = "reml"\n', "s.toml")
    rows = run_task(spec, "s", Task(0, (0,), 0, 1)).parts[0].rows.to_pandas()
    assert set(rows["status"]) == {"SKIPPED"}
    assert "no data set `no_such_data`" in rows["message"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", _all_cards())
def test_from_card__draws_every_card(name: str) -> None:
    """At its own fit: 300 responses have the mean Xβ and the variances of the model, within 5.5 of their SEs."""
    from vcbench.errors import CardError
    from vcbench.study.generators import FromCard

    try:
        simulator = FromCard(card=name).build(generator(1, (0, 0), DESIGN))
    except CardError as error:
        pytest.skip(str(error))
    Y = simulator.draw([generator(5, (1, 2), r) for r in range(300)])
    d = Y - simulator.fixed[:, None]
    sd = d.std(axis=1)
    assert (np.abs(d.mean(axis=1)) < 5.5 * sd / np.sqrt(300)).all()
    total = d.var(axis=1).mean()
    assert total == pytest.approx(_mean_variance(simulator), rel=0.1)
