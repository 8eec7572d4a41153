"""The methods section of a study: aims, data-generating mechanisms, estimands, methods, performance measures.

After Morris, White & Crowther (2019, Statistics in Medicine 38:2074). What the specification says in words comes first;
what it says in settings follows, so that the text is whole where it has no words.
"""

from typing import Any

from vcbench.study.by_formula import ByFormula
from vcbench.study.conditions import Condition
from vcbench.study.entries import MethodEntry
from vcbench.study.generators import FromCard
from vcbench.study.measures import MEASURES
from vcbench.study.spec import Spec


def ademp(spec: Spec) -> list[tuple[str, str]]:
    """A heading and a paragraph each, plain text."""
    return [
        ("Aims", " ".join([spec.table.question, *spec.table.aims])),
        ("Data-generating mechanisms", _mechanisms(spec)),
        ("Estimands", _estimands(spec)),
        ("Methods", _methods(spec)),
        ("Performance measures", _measures(spec)),
    ]


def methods_text(spec: Spec) -> str:
    """The paragraphs as one text, as a paper's methods section has it."""
    return "\n\n".join(f"{heading}. {text}" for heading, text in ademp(spec))


def _mechanisms(spec: Spec) -> str:
    entries: dict[tuple[str, bool], list[Condition]] = {}  # a card and a generator may have one name
    for condition in spec.conditions:
        entries.setdefault((condition.entry, condition.real), []).append(condition)
    said = [*spec.table.mechanisms, *(_entry(name, cells) for (name, _), cells in entries.items())]
    return f"{' '.join(said)} All methods see the same data; each replicate is drawn from a seed of its own."


def _entry(name: str, cells: list[Condition]) -> str:
    first = cells[0]
    about = f" {first.about}" if first.about else ""
    if first.real:
        return f"{name}: the real data of the card `{first.card}`.{about}"
    axes = [key for key in first.factors if key != "data" and len({str(c.factors.get(key)) for c in cells}) > 1]
    over = [
        f"{key} in {_listed(list(dict.fromkeys(c.factors[key] for c in cells if key in c.factors)))}" for key in axes
    ]
    varied = f"; {', '.join(over)}: {len(cells)} conditions" if over else ""
    return f"{name}: {_drawn(first, axes)}{varied}.{about}"


def _drawn(condition: Condition, axes: list[str]) -> str:
    """What an entry draws; the values of its axes are said beside it."""
    made, settings = condition.generator, condition.settings
    if isinstance(made, ByFormula):
        text = f"`{made.formula}`, residuals {made.residual or 'iid'}"
        text += f", on the rows of `{made.data}`" if made.data else ""
        text += "".join(f", {key} {_shown(settings[key])}" for key in ("design", "cov", "related") if settings.get(key))
        truth = [f"{key} = {_shown(value)}" for key, value in {**made.theta, **made.beta}.items() if key not in axes]
        text += f", at {', '.join(truth)}" if truth else ""
        text += f", else at the {made.truth.upper()} estimates of the data" if made.truth else ""
    elif isinstance(made, FromCard):
        text = f"the design of the card `{made.card}`, at " + (
            "stated values" if made.theta or made.beta else f"its {made.truth.upper()} estimates"
        )
    else:
        given = ", ".join(f"{key} = {_shown(value)}" for key, value in settings.items() if key not in axes)
        text = f"the generator `{condition.identity['generator']}`" + (f" with {given}" if given else "")
    for key in ("effects", "errors"):
        said = getattr(made, key, "normal")
        text += f", {key} {_shown(said)}" if said != "normal" and isinstance(made, ByFormula | FromCard) else ""
    lost = None if "missing" in axes else getattr(made, "missing", None)
    return text + (f", rows lost: {_shown(lost.model_dump(exclude_unset=True))}" if lost is not None else "")


def _estimands(spec: Spec) -> str:
    said = [f"{name}: {sentence}" for name, sentence in spec.table.estimands.items()]
    derived = (
        [f"Functions of the parameters are judged too: {'; '.join(spec.table.derive)}."] if spec.table.derive else []
    )
    if not said:
        said = ["Every parameter that the data are drawn with, fixed effects among them."]
    misfit = [m.label for m in spec.methods if m.model is not None]
    note = f"Of methods that fit another model than the data's ({', '.join(misfit)}), the parameters that both have."
    return " ".join([*said, *derived, *([note] if misfit else [])])


def _methods(spec: Spec) -> str:
    return f"{'; '.join(_method(method) for method in spec.methods)}."


def _method(method: MethodEntry) -> str:
    facts = [method.criterion.upper()] if method.criterion not in (None, "none") else []  # type: ignore[union-attr]
    facts += [f"{key} = {_shown(value)}" for key, value in method.options.items()]
    facts += [f"{key} {_shown(value)}" for key, value in method.asks.items()]
    name = method.label if method.label == method.name else f"{method.label} (`{method.name}`)"
    return name + (f": {', '.join(facts)}" if facts else "")


def _measures(spec: Spec) -> str:
    table = spec.table
    wanted = [name for name in MEASURES if not table.measures or name in table.measures]
    names = ", ".join(name.replace("_", " ") for name in wanted) if table.measures else "bias, empirical and model "\
        "standard error, RMSE, coverage, failures and cost"  # fmt: skip
    if table.replicates is not None and not table.open_ended:
        size = f"{table.replicates} replicates a condition"
    else:
        until = [f"the Monte Carlo standard error of {t.measure.replace('_', ' ')} is at most {t.mcse:g}"
                 for t in table.precision.values()]  # fmt: skip
        until += ["every acceptance check is decided"] if table.rule == "sequential" else []
        size = f"{table.first} replicates a condition and more until {' and '.join(until)}, {table.n_max} at most"
    return (
        f"{names[:1].upper()}{names[1:]}, each with its Monte Carlo standard error; {size}. Intervals have the level"
        f" {table.level:g}. A fit that failed is a row with its status: it is counted and never drawn again."
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(inside)}" for key, inside in value.items())
    if isinstance(value, list | tuple):
        return _listed(list(value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(values: list[Any]) -> str:
    return "[" + ", ".join(_shown(value) for value in values) + "]"
